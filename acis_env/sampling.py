"""Batches of augmented scenes, the same for pre-training, environments and agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acis_env.augment import Augmentation, augment
from acis_env.datasets.packed import PackedScenes


@dataclass(frozen=True)
class SceneBatch:
    """Scenes ready for the networks."""

    images: Tensor  # [B, 3, H, W] uint8
    label_maps: Tensor  # [B, H, W] int64, instances 1..N
    indices: Tensor  # [B] int64 on the host, positions in the data set


def load_batch(
    scenes: PackedScenes,
    indices: Sequence[int],
    augmentation: Augmentation | None = None,
    generators: Sequence[np.random.Generator] = (),
) -> SceneBatch:
    """Gather the scenes `indices` and augment each with numbers from its own generator.

    Args:
        scenes: the data set on its device.
        indices: `B` positions in it.
        augmentation: None leaves the scenes as they are.
        generators: `B` host generators, used only with an augmentation; the same one may stand several times.
    """
    images, label_maps = scenes.gather(indices)
    if augmentation is not None:
        parameters = torch.from_numpy(np.stack([augmentation.draw(g) for g in generators]))
        images, label_maps = augment(images, label_maps, parameters, max_instances=scenes.max_instances)
    return SceneBatch(images, label_maps, torch.as_tensor(indices, dtype=torch.int64))


def iteration_generator(seed: int, iteration: int, stream: int = 0) -> np.random.Generator:
    """The generator of one training iteration.

    It depends on nothing but its arguments, so a resumed run draws what an uninterrupted one would have.
    """
    return np.random.default_rng([seed, iteration, stream])


def draw_batch(
    scenes: PackedScenes, batch_size: int, augmentation: Augmentation | None, generator: np.random.Generator
) -> SceneBatch:
    """Draw `batch_size` scenes, without replacement as far as the data set allows, and augment them."""
    replace = batch_size > len(scenes)
    indices = generator.choice(len(scenes), batch_size, replace=replace).tolist()
    return load_batch(scenes, indices, augmentation, [generator] * batch_size)
