"""The vector environment: a thin shell that holds the state and lets `dynamics` do the work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor, nn

from acis_env import dynamics, tree
from acis_env.arguments import build, check_arguments, parse_env_ids, parse_options, parse_seed
from acis_env.augment import NUM_PARAMETERS, Augmentation
from acis_env.context import ContextPredictor
from acis_env.datasets import Scene, SceneDataset, open_scenes
from acis_env.datasets.packed import PackedScenes
from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState, Rules
from acis_env.episode_source import EpisodeSource
from acis_env.matching import from_scratch
from acis_env.metrics import batch_metrics
from acis_env.networks import check_device, on_device, parse_size
from acis_env.observations import Observation, ObservationDtype, ObservationKind, Observer, Planes
from acis_env.precision import Precision, autocast
from acis_env.rendering import episode_frame
from acis_env.sampling import SamplerName, SceneSampler
from acis_env.weights import Pretrained, load_pretrained

RULES = tuple(f.name for f in fields(Rules))
CHANGEABLE = tuple(name for name in RULES if name != "stop")
"""Settings that `set_attr` changes: all rules but `stop`, which decides the action space."""

COARSE_LEVELS = 4
"""Halvings in obs="coarse" without weights, whose decoder would say how many."""

Part = TypeVar("Part")


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
        pretrained: context network and autoencoder; None without weights.
        source: begins the episodes.
        decoder: turns actions into masks.
        threshold: probability below which a pixel of the label map is background.
        precision: of context and decoder.
        action_scale: latent code that an action of 1 stands for.
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
        weights: str | Path | Pretrained | None = None,
        split: str = "train",
        scene_options: Mapping[str, Any] | None = None,
        sampler: SamplerName = "random",
        augmentation: Mapping[str, Any] | None = None,
        context: Literal["predicted", "oracle"] | ContextPredictor = "predicted",
        obs: ObservationKind = "dict",
        obs_dtype: ObservationDtype = "uint8",
        action_scale: float = 3.0,
        decoder: Decoder | None = None,
        refine: bool = False,
        threshold: float = 0.5,
        precision: Precision = "float32",
        compile: bool = False,
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
            weights: a bundled name, a folder made by `acis pretrain`, or the loaded networks; None where `decoder`
                and `context` are given.
            split: "train", "val" or "test"; of a folder, the subfolder of that name (see `open_scenes`).
            scene_options: further keyword arguments of `Leaves` or `FolderScenes`.
            sampler: order of the scenes of a slot: "random", "shuffle" or "sequential" (see `SceneSampler`).
            augmentation: keyword arguments of `Augmentation`, applied at every reset; None for none.
            context: "predicted" by the context network from the image, the "oracle" made from the label map, or a
                predictor of one's own.
            obs: "dict", "stacked" or "coarse" (see `Observer`).
            obs_dtype: of the planes of an observation: "uint8" in [0, 255] or "float32" in [0, 1].
            action_scale: standard deviations of the latent prior that an action of 1 stands for.
            decoder: takes the place of that of the weights.
            refine: pass each mask through the autoencoder once more, by which it becomes more of an instance (see
                `RefiningDecoder`); a step then takes two to four times as long.
            threshold: probability in (0, 1) below which a pixel of the label map is background.
            precision: of the frozen networks; "bfloat16" halves their time and memory on a GPU, and masks are then
                off by some thousandths.
            compile: pass the decoder through `torch.compile`, which takes half a minute once.
            rules: the fields of `Rules`: `score`, `reward`, `matching_noise`, `stop`, `count_penalty`,
                `sequence_length`, `prefill`.

        Raises:
            FileNotFoundError: scenes or weights are missing.
            ValueError: an argument is unknown or outside of its range, or a file is damaged.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "rules")}
        self.arguments = arguments | rules
        check_device(device)
        check_arguments(self.arguments)
        self.rules = build("rules", Rules, rules)
        if weights is not None and not isinstance(weights, Pretrained):
            weights = load_pretrained(weights)
        self.pretrained = None if weights is None else weights.to(device)
        if decoder is None:
            assert self.pretrained is not None  # by check_arguments
            decoder = self.pretrained.autoencoder.frozen_decoder(refine)
        self.decoder: Decoder = _frozen(decoder, device)
        if context == "predicted":
            assert self.pretrained is not None
            context = self.pretrained.context_network
        self.precision = precision
        self.device = torch.device(device)
        size = parse_size(self.decoder.size, "decoder.size")
        if isinstance(scenes, str | Path):
            scenes = open_scenes(str(scenes), split, size, scene_options)
        self.scenes = PackedScenes(scenes, size, device)
        changes = None if augmentation is None else build("augmentation", Augmentation, augmentation)
        self.source = EpisodeSource(_frozen(context, device), self.decoder, self.scenes, changes, precision)
        self._decode = torch.compile(self.decoder) if compile else self.decoder
        self.action_scale = action_scale
        self.threshold = threshold
        is_open_ended = self.rules.stop == "agent" and max_episode_steps is None
        self.max_episode_steps = 2 * self.scenes.max_instances if is_open_ended else max_episode_steps
        self._max_steps = self.scenes.max_instances
        if self.rules.stop == "agent" and self.max_episode_steps is not None:
            self._max_steps = self.max_episode_steps

        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**deepcopy(type(self).metadata), "autoreset_mode": self.autoreset_mode}
        levels = COARSE_LEVELS
        if self.pretrained is not None:
            levels = len(self.pretrained.autoencoder.config.decoder_widths)
        self.observer = Observer(obs, obs_dtype, size, levels).to(device)
        length = self.decoder.latent_size + (self.rules.stop == "agent")
        self.single_observation_space = self.observer.space
        self.single_action_space = gym.spaces.Box(-1, 1, (length,), np.float32)

        self.samplers = [SceneSampler(sampler, len(self.scenes)) for _ in range(num_envs)]
        self._scene_index = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._augmentation = torch.zeros(num_envs, NUM_PARAMETERS, device=device)
        self._state: EnvState | None = None
        self._view: Planes | None = None  # what observations hold of each context
        self._before_reset: dict[int, EnvState] = {}  # as in `render`; kept only where it can be drawn
        # The host keeps count, so that it need not ask the device which episodes end.
        self._is_over = np.ones(num_envs, dtype=bool)
        self._steps_left = np.zeros(num_envs, dtype=np.int64)
        self._asks_at_once = self.device.type == "cpu"
        self._is_finite = torch.ones(num_envs, dtype=torch.bool, device=device)  # actions since the last look

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
        """The episodes under way; the next reset of a slot writes into the same memory.

        Raises:
            RuntimeError: before the first `reset`, or after `close`.
        """
        if self._state is None:
            raise RuntimeError("call reset() before anything that needs an episode")
        return self._state

    @property
    def is_over(self) -> NDArray[np.bool_]:
        """The slots that wait for their reset, `[num_envs]` bool; the host knows them without asking the device."""
        return self._is_over.copy()

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
        scene_indices, mask = parse_options(options, self.num_envs)
        seeds = parse_seed(seed, self.num_envs)
        slots = mask.nonzero()[0].tolist()
        if self._state is None and len(slots) < self.num_envs:
            raise RuntimeError("the first reset must begin all slots: leave options['reset_mask'] out")
        for slot in slots:
            if (own := seeds[slot]) is not None:
                self.samplers[slot].seed(own)
        self._begin(slots, None if scene_indices is None else [scene_indices[slot] for slot in slots])
        return self._observe(), _with_masks(self._info(), torch.as_tensor(mask, device=self.device))

    def step(self, actions: Tensor | NDArray[np.float32]) -> tuple[Observation, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Add one mask in every slot whose episode is under way; `autoreset_mode` decides about the others.

        Args:
            actions: `[num_envs, l]`, with `stop="agent"` `[num_envs, l + 1]`, where a positive last entry ends the
                episode and adds nothing; values outside of [-1, 1] are clipped.

        Returns:
            Observations `[num_envs, ...]`, rewards `[num_envs]` float32, terminated and truncated `[num_envs]` bool,
            infos.

        Raises:
            ValueError: `actions` has another shape or holds NaN or infinity. Other devices than the CPU are not asked
                about the latter in each step, but at the next reset of a slot.
            RuntimeError: with automatic resets disabled, an episode is over.
        """
        actions = self._check_actions(actions)
        fresh = self._begin_after_end()
        rewards, terminated, truncated = self._advance(actions, fresh)
        done = terminated | truncated
        slots = self._find_over(done, fresh)
        metrics = self._metrics(slots)
        infos: dict[str, Any] = {}
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            infos = _with_masks(metrics, done)
        elif slots:
            infos = {"final_obs": self._observe(), "_final_obs": done.clone()}
            infos |= {"final_info": _with_masks(self._info() | metrics, done), "_final_info": done.clone()}
            before_reset = {slot: self._episode(slot).map(torch.clone) for slot in slots} if self.render_mode else {}
            self._begin(slots)
            self._before_reset = before_reset
        infos |= _with_masks(self._info(), torch.ones_like(done))
        return self._observe(), rewards, terminated, truncated, infos

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
        slots = parse_env_ids(env_ids, self.num_envs)
        shown = self._before_reset if before_reset else {}
        return tuple(self._frame(shown[slot] if slot in shown else self._episode(slot)) for slot in slots)

    @property
    def scene(self) -> tuple[Scene, ...]:
        """The scene of each slot as it is now: resized and augmented, and without the instances given away."""
        return tuple(self._scene(slot) for slot in range(self.num_envs))

    @property
    def label_map(self) -> Tensor:
        """Hard prediction so far, `[num_envs, H, W]` int64, labels in the order of prediction."""
        return dynamics.label_prediction(self.state, self.threshold)

    def get_state(self, env_ids: Sequence[int] | None = None) -> Snapshot:
        """Copy the episodes of the slots `env_ids` (None for all; one may stand twice), generators included."""
        slots = parse_env_ids(env_ids, self.num_envs)
        index = self._index(slots)
        return Snapshot(
            state=self.state.select(index),
            is_over=torch.from_numpy(self._is_over[slots]),
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
        slots = parse_env_ids(env_ids, self.num_envs)
        if len(slots) != len(snapshot.samplers):
            raise ValueError(f"env_ids must name {len(snapshot.samplers)} slots as the snapshot does, got {len(slots)}")
        if len(set(slots)) < len(slots):
            raise ValueError(f"env_ids must be different slots, got {slots}")
        if self._state is None and len(slots) < self.num_envs:
            raise RuntimeError(f"the first set_state must fill all {self.num_envs} slots, got {slots}")
        sizes = (self._max_steps, self.scenes.max_instances, *self.scenes.size)
        theirs = (*snapshot.state.scores.shape[1:], *snapshot.state.context.shape[2:])
        if sizes != theirs:
            raise ValueError(f"snapshot must be of (steps, instances, height, width) = {sizes}, got {theirs}")
        state = snapshot.state.map(lambda x: x.to(self.device, copy=True))  # the next reset writes into it
        self._check_conditioning(state)
        self._put(slots, state, snapshot.scene_index, snapshot.augmentation)
        self._is_over[slots] = snapshot.is_over.numpy(force=True)
        for slot, sampler_state in zip(slots, snapshot.samplers, strict=True):
            self.samplers[slot].set_state(sampler_state)

    def _check_conditioning(self, state: EnvState) -> None:
        """Make sure that the episodes of a snapshot are under a decoder like ours."""
        own = self._state
        if own is not None:
            expected = tree.signature(own.conditioning)
        else:
            with torch.no_grad():
                expected = tree.signature(self.decoder.condition(state.context[:1]))
        if (theirs := tree.signature(state.conditioning)) != expected:
            raise ValueError(
                f"snapshot must be of an environment with the same decoder and refine={self.arguments['refine']}: "
                f"its conditioning has shapes {theirs[1]}, expected {expected[1]}"
            )

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call the method `name` or look the attribute up: one result per slot.

        Raises:
            ValueError: it is a method that acts on all slots at once.
        """
        if name in ("reset", "step", "close"):
            raise ValueError(f"{name!r} acts on all slots at once: use the method {name} of the vector environment")
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
        if name == "reward" and values == "potential" and self._state is not None:
            # The greedy assignment of the steps so far is not the best one, from which the potential goes on.
            state = self._state
            best, _ = from_scratch(state.scores, state.step_count, state.num_instances, state.noise)
            self._state = replace(state, assignment=best)

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the episodes; called once, by `close`."""
        self._state = self._view = None
        self._before_reset = {}

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
        self._put(slots, state, batch.indices, batch.augmentation)
        self._is_over[slots] = False

    def _begin_after_end(self) -> list[int]:
        """Reset the slots that are over before a step, or refuse to step them; returns which they are."""
        slots: list[int] = self._is_over.nonzero()[0].tolist()
        if self._state is None or not slots:
            return []
        if self.autoreset_mode is AutoresetMode.DISABLED:
            raise RuntimeError(f"the episodes in slots {slots} are over: call reset(options={{'reset_mask': ...}})")
        self._begin(slots)
        return slots

    @torch.no_grad()
    def _advance(self, actions: Tensor, fresh: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rewards and flags of one step; the slots `fresh` sit it out."""
        before, rules = self.state, self.rules
        latent_size = self.decoder.latent_size
        latent = actions[:, :latent_size] * self.action_scale
        with autocast(self.device, self.precision):
            after, rewards = dynamics.step(before, latent, self._decode, rules)
        if rules.stop == "agent":
            terminated = actions[:, latent_size] > 0
            after = dynamics.hold(before, after, terminated)
            rewards = torch.where(terminated, -rules.count_penalty * dynamics.num_missing(before), rewards)
        else:
            terminated = dynamics.is_complete(after)
        truncated = dynamics.is_cut(after) & ~terminated
        if fresh:
            is_fresh = torch.zeros_like(terminated).index_fill_(0, self._index(fresh), True)
            after = dynamics.hold(before, after, is_fresh)
            rewards = rewards.masked_fill(is_fresh, 0)
            terminated, truncated = terminated & ~is_fresh, truncated & ~is_fresh
        self._state, self._before_reset = after, {}
        return rewards, terminated, truncated

    def _find_over(self, done: Tensor, fresh: Sequence[int]) -> list[int]:
        """The slots whose episodes this step has ended; where the agent ends them, the host has to wait for `done`."""
        if self.rules.stop == "agent":
            self._is_over = done.numpy(force=True).copy()
        else:
            self._steps_left -= 1
            self._steps_left[fresh] += 1
            self._is_over = self._steps_left <= 0
            self._is_over[fresh] = False
        slots: list[int] = self._is_over.nonzero()[0].tolist()
        return slots

    def _put(self, slots: Sequence[int], state: EnvState, scene_index: Tensor, augmentation: Tensor) -> None:
        """Replace the episodes of `slots`."""
        self._before_reset = {}
        index = self._index(slots)
        view = self.observer.condition(state.context)
        if self._state is None or self._view is None or len(slots) == self.num_envs:
            self._state, self._view = state, view
            if list(slots) != list(range(self.num_envs)):
                order = index.argsort()
                self._state, self._view = state.select(order), (view[0][order], view[1][order], view[2][order])
        else:
            self._state.write(index, state)
            for mine, theirs in zip(self._view, view, strict=True):
                mine.index_copy_(0, index, theirs)
        self._scene_index.index_copy_(0, index, scene_index.to(self.device))
        self._augmentation.index_copy_(0, index, augmentation.to(self.device))
        left = torch.minimum(state.num_instances, state.step_limit) - state.step_count
        self._steps_left[list(slots)] = left.numpy(force=True)
        self._raise_if_not_finite()

    def _index(self, slots: Sequence[int]) -> Tensor:
        """`slots` on the device, `[K]` int64, without waiting for it."""
        index = torch.tensor(slots, dtype=torch.int64, pin_memory=self.device.type == "cuda")
        return index.to(self.device, non_blocking=True)

    def _observe(self) -> Observation:
        assert self._view is not None
        return self.observer.observe(self._view, self.state.accumulated_mask)

    def _check_actions(self, actions: Tensor | NDArray[np.float32]) -> Tensor:
        tensor = torch.as_tensor(actions, dtype=torch.float32, device=self.device).detach()
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        if tensor.shape != expected:
            entries = "l + 1" if self.rules.stop == "agent" else "l"
            raise ValueError(
                f"actions must be [num_envs, {entries}] = {list(expected)}, got {list(tensor.shape)}; "
                "was the decoder pre-trained with another latent size?"
            )
        if not self._asks_at_once:
            self._is_finite &= torch.isfinite(tensor).all(1)
            return tensor.nan_to_num(0).clamp_(-1, 1)
        if not math.isfinite(tensor.sum()):  # cheaper than to look at each
            self._is_finite &= torch.isfinite(tensor).all(1)
            self._raise_if_not_finite()
        return tensor.clamp(-1, 1)

    def _raise_if_not_finite(self) -> None:
        """Look at what `_check_actions` saw; waits for the device."""
        if not self._is_finite.all():
            slots = (~self._is_finite).nonzero()[:, 0].tolist()
            self._is_finite.fill_(True)
            raise ValueError(f"actions must be finite, got NaN or infinity in slots {slots}")

    def _info(self) -> dict[str, Tensor]:
        state = self.state
        return {
            "potential": state.potential.clone(),
            "num_instances": state.num_instances.clone(),
            "step_count": state.step_count.clone(),
            "assignment": state.assignment.clone(),
            "scene_index": self._scene_index.clone(),
            "augmentation": self._augmentation.clone(),
        }

    def _metrics(self, slots: Sequence[int]) -> dict[str, Tensor]:
        """Metrics `[num_envs]` of the label maps of `slots`, zero elsewhere; nothing if there are none."""
        if not slots:
            return {}
        index = self._index(slots)
        predictions = dynamics.label_prediction(self.state, self.threshold, index)
        label_maps = self.state.label_map[index]
        metrics = batch_metrics(predictions, label_maps, self._max_steps, self.scenes.max_instances)
        is_success = (metrics["avg_fp"] == 0) & (metrics["avg_fn"] == 0) & (metrics["dic"] == 0)
        found = {**metrics, "is_success": is_success}
        return {key: value.new_zeros(self.num_envs).index_copy_(0, index, value) for key, value in found.items()}

    def _episode(self, slot: int) -> EnvState:
        """The episode in `slot`, in the memory of all."""
        return self.state.select(slice(slot, slot + 1))

    def _scene(self, slot: int) -> Scene:
        name = self.scenes.scene(int(self._scene_index[slot])).name
        return Scene(*_picture(self._episode(slot)), name)

    def _frame(self, episode: EnvState) -> NDArray[np.uint8]:
        prediction = dynamics.label_prediction(episode, self.threshold)[0].numpy(force=True)
        step, count, potential = int(episode.step_count), int(episode.num_instances), float(episode.potential)
        return episode_frame(*_picture(episode), prediction, step, count, potential)

    def _per_slot(self, value: Any) -> tuple[Any, ...]:
        is_sequence = isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.dim() > 0)
        is_one_each = is_sequence and len(value) == self.num_envs
        return tuple(value) if is_one_each else (value,) * self.num_envs


def _frozen(part: Part, device: str | torch.device) -> Part:
    """A decoder or a context predictor on `device`, in evaluation mode: batch statistics would tie the slots to each
    other."""
    part = on_device(part, device)
    return part.eval() if isinstance(part, nn.Module) else part


def _picture(episode: EnvState) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Image `[3, H, W]` and label map `[H, W]` of one episode."""
    image = (episode.context[0, :3] * 255).round().byte().numpy(force=True)
    return image, episode.label_map[0].int().numpy(force=True)


def _with_masks(info: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Add Gymnasium's `_key` for every key: the slots in which it holds."""
    return {**info, **{f"_{key}": mask.clone() for key in info}}
