"""The vector environment: a thin shell that holds the state and lets `dynamics` do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from acis_env import dynamics
from acis_env.augment import NUM_PARAMETERS, Augmentation
from acis_env.datasets import Scene, SceneDataset, open_scenes
from acis_env.datasets.packed import PackedScenes
from acis_env.decoder import MaskDecoder
from acis_env.dynamics import EnvState, Rules
from acis_env.metrics import segmentation_metrics
from acis_env.networks import check_device
from acis_env.observations import Observation, ObservationDtype, ObservationKind, Observer
from acis_env.rendering import episode_frame
from acis_env.sampling import SamplerName, SceneSampler
from acis_env.scene_source import ContextName, SceneSource
from acis_env.weights import Pretrained, load_pretrained

RULES = tuple(f.name for f in fields(Rules))
CHANGEABLE = tuple(name for name in RULES if name != "stop")
"""Settings that `set_attr` changes: all rules but `stop`, which decides the action space."""


@dataclass(frozen=True)
class Snapshot:
    """The episodes of `K` slots, and all that decides how they go on."""

    state: EnvState
    is_over: Tensor  # [K] bool, the slot waits for its reset
    scene_index: Tensor  # [K] int64
    augmentation: Tensor  # [K, P]
    samplers: tuple[dict[str, Any], ...]


class SegmentationVectorEnv(VectorEnv[Observation, Tensor, Tensor]):
    """Segments one scene per slot, one instance per step, all slots in one batch on one device.

    Every slot begins with an empty mask. An action in [-1, 1] is scaled to a latent code, decoded to the mask of
    one instance and added to the accumulated mask; the reward is the growth of the potential. Observations,
    rewards and flags are tensors on `device`, new ones in every call. docs/environment.md describes all of it.

    Slot `i` draws from its own generator on the host, seeded `seed + i`, so its episodes depend neither on
    `num_envs` nor on the device.

    Attributes:
        autoreset_mode: SAME_STEP: a slot whose episode ends begins the next in the same step; its last observation
            and info are in `infos["final_obs"]` and `infos["final_info"]`. NEXT_STEP: it begins it in the step after,
            which ignores the action and earns nothing. DISABLED: `reset(options={"reset_mask": ...})` begins it.
        device: of all tensors.
        rules: how episodes begin and end, and what steps earn.
        arguments: the keyword arguments it was made with.
        pretrained: context network and autoencoder; `decoder` is the frozen half of the latter.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (Gymnasium's contract)

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        device: str | torch.device = "cpu",
        autoreset_mode: str | AutoresetMode = "SameStep",
        *,
        scenes: str | Path | SceneDataset,
        weights: str | Path | Pretrained,
        split: str = "train",
        scene_options: Mapping[str, Any] | None = None,
        sampler: SamplerName = "random",
        augmentation: Mapping[str, Any] | None = None,
        context: ContextName = "predicted",
        obs: ObservationKind = "dict",
        obs_dtype: ObservationDtype = "uint8",
        action_scale: float = 3.0,
        cut_off: float = 0.5,
        **rules: Any,
    ) -> None:
        """Open the scenes and load the frozen networks.

        Args:
            num_envs: number of slots.
            max_episode_steps: truncate an episode after so many steps; None lets it end by itself, or, where the
                agent ends it, after twice the largest number of instances of a scene.
            render_mode: None or "rgb_array".
            device: of all tensors.
            autoreset_mode: "SameStep", "NextStep" or "Disabled".
            scenes: "leaves", a folder of `<id>_rgb.png` and `<id>_label.png`, or a data set.
            weights: a bundled name, a folder made by `acis pretrain`, or the loaded networks.
            split: "train", "val" or "test"; of a folder, the subfolder of that name (see `open_scenes`).
            scene_options: further keyword arguments of `Leaves` or `FolderScenes`.
            sampler: order of the scenes of a slot: "random", "shuffle" or "sequential" (see `SceneSampler`).
            augmentation: keyword arguments of `Augmentation`, applied at every reset; None for none.
            context: "predicted" by the context network from the image, or the "oracle" made from the label map.
            obs: "dict", "stacked" or "coarse" (see `Observer`).
            obs_dtype: of the planes of an observation: "uint8" in [0, 255] or "float32" in [0, 1].
            action_scale: standard deviations of the latent prior that an action of 1 stands for.
            cut_off: probability in (0, 1) below which a pixel of the label map is background.
            rules: the fields of `Rules`: `score`, `reward`, `matching_noise`, `stop`, `count_penalty`,
                `sequence_length`, `prefill`.

        Raises:
            FileNotFoundError: scenes or weights are missing.
            ValueError: an argument is unknown or outside of its range, or a file is damaged.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "rules")}
        self.arguments = arguments | rules
        check_device(device)
        _check_arguments(self.arguments)
        self.rules = _open("rules", Rules, rules)
        self.pretrained = weights if isinstance(weights, Pretrained) else load_pretrained(weights)
        self.pretrained.to(device)
        self.pretrained.context_network.eval()  # batch statistics would tie the slots to each other
        self.decoder: MaskDecoder = self.pretrained.autoencoder.decoder.freeze()
        self.device = torch.device(device)
        size = self.pretrained.size
        if isinstance(scenes, str | Path):
            scenes = open_scenes(str(scenes), split, size, scene_options)
        self.scenes = PackedScenes(scenes, size, device)
        changes = None if augmentation is None else _open("augmentation", Augmentation, augmentation)
        self.source = SceneSource(self.scenes, self.pretrained, context, changes)
        self.action_scale = action_scale
        self.cut_off = cut_off
        is_open_ended = self.rules.stop == "agent" and max_episode_steps is None
        self.max_episode_steps = 2 * self.scenes.max_instances if is_open_ended else max_episode_steps
        self._max_steps = self.scenes.max_instances
        if self.rules.stop == "agent" and self.max_episode_steps is not None:
            self._max_steps = self.max_episode_steps

        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**deepcopy(type(self).metadata), "autoreset_mode": self.autoreset_mode}
        autoencoder = self.pretrained.autoencoder.config
        self.observer = Observer(obs, obs_dtype, size, levels=len(autoencoder.decoder_widths)).to(device)
        length = autoencoder.latent_size + (self.rules.stop == "agent")
        self.single_observation_space = self.observer.space
        self.single_action_space = gym.spaces.Box(-1, 1, (length,), np.float32)

        self.samplers = [SceneSampler(sampler, len(self.scenes)) for _ in range(num_envs)]
        self._scene_index = torch.zeros(num_envs, dtype=torch.int64)
        self._augmentation = torch.zeros(num_envs, NUM_PARAMETERS)
        self._is_over = torch.ones(num_envs, dtype=torch.bool, device=device)
        self._state: EnvState | None = None
        self._before_reset: EnvState | None = None  # as in `render`; kept only where it can be drawn

    # The batched spaces of many large pictures take seconds and gigabytes, and stepping does not need them.

    @cached_property
    def observation_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """Of `num_envs` scenes."""
        return batch_space(self.single_observation_space, self.num_envs)

    @cached_property
    def action_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """Of `num_envs` scenes."""
        return batch_space(self.single_action_space, self.num_envs)

    @property
    def state(self) -> EnvState:
        """The episodes under way.

        Raises:
            RuntimeError: before the first `reset`, or after `close`.
        """
        if self._state is None:
            raise RuntimeError("call reset() before anything that needs an episode")
        return self._state

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a new episode, in every slot or in those of a mask.

        Args:
            seed: slot `i` is seeded `seed + i`, or with the `i`-th of `num_envs` seeds; None lets it go on.
            options: `scene_index`, an int or `[num_envs]` ints: the scenes of these episodes;
                `reset_mask`, `[num_envs]` bool, numpy or torch: the slots to reset, the others stay as they are.

        Raises:
            ValueError: a seed or an option is not as above.
            RuntimeError: the first reset has a `reset_mask` that leaves a slot without an episode.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        scene_indices, mask = self._parse_options(options)
        slots = mask.nonzero()[:, 0].tolist()
        if self._state is None and len(slots) < self.num_envs:
            raise RuntimeError("the first reset must begin all slots: leave options['reset_mask'] out")
        self._seed_slots(seed, slots)
        chosen = None if scene_indices is None else [scene_indices[slot] for slot in slots]
        self._begin(slots, chosen)
        return self.observer(self.state), _with_masks(self._info(), mask)

    def step(self, actions: Tensor | NDArray[np.float32]) -> tuple[Observation, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Add one mask in every slot whose episode is under way; `autoreset_mode` decides about the others.

        Args:
            actions: `[num_envs, l]`, with `stop="agent"` `[num_envs, l + 1]`, where a positive last entry ends the
                episode and adds nothing; values outside of [-1, 1] are clipped.

        Returns:
            Observations `[num_envs, ...]`, rewards `[num_envs]` float32, terminated and truncated `[num_envs]` bool,
            infos.

        Raises:
            ValueError: `actions` has another shape or holds NaN or infinity.
            RuntimeError: with automatic resets disabled, an episode is over.
        """
        actions = self._check_actions(actions)
        was_over = self._is_over.clone()
        self._begin_after_end(was_over)
        rewards, terminated, truncated = self._advance(actions, was_over)
        done = terminated | truncated
        self._is_over = done.clone()
        infos: dict[str, Any] = {}
        metrics = self._metrics(done)
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            infos = _with_masks(metrics, done)
        elif metrics:
            infos = {"final_obs": self.observer(self.state), "_final_obs": done.clone()}
            infos |= {"final_info": _with_masks(self._info() | metrics, done), "_final_info": done.clone()}
            before_reset = self.state
            self._begin(done.nonzero()[:, 0].tolist())
            self._before_reset = before_reset if self.render_mode else None
        infos |= _with_masks(self._info(), torch.ones_like(done))
        return self.observer(self.state), rewards, terminated, truncated, infos

    def render(
        self, env_ids: Sequence[int] | None = None, *, before_reset: bool = False
    ) -> tuple[NDArray[np.uint8], ...] | None:
        """One frame `[h, w, 3]` uint8 per slot: image, ground truth, and masks coloured by order (as Fig. 4).

        Args:
            env_ids: the slots to draw; None for all.
            before_reset: draw what the last step led to: where an episode ended and SAME_STEP has begun the next,
                the last frame instead of the first.
        """
        if self.render_mode is None:
            return None
        slots = self._parse_env_ids(env_ids)
        state = self._before_reset if before_reset and self._before_reset is not None else self.state
        return tuple(self._frame(state.select(slice(slot, slot + 1))) for slot in slots)

    @property
    def scene(self) -> tuple[Scene, ...]:
        """The scene of each slot as it is now: resized and augmented, and without the instances given away."""
        return tuple(self._scene(slot) for slot in range(self.num_envs))

    @property
    def label_map(self) -> Tensor:
        """Hard prediction so far, `[num_envs, H, W]` int64, labels in the order of prediction."""
        return dynamics.label_prediction(self.state, self.cut_off)

    def get_state(self, env_ids: Sequence[int] | None = None) -> Snapshot:
        """Copy the episodes of the slots `env_ids` (None for all; one may stand twice), generators included."""
        slots = self._parse_env_ids(env_ids)
        index = torch.tensor(slots, dtype=torch.int64)
        on_device = index.to(self.device)
        return Snapshot(
            state=self.state.select(on_device),
            is_over=self._is_over[on_device],
            scene_index=self._scene_index[index],
            augmentation=self._augmentation[index],
            samplers=tuple(self.samplers[slot].get_state() for slot in slots),
        )

    def set_state(self, snapshot: Snapshot, env_ids: Sequence[int] | None = None) -> None:
        """Go on from `snapshot` in the slots `env_ids` (None for all), bit by bit as the slots did that gave it.

        Raises:
            ValueError: `env_ids` are not as many slots as the snapshot has, or the environment has other sizes.
            RuntimeError: the environment was never reset, and a slot would stay without an episode.
        """
        slots = self._parse_env_ids(env_ids)
        if len(slots) != len(snapshot.samplers):
            raise ValueError(f"env_ids must name {len(snapshot.samplers)} slots as the snapshot does, got {len(slots)}")
        if len(set(slots)) < len(slots):
            raise ValueError(f"env_ids must be different slots, got {slots}")
        if self._state is None and len(slots) < self.num_envs:
            raise RuntimeError(f"the first set_state must fill all {self.num_envs} slots, got {slots}")
        sizes = (self._max_steps, self.scenes.max_instances, *self.pretrained.size)
        theirs = (*snapshot.state.scores.shape[1:], *snapshot.state.context.shape[2:])
        if sizes != theirs:
            raise ValueError(f"snapshot must be of (steps, instances, height, width) = {sizes}, got {theirs}")
        index = torch.tensor(slots, dtype=torch.int64)
        state = snapshot.state.map(lambda x: x.to(self.device))
        self._put(index, state, snapshot.scene_index, snapshot.augmentation)
        self._is_over = self._is_over.index_copy(0, index.to(self.device), snapshot.is_over.to(self.device))
        for slot, sampler_state in zip(slots, snapshot.samplers, strict=True):
            self.samplers[slot].set_state(sampler_state)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call the method `name` or look the attribute up: one result per slot."""
        if name in RULES:
            return self.get_attr(name)
        value = getattr(self, name)
        return self._per_slot(value(*args, **kwargs) if callable(value) else value)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """The attribute or rule `name` of every slot."""
        return self._per_slot(getattr(self.rules if name in RULES else self, name))

    def set_attr(self, name: str, values: Any) -> None:
        """Change a rule while the environment runs, in every slot; what concerns the beginning of an episode
        holds from the next `reset` of a slot on.

        Args:
            name: one of `score`, `reward`, `matching_noise`, `count_penalty`, `sequence_length`, `prefill`.
            values: the value, or a list of `num_envs` equal ones.

        Raises:
            AttributeError: `name` is fixed or unknown.
            ValueError: the value is outside of its range, or slots would differ.
        """
        if name not in CHANGEABLE:
            raise AttributeError(f"set_attr changes {CHANGEABLE}, got {name!r}")
        if isinstance(values, list | tuple):
            if len(values) != self.num_envs or any(value != values[0] for value in values):
                raise ValueError(f"{name} must be one value for all {self.num_envs} slots, got {values!r}")
            values = values[0]
        self.rules = replace(self.rules, **{name: values})

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the episodes; called once, by `close`."""
        self._state = self._before_reset = None

    def __getstate__(self) -> dict[str, Any]:
        """What pickling keeps: arguments, rules as they are now, and the episodes."""
        kept = {**self.arguments, **{name: getattr(self.rules, name) for name in RULES}}
        snapshot = None if self._state is None else self.get_state()
        return {"arguments": kept, "snapshot": snapshot, "spec": self.spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["arguments"])  # type: ignore[misc]
        self.spec = state["spec"]
        if state["snapshot"] is not None:
            self.set_state(state["snapshot"])

    def _begin(self, slots: Sequence[int], scene_indices: Sequence[int] | None = None) -> None:
        """Begin new episodes in `slots`; all that is random comes from each slot's own generator."""
        samplers = [self.samplers[slot] for slot in slots]
        if scene_indices is None:
            scene_indices = [sampler.next() for sampler in samplers]
        generators = [sampler.generator for sampler in samplers]
        capacity, limit = self._max_steps, self.max_episode_steps
        state, batch = self.source.begin(scene_indices, generators, self.rules, capacity, limit)
        index = torch.tensor(slots, dtype=torch.int64)
        self._put(index, state, batch.indices, batch.augmentation)
        self._is_over = self._is_over.index_fill(0, index.to(self.device), False)

    def _begin_after_end(self, was_over: Tensor) -> None:
        """Reset the slots that are over before a step, or refuse to step them."""
        # In SAME_STEP none ever waits, so nobody need ask the device.
        if self._state is None or self.autoreset_mode is AutoresetMode.SAME_STEP or not was_over.any():
            return
        slots = was_over.nonzero()[:, 0].tolist()
        if self.autoreset_mode is AutoresetMode.DISABLED:
            raise RuntimeError(f"the episodes in slots {slots} are over: call reset(options={{'reset_mask': ...}})")
        self._begin(slots)

    @torch.no_grad()
    def _advance(self, actions: Tensor, is_fresh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rewards and flags of one step of the slots that are not `is_fresh`, which sit it out."""
        before, rules = self.state, self.rules
        latent_size = self.pretrained.autoencoder.config.latent_size
        latent = actions[:, :latent_size] * self.action_scale
        after, rewards = dynamics.step(before, latent, self.decoder, rules)
        if rules.stop == "agent":
            stops = (actions[:, latent_size] > 0) & ~is_fresh
            after = dynamics.hold(before, after, is_fresh | stops)
            missing = dynamics.num_missing(before)
            rewards = torch.where(stops, -rules.count_penalty * missing, rewards)
            terminated = stops
        else:
            if self.autoreset_mode is AutoresetMode.NEXT_STEP:  # no slot is fresh in the other modes
                after = dynamics.hold(before, after, is_fresh)
            terminated = dynamics.is_complete(after) & ~is_fresh
        self._state, self._before_reset = after, None
        rewards = torch.where(is_fresh, 0.0, rewards)
        return rewards, terminated, dynamics.is_cut(after) & ~terminated & ~is_fresh

    def _put(self, slots: Tensor, state: EnvState, scene_index: Tensor, augmentation: Tensor) -> None:
        """Replace the episodes of `slots` `[K]`."""
        self._before_reset = None
        if self._state is None:
            order = slots.argsort().to(self.device)
            self._state = state.select(order)
        else:
            self._state = self._state.merge(slots.to(self.device), state)
        self._scene_index = self._scene_index.index_copy(0, slots, scene_index)
        self._augmentation = self._augmentation.index_copy(0, slots, augmentation)

    def _seed_slots(self, seed: int | Sequence[int | None] | None, slots: Sequence[int]) -> None:
        if seed is None:
            return
        seeds = seed if isinstance(seed, Sequence) and not isinstance(seed, str) else None
        if isinstance(seed, Integral):
            seeds = [int(seed) + slot for slot in range(self.num_envs)]
        is_valid = seeds is not None and all(s is None or (isinstance(s, Integral) and s >= 0) for s in seeds)
        if seeds is None or not is_valid or len(seeds) != self.num_envs:
            raise ValueError(
                f"seed must be an int or {self.num_envs} ints, one per slot and none negative, got {seed!r}"
            )
        for slot in slots:
            if (own := seeds[slot]) is not None:
                self.samplers[slot].seed(int(own))

    def _parse_env_ids(self, env_ids: Sequence[int] | None) -> list[int]:
        slots = list(range(self.num_envs) if env_ids is None else env_ids)
        if not all(0 <= slot < self.num_envs for slot in slots):
            raise ValueError(f"env_ids must be slots from 0 to {self.num_envs - 1}, got {slots}")
        return slots

    def _parse_options(self, options: Mapping[str, Any] | None) -> tuple[list[int] | None, Tensor]:
        """The scene for each slot, where chosen, and the slots to reset, `[num_envs]` bool."""
        options = options or {}
        if unknown := set(options) - {"scene_index", "reset_mask"}:
            raise ValueError(f"options may hold 'scene_index' and 'reset_mask', got {sorted(unknown)}")
        given = options.get("reset_mask")
        mask = torch.as_tensor(np.ones(self.num_envs, dtype=bool) if given is None else given, device=self.device)
        if mask.shape != (self.num_envs,) or mask.dtype != torch.bool or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must be bool [num_envs] = [{self.num_envs}] with at least one True, "
                f"got {mask.dtype} {mask.tolist()}"
            )
        return self._parse_scene_index(options.get("scene_index")), mask

    def _parse_scene_index(self, value: ArrayLike | None) -> list[int] | None:
        if value is None:
            return None
        chosen = np.asarray(value)
        if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (self.num_envs,)):
            raise ValueError(
                f"options['scene_index'] must be an int or [num_envs] = [{self.num_envs}] ints, got {value!r}"
            )
        return [int(index) for index in np.broadcast_to(chosen, self.num_envs)]

    def _check_actions(self, actions: Tensor | NDArray[np.float32]) -> Tensor:
        tensor = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        if tensor.shape != expected:
            entries = "l + 1" if self.rules.stop == "agent" else "l"
            raise ValueError(
                f"actions must be [num_envs, {entries}] = {list(expected)}, got {list(tensor.shape)}; "
                "was the decoder pre-trained with another latent size?"
            )
        if not torch.isfinite(tensor).all():
            slots = (~torch.isfinite(tensor)).any(1).nonzero()[:, 0].tolist()
            raise ValueError(f"actions must be finite, got NaN or infinity in slots {slots}")
        return tensor.clamp(-1, 1)

    def _info(self) -> dict[str, Tensor]:
        state = self.state
        return {
            "potential": state.potential.clone(),
            "num_instances": state.num_instances.clone(),
            "step_count": state.step_count.clone(),
            "assignment": state.assignment.clone(),
            "scene_index": self._scene_index.to(self.device, copy=True),
            "augmentation": self._augmentation.to(self.device, copy=True),
        }

    def _metrics(self, done: Tensor) -> dict[str, Tensor]:
        """Metrics `[num_envs]` of the label maps of the slots that are `done`, zero elsewhere; nothing if none is."""
        slots = done.nonzero()[:, 0]
        if len(slots) == 0:
            return {}
        episodes = self.state.select(slots)
        predictions = dynamics.label_prediction(episodes, self.cut_off).numpy(force=True)
        label_maps = episodes.label_map.numpy(force=True)
        rows = [segmentation_metrics(p, truth) for p, truth in zip(predictions, label_maps, strict=True)]
        found: dict[str, Tensor] = {}
        for key in rows[0]:
            values = torch.tensor([row[key] for row in rows], dtype=torch.float32, device=self.device)
            found[key] = torch.zeros(self.num_envs, device=self.device).index_copy(0, slots, values)
        is_success = (found["avg_fp"] == 0) & (found["avg_fn"] == 0) & (found["dic"] == 0) & done
        return {**found, "is_success": is_success}

    def _scene(self, slot: int) -> Scene:
        episode = self.state.select(slice(slot, slot + 1))
        name = self.scenes.scene(int(self._scene_index[slot])).name
        return Scene(*_picture(episode), name)

    def _frame(self, episode: EnvState) -> NDArray[np.uint8]:
        prediction = dynamics.label_prediction(episode, self.cut_off)[0].numpy(force=True)
        step, count, potential = int(episode.step_count), int(episode.num_instances), float(episode.potential)
        return episode_frame(*_picture(episode), prediction, step, count, potential)

    def _per_slot(self, value: Any) -> tuple[Any, ...]:
        is_one_each = isinstance(value, list | tuple) and len(value) == self.num_envs
        return tuple(value) if is_one_each else (value,) * self.num_envs


def _open(name: str, kind: type[Any], arguments: Mapping[str, Any]) -> Any:
    """`kind(**arguments)`; an unknown keyword is a ValueError."""
    known = [f.name for f in fields(kind)]
    if unknown := sorted(set(arguments) - set(known)):
        raise ValueError(f"{name} may hold {known}, got {unknown}")
    return kind(**arguments)


def _picture(episode: EnvState) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Image `[3, H, W]` and label map `[H, W]` of one episode."""
    image = (episode.context[0, :3] * 255).round().byte().numpy(force=True)
    return image, episode.label_map[0].int().numpy(force=True)


def _with_masks(info: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Add Gymnasium's `_key` for every key: the slots in which it holds."""
    return {**info, **{f"_{key}": mask.clone() for key in info}}


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    limit = arguments["max_episode_steps"]
    modes = tuple(mode.value for mode in AutoresetMode)
    choices = {
        "render_mode": (None, "rgb_array"),
        "context": ("predicted", "oracle"),
        "obs": ("dict", "stacked", "coarse"),
        "obs_dtype": ("uint8", "float32"),
        "sampler": ("random", "shuffle", "sequential"),
        "autoreset_mode": (*modes, *AutoresetMode),
    }
    checks = [(name, arguments[name] in allowed, f"one of {allowed}") for name, allowed in choices.items()]
    checks += [
        ("num_envs", arguments["num_envs"] >= 1, "at least 1"),
        ("max_episode_steps", limit is None or limit >= 1, "None or at least 1"),
        ("action_scale", arguments["action_scale"] > 0, "positive"),
        ("cut_off", 0 < arguments["cut_off"] < 1, "between 0 and 1"),
    ]
    for name, holds, expected in checks:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {arguments[name]!r}")
