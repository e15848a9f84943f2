"""The one place where episodes begin: scenes with their context, on the device and in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from acis_env import dynamics
from acis_env.augment import Augmentation, augment
from acis_env.context import ContextNetwork, ContextPredictor, oracle_context
from acis_env.context_cache import ContextCache
from acis_env.datasets.packed import PackedScenes
from acis_env.decoder import Decoder
from acis_env.dynamics import DEFAULT_RULES, EnvState, Rules
from acis_env.networks import CONTEXT_CHANNELS
from acis_env.ops.labels import count_instances
from acis_env.own_parts import check_values
from acis_env.precision import Precision, autocast, to_float32
from acis_env.sampling import SceneBatch, load_batch
from acis_env.surroundings import unaffected

MAX_BATCH = 64
"""Contexts that are predicted at a time on other devices than the CPU."""


class EpisodeSource:
    """Begins episodes, and can show the context of one that began earlier again.

    Attributes:
        context: predicts the context from the image, or is "oracle", which makes it from the label map.
        decoder: turns actions into masks.
        scenes: of `begin`.
        augmentation: of every scene that begins an episode.
        precision: of the context and of the decoder.
        device: where episodes begin.
    """

    def __init__(
        self,
        context: ContextPredictor | Literal["oracle"],
        decoder: Decoder,
        scenes: PackedScenes | None = None,
        augmentation: Augmentation | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Take the data set and what is frozen, all on the same device.

        Args:
            context: a predictor, or "oracle".
            decoder: for the same size of picture.
            scenes: `S` scenes of that size; None for episodes that begin with images of one's own only.
            augmentation: None for none.
            precision: "float32" or "bfloat16", of the context and of the decoder.

        Raises:
            ValueError: the sizes differ, or `context` is neither.
        """
        if isinstance(context, str):
            if context != "oracle":
                raise ValueError(f'context must be "oracle" or an object with the method context, got {context!r}')
        elif tuple(context.size) != tuple(decoder.size):
            raise ValueError(f"context and decoder must be of one size, got {context.size} and {decoder.size}")
        if scenes is not None and scenes.size != tuple(decoder.size):
            raise ValueError(f"scenes and decoder must be of one size, got {scenes.size} and {decoder.size}")
        self.context, self.decoder, self.scenes = context, decoder, scenes
        self.augmentation, self.precision = augmentation, precision
        self.device = _device(decoder, context) if scenes is None else scenes.device
        self._kept = ContextCache()  # of scenes without augmentation

    @unaffected
    def begin(
        self,
        indices: Sequence[int],
        generators: Sequence[np.random.Generator] = (),
        rules: Rules = DEFAULT_RULES,
        max_steps: int | None = None,
        step_limit: int | None = None,
    ) -> tuple[EnvState, SceneBatch]:
        """Begin an episode in each of `B` scenes.

        Args:
            indices: `B` positions in the data set.
            generators: `B` host generators; each draws all that is random in its episode, and no other. None are
                needed where nothing is: without augmentation, curriculum and matching noise.
            rules: the environment's.
            max_steps: capacity `T` for predictions; None for the largest number of instances of a scene.
            step_limit: steps after which an episode is truncated; None is none.

        Raises:
            ValueError: there are no scenes, or something is random and there are not `B` generators.
        """
        scenes = self.own_scenes
        is_random = self.augmentation is not None or rules.sequence_length is not None or rules.matching_noise > 0
        if is_random and len(generators) != len(indices):
            raise ValueError(
                f"generators must be one per scene, {len(indices)}, where augmentation, sequence_length or "
                f"matching_noise draw from them, got {len(generators)}"
            )
        batch = load_batch(scenes, indices, self.augmentation, generators)
        context = self._known_context(batch.indices, batch.images, batch.label_maps)
        label_map, given = batch.label_maps, None
        capacity, device = scenes.max_instances, scenes.device
        max_steps = capacity if max_steps is None else max_steps
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

    @unaffected
    def begin_images(self, images: Tensor, max_steps: int) -> EnvState:
        """Begin an episode in each of `B` images of which no instance is known; `transition` goes on from there.

        Args:
            images: `[B, 3, H, W]` uint8.
            max_steps: capacity `T` for predictions, after which the episodes are truncated.

        Raises:
            ValueError: `images` are not as above, or the context is the oracle, which needs labels.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1:] != (3, *self.decoder.size):
            expected = ["B", 3, *self.decoder.size]
            raise ValueError(f"images must be uint8 {expected}, got {images.dtype} {list(images.shape)}")
        if self.context == "oracle":
            raise ValueError('context="oracle" is made from labels, which these images have none of')
        images = images.to(self.device)
        no_labels = images.new_zeros(len(images), *self.decoder.size, dtype=torch.int64)
        context = self.make_context(images, no_labels)
        with autocast(self.device, self.precision):
            return dynamics.reset(context, no_labels, self.decoder, 1, max_steps, step_limit=max_steps)

    @unaffected
    def begin_contexts(
        self, context: Tensor, accumulated_mask: Tensor, label_map: Tensor, step_limit: Tensor | None = None
    ) -> EnvState:
        """Begin episodes again in scenes whose context and first mask are known, as from a replay buffer.

        Args:
            context: `[B, 12, H, W]` in [0, 1].
            accumulated_mask: `[B, 1, H, W]` in [0, 1], `M_1`.
            label_map: `[B, H, W]`, the instances to be found, 1..N, and -1 = ignored.
            step_limit: `[B]` int64, steps after which each episode is truncated; None is none.
        """
        capacity = self.own_scenes.max_instances
        max_steps = capacity if step_limit is None else max(capacity, int(step_limit.max()))
        limit = None if step_limit is None else step_limit.to(context.device)
        with autocast(self.device, self.precision):
            return dynamics.reset(
                context, label_map.long(), self.decoder, capacity, max_steps, accumulated_mask, step_limit=limit
            )

    @unaffected
    def context_again(self, indices: Tensor, augmentation: Tensor) -> Tensor:
        """The context `[B, 12, H, W]` in [0, 1] of episodes that began with these draws.

        Args:
            indices: `[B]` int64, `infos["scene_index"]`.
            augmentation: `[B, P]`, `infos["augmentation"]`.
        """
        scenes = self.own_scenes
        images, label_maps = scenes.gather(indices)
        if self.augmentation is not None:
            images, label_maps = augment(images, label_maps, augmentation, max_instances=scenes.max_instances)
        return self._known_context(indices, images, label_maps)

    @unaffected
    @torch.no_grad()
    def make_context(self, images: Tensor, label_maps: Tensor) -> Tensor:
        """Context `[B, 12, H, W]` in [0, 1] of images `[B, 3, H, W]` uint8; only the oracle looks at label maps."""
        if isinstance(self.context, str):
            return oracle_context(images, label_maps, self.own_scenes.max_instances)
        with autocast(images.device, self.precision):
            context = to_float32(self.context.context(images))
        expected = (len(images), CONTEXT_CHANNELS, *self.decoder.size)
        if context.shape != expected:
            raise ValueError(f"context must return [B, 12, H, W] = {list(expected)}, got {list(context.shape)}")
        if not isinstance(self.context, ContextNetwork):
            context = context.float()
            check_values("context", *context.aminmax())
            context = context.clamp(0, 1)
        return context

    @property
    def own_scenes(self) -> PackedScenes:
        """The data set.

        Raises:
            ValueError: there is none.
        """
        if self.scenes is None:
            raise ValueError("this source has no scenes: make it with some, or begin with begin_images")
        return self.scenes

    def _known_context(self, indices: Tensor, images: Tensor, label_maps: Tensor) -> Tensor:
        """`make_context` of the scenes `indices` `[B]`; predictions are made once, as long as there is memory."""
        if self.augmentation is not None or self.context == "oracle":
            return self.make_context(images, label_maps)
        wanted = indices.tolist()
        missing = list({scene: place for place, scene in enumerate(wanted) if scene not in self._kept}.values())
        found: dict[int, Tensor] = {}
        # A CPU predicts one at a time: in batches, convolutions would round by what else is missing.
        size = 1 if images.device.type == "cpu" else MAX_BATCH
        for first in range(0, len(missing), size):
            part = missing[first : first + size]
            chosen = torch.tensor(part, device=images.device)
            contexts = self.make_context(images[chosen], label_maps[chosen])
            found |= {wanted[place]: context for place, context in zip(part, contexts, strict=True)}
        for scene, context in found.items():
            self._kept.keep(scene, context)
        return torch.stack([found[scene] if scene in found else self._kept[scene] for scene in wanted])


def _device(*frozen: object) -> torch.device:
    """Where the first of these that has tensors has them; the CPU if none has."""
    modules = (part for part in frozen if isinstance(part, nn.Module))
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _give_away(label_map: Tensor, rules: Rules, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The curriculum: label maps of the instances that remain, and `M_1`, by `drawn` `[B, N + 1]` in [0, 1)."""
    length = rules.sequence_length or 0
    surplus = (count_instances(label_map) - length).clamp_min(0)
    remaining = torch.full_like(surplus, length)
    if rules.prefill == "random":
        remaining += (drawn[:, 0] * (surplus + 1)).long()
    return dynamics.prefill(label_map, remaining, drawn[:, 1:])
