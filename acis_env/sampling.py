"""Batches of augmented scenes, the same for pre-training, environments and agents."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.utils import seeding
from torch import Tensor

from acis_env.augment import Augmentation, augment
from acis_env.datasets.packed import PackedScenes


@dataclass(frozen=True)
class SceneBatch:
    """Scenes ready for the networks."""

    images: Tensor  # [B, 3, H, W] uint8
    label_maps: Tensor  # [B, H, W] int64, instances 1..N, -1 = ignored
    indices: Tensor  # [B] int64 on the host, positions in the data set
    augmentation: Tensor  # [B, P] on the host, parameters of `augment`


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
    if augmentation is None:
        parameters = torch.from_numpy(Augmentation.identity()).expand(len(images), -1)
    else:
        parameters = torch.from_numpy(np.stack([augmentation.draw(g) for g in generators]))
        images, label_maps = augment(images, label_maps, parameters, max_instances=scenes.max_instances)
    return SceneBatch(images, label_maps, torch.as_tensor(indices, dtype=torch.int64), parameters)


SamplerName = Literal["random", "shuffle", "sequential"]


class SceneSampler:
    """Choice of the scene that an environment shows next, and owner of the environment's random numbers.

    random: any scene, each time anew.
    shuffle: all scenes in random order, then all again in another.
    sequential: scene `seed mod S` first, then the following ones, and from the last to the first.

    Attributes:
        generator: draws everything random in the episodes of this environment, on the host.
    """

    def __init__(self, name: SamplerName, num_scenes: int) -> None:
        """Begin with a seed from the operating system."""
        self.name, self.num_scenes = name, num_scenes
        self.seed(None)

    def seed(self, seed: int | None) -> None:
        """Begin anew; None takes a seed from the operating system."""
        self.generator, _ = seeding.np_random(seed)
        self._queue: list[int] = []
        self._following = 0 if seed is None else seed % self.num_scenes

    def next(self) -> int:
        """Choose the next scene."""
        if self.name == "sequential":
            index = self._following
            self._following = (index + 1) % self.num_scenes
            return index
        if not self._queue:
            self._queue = self._draw()
        return self._queue.pop()

    def peek(self) -> int:
        """The scene that `next` chooses if nothing is drawn before; draws nothing itself."""
        if self.name == "sequential":
            return self._following
        if self._queue:
            return self._queue[-1]
        state = self.generator.bit_generator.state
        index = self._draw()[-1]
        self.generator.bit_generator.state = state
        return index

    def _draw(self) -> list[int]:
        """Scenes that are shown from the last to the first."""
        if self.name == "random":
            return [int(self.generator.integers(self.num_scenes))]
        order: list[int] = self.generator.permutation(self.num_scenes).tolist()
        return order

    @property
    def kind(self) -> tuple[int, str]:
        """Number of scenes and their order: states of one sampler are for another only where these are equal."""
        return self.num_scenes, self.name

    def get_state(self) -> dict[str, Any]:
        """Everything that decides what comes next."""
        state = {"generator": self.generator.bit_generator.state, "queue": self._queue, "following": self._following}
        return copy.deepcopy(state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on as the sampler did that gave `state`."""
        state = copy.deepcopy(state)
        self.generator.bit_generator.state = state["generator"]
        self._queue, self._following = state["queue"], state["following"]


def iteration_generator(seed: int, iteration: int, stream: int = 0) -> np.random.Generator:
    """The generator of one training iteration.

    It depends on nothing but its arguments, so a resumed run draws what an uninterrupted one would have.
    """
    return np.random.default_rng([seed, iteration, stream])


def draw_batch(
    scenes: PackedScenes,
    batch_size: int,
    augmentation: Augmentation | None,
    generator: np.random.Generator,
    usable: Sequence[int] | None = None,
) -> SceneBatch:
    """Draw `batch_size` of the scenes `usable`, by default all, and augment them.

    Without replacement, as far as there are so many.
    """
    indices = draw_indices(len(scenes), batch_size, generator, usable)
    return load_batch(scenes, indices, augmentation, [generator] * batch_size)


def draw_indices(
    num_scenes: int, batch_size: int, generator: np.random.Generator, usable: Sequence[int] | None = None
) -> list[int]:
    """The scenes of `draw_batch`, which are what it draws first."""
    choices = range(num_scenes) if usable is None else usable
    drawn = generator.choice(len(choices), batch_size, replace=batch_size > len(choices))
    return [choices[place] for place in drawn.tolist()]
