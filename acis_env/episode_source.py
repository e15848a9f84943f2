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
from acis_env.networks import CONTEXT_CHANNELS
from acis_env.precision import Precision, autocast
from acis_env.sampling import SceneBatch, load_batch
from acis_env.weights import Pretrained

ContextName = Literal["predicted", "oracle"]

MAX_BATCH = 64
"""Contexts that are predicted at a time on other devices than the CPU."""
KEPT_BYTES = 2**29
"""Memory for contexts of scenes without augmentation, which are the same whenever a scene is shown."""


class EpisodeSource:
    """Begins episodes, and can show the context of one that began earlier again."""

    def __init__(
        self,
        scenes: PackedScenes,
        pretrained: Pretrained,
        context: ContextName,
        augmentation: Augmentation | None,
        precision: Precision = "float32",
        refine: bool = False,
    ) -> None:
        """Take the data set and the frozen networks, both on the same device.

        Args:
            scenes: `S` scenes.
            pretrained: context network and decoder.
            context: "predicted" from the image, or the "oracle" made from the label map.
            augmentation: of every scene that begins an episode; None for none.
            precision: of both networks.
            refine: whether masks are refined (see `RefiningDecoder`).
        """
        self.scenes, self.pretrained = scenes, pretrained
        self.context_name = context
        self.augmentation = augmentation
        self.precision = precision
        self.decoder = pretrained.autoencoder.frozen_decoder(refine)
        height, width = scenes.size
        self._capacity = KEPT_BYTES // (4 * CONTEXT_CHANNELS * height * width) if augmentation is None else 0
        self._kept: dict[int, Tensor] = {}  # contexts [12, H, W] by scene

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
        context, label_map, given = self._context(batch.indices, batch.images, batch.label_maps), batch.label_maps, None
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
        with autocast(device, self.precision):
            state = dynamics.reset(context, label_map, self.decoder, capacity, max_steps, given, noise, step_limit)
        return state, batch

    def context_again(self, indices: Tensor, augmentation: Tensor) -> Tensor:
        """The context `[B, 12, H, W]` in [0, 1] of episodes that began with these draws.

        Args:
            indices: `[B]` int64, `infos["scene_index"]`.
            augmentation: `[B, P]`, `infos["augmentation"]`.
        """
        images, label_maps = self.scenes.gather(indices)
        if self.augmentation is not None:
            images, label_maps = augment(images, label_maps, augmentation, max_instances=self.scenes.max_instances)
        return self._context(indices, images, label_maps)

    def _context(self, indices: Tensor, images: Tensor, label_maps: Tensor) -> Tensor:
        """As `context`, of the scenes `indices` `[B]`; predictions are made once, as long as there is memory."""
        if self.augmentation is not None or self.context_name == "oracle":
            return self.context(images, label_maps)
        wanted = indices.tolist()
        missing = list({scene: place for place, scene in enumerate(wanted) if scene not in self._kept}.values())
        found: dict[int, Tensor] = {}
        # A CPU predicts one at a time: in batches, convolutions would round by what else is missing.
        size = 1 if images.device.type == "cpu" else MAX_BATCH
        for first in range(0, len(missing), size):
            part = missing[first : first + size]
            chosen = torch.tensor(part, device=images.device)
            contexts = self.context(images[chosen], label_maps[chosen])
            found |= {wanted[place]: context for place, context in zip(part, contexts, strict=True)}
        self._kept |= dict(list(found.items())[: max(self._capacity - len(self._kept), 0)])
        return torch.stack([found[scene] if scene in found else self._kept[scene] for scene in wanted])

    @torch.no_grad()
    def context(self, images: Tensor, label_maps: Tensor) -> Tensor:
        """Context `[B, 12, H, W]` in [0, 1] of images `[B, 3, H, W]` uint8; only the oracle looks at label maps."""
        if self.context_name == "oracle":
            return oracle_context(images, label_maps, self.scenes.max_instances)
        with autocast(images.device, self.precision):
            return self.pretrained.context_network.context(images)


def _give_away(label_map: Tensor, rules: Rules, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The curriculum: label maps of the instances that remain, and `M_1`, by `drawn` `[B, N + 1]` in [0, 1)."""
    length = rules.sequence_length or 0
    surplus = (label_map.flatten(1).amax(1) - length).clamp_min(0)
    remaining = torch.full_like(surplus, length)
    if rules.prefill == "random":
        remaining += (drawn[:, 0] * (surplus + 1)).long()
    return dynamics.prefill(label_map, remaining, drawn[:, 1:])
