"""Scenes with their context: where episodes come from, on the device and in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from acis_env import dynamics
from acis_env.augment import Augmentation, augment
from acis_env.context import oracle_context
from acis_env.datasets.packed import PackedScenes
from acis_env.dynamics import EnvState, Rules
from acis_env.sampling import SceneBatch, load_batch
from acis_env.weights import Pretrained

ContextName = Literal["predicted", "oracle"]


class SceneSource:
    """Begins episodes, and can show the context of one that began earlier again."""

    def __init__(
        self, scenes: PackedScenes, pretrained: Pretrained, context: ContextName, augmentation: Augmentation | None
    ) -> None:
        """Take the data set and the frozen networks, both on the same device.

        Args:
            scenes: `S` scenes.
            pretrained: context network and decoder.
            context: "predicted" from the image, or the "oracle" made from the label map.
            augmentation: of every scene that begins an episode; None for none.
        """
        self.scenes, self.pretrained = scenes, pretrained
        self.context_name = context
        self.augmentation = augmentation

    def begin(
        self,
        indices: Sequence[int],
        generators: Sequence[np.random.Generator],
        rules: Rules,
        max_steps: int,
        step_limit: int | None = None,
    ) -> tuple[EnvState, SceneBatch]:
        """Begin `B` episodes.

        Args:
            indices: `B` positions in the data set.
            generators: `B` host generators; each draws all that is random in its episode, and no other.
            rules: the environment's.
            max_steps: capacity `T` for predictions.
            step_limit: steps after which an episode is truncated; None is none.
        """
        batch = load_batch(self.scenes, indices, self.augmentation, generators)
        context, label_map, given = self.context(batch.images, batch.label_maps), batch.label_maps, None
        capacity, device = self.scenes.max_instances, self.scenes.device
        if rules.sequence_length is not None:
            drawn = np.stack([g.random(capacity + 1, dtype=np.float32) for g in generators])
            label_map, given = _give_away(label_map, rules, torch.from_numpy(drawn).to(device))
        if rules.prefill == "random" and rules.sequence_length is not None:
            step_limit = min(step_limit or rules.sequence_length, rules.sequence_length)
        noise = None
        if rules.matching_noise > 0:
            drawn = np.stack([g.standard_normal((max_steps, capacity), dtype=np.float32) for g in generators])
            noise = torch.from_numpy(drawn).to(device) * rules.matching_noise
        decoder = self.pretrained.autoencoder.decoder
        return dynamics.reset(context, label_map, decoder, capacity, max_steps, given, noise, step_limit), batch

    def context_again(self, indices: Tensor, augmentation: Tensor) -> Tensor:
        """The context `[B, 12, H, W]` in [0, 1] of episodes that began with these draws.

        Args:
            indices: `[B]` int64, `infos["scene_index"]`.
            augmentation: `[B, P]`, `infos["augmentation"]`.
        """
        images, label_maps = self.scenes.gather(indices)
        if self.augmentation is not None:
            images, label_maps = augment(images, label_maps, augmentation, max_instances=self.scenes.max_instances)
        return self.context(images, label_maps)

    @torch.no_grad()
    def context(self, images: Tensor, label_maps: Tensor) -> Tensor:
        """Context `[B, 12, H, W]` in [0, 1] of images `[B, 3, H, W]` uint8; only the oracle looks at label maps."""
        if self.context_name == "oracle":
            return oracle_context(images, label_maps, self.scenes.max_instances)
        return self.pretrained.context_network.context(images)


def _give_away(label_map: Tensor, rules: Rules, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The curriculum: label maps of the instances that remain, and `M_1`, by `drawn` `[B, N + 1]` in [0, 1)."""
    length = rules.sequence_length or 0
    surplus = (label_map.flatten(1).amax(1) - length).clamp_min(0)
    remaining = torch.full_like(surplus, length)
    if rules.prefill == "random":
        remaining += (drawn[:, 0] * (surplus + 1)).long()
    return dynamics.prefill(label_map, remaining, drawn[:, 1:])
