"""The vector environment: a thin shell that holds the state and lets `dynamics` do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from acis_env import dynamics
from acis_env import snapshot as snapshots
from acis_env.actions import ActionReader
from acis_env.arguments import RULES, build, check_arguments, parse_env_ids, parse_options, parse_seed, settle
from acis_env.attributes import SlotAttributes
from acis_env.augment import Augmentation
from acis_env.autoreset import Autoreset
from acis_env.context import ContextPredictor
from acis_env.cuda_graph import CudaGraph, check_recordable
from acis_env.datasets import Preprocessing, Scene, SceneDataset, open_scenes
from acis_env.datasets.packed import MEMORY_BUDGET, PackedScenes
from acis_env.datasets.registry import protocol_of
from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState, Rules
from acis_env.episode_source import EpisodeSource
from acis_env.infos import episode_info, final_metrics, with_masks
from acis_env.networks import parse_size
from acis_env.observations import Observation, ObservationDtype, ObservationKind, Observer
from acis_env.own_parts import WatchedDecoder
from acis_env.parts import coarse_levels, open_parts
from acis_env.precision import Precision, autocast
from acis_env.rendering.episode import frame, picture
from acis_env.sampling import SamplerName, SceneSampler
from acis_env.slots import Slots
from acis_env.snapshot import Snapshot
from acis_env.surroundings import as_tensor, unaffected
from acis_env.weights import Pretrained


class SegmentationVectorEnv(SlotAttributes):
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
        precision: of context and decoder.
        action_scale: latent code that an action of 1 stands for.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (Gymnasium's contract)

    @unaffected
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
        root: str | Path | None = None,
        sampler: SamplerName = "random",
        augmentation: Mapping[str, Any] | None = None,
        context: Literal["predicted", "oracle"] | ContextPredictor = "predicted",
        obs: ObservationKind = "dict",
        obs_dtype: ObservationDtype = "uint8",
        action_scale: float = 3.0,
        decoder: Decoder | None = None,
        refine: bool = False,
        preprocessing: str | Preprocessing | None = None,
        precision: Precision = "float32",
        compile: bool = False,
        cuda_graph: bool = False,
        memory_budget: int = MEMORY_BUDGET,
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
            scenes: "leaves", a folder of `<id>_rgb.png` and `<id>_label.png`, or a data set; a `Path` is a folder.
            weights: a bundled name, a folder made by `acis pretrain`, or the loaded networks; None where `decoder`
                and `context` are given.
            split: "train", "val" or "test"; of a folder, the subfolder of that name (see `open_scenes`).
            scene_options: further keyword arguments of the data set; like `split` and `root`, not of one that is given
                itself.
            root: folder of a data set that is not in the package; by default that of its environment variable.
            sampler: order of the scenes of a slot: "random", "shuffle" or "sequential" (see `SceneSampler`).
            augmentation: keyword arguments of `Augmentation`, applied at every reset; None for none.
            context: "predicted" by the context network from the image, the "oracle" made from the label map, or a
                predictor of one's own.
            obs: "dict", "stacked" or "coarse" (see `Observer`).
            obs_dtype: of the planes of an observation: "uint8" in [0, 255] or "float32" in [0, 1].
            action_scale: standard deviations of the latent prior that an action of 1 stands for.
            decoder: takes the place of that of the weights.
            refine: pass each mask through the autoencoder once more, by which it becomes more of an instance (see
                `RefiningDecoder`); a step then decodes twice and encodes once.
            preprocessing: how scenes become pictures of the networks' size: "squeeze", "shorter-side", "halve-crop" or
                "tile" (see `parse_preprocessing`); None is that of the data set's protocol, or "squeeze".
            precision: of the frozen networks; "bfloat16" halves their time and memory on a GPU, and masks are then
                off by some thousandths.
            compile: pass the decoder through `torch.compile`, which takes half a minute once.
            cuda_graph: launch a step as one CUDA graph: few small environments on a GPU then step three times as
                fast, and episodes take more than twice the memory. Decoder and score must be this package's.
            memory_budget: bytes of packed scenes that are kept on the device; a data set that takes more is streamed
                (see docs/data.md).
            rules: the fields of `Rules`: `score`, `reward`, `threshold`, `matching_noise`, `stop`, `count_penalty`,
                `sequence_length`, `prefill`; by default those of the data set's protocol, if it has any.

        Raises:
            FileNotFoundError: scenes or weights are missing.
            ValueError: an argument is unknown or outside of its range, or a file is damaged.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "rules")}
        self.closed = True  # there is nothing to close if an argument is refused
        arguments, rules = settle(arguments, rules, protocol_of(scenes))
        self.arguments = arguments | rules
        check_arguments(arguments)
        self.rules = build("arguments", Rules, rules, arguments)
        check_recordable(arguments, self.rules.score)
        self.pretrained, self.decoder, predictor = open_parts(weights, decoder, context, refine, device)
        self.device, self.precision = torch.device(device), precision
        self.action_scale = action_scale
        size = parse_size(self.decoder.size, "decoder.size")
        if isinstance(scenes, str | Path):
            options = {**(scene_options or {}), **({} if root is None else {"root": root})}
            scenes = open_scenes(scenes, split, size, options)
        preprocessing = arguments["preprocessing"]
        self.scenes = PackedScenes(scenes, size, device, preprocessing=preprocessing, memory_budget=memory_budget)
        changes = None if augmentation is None else build("augmentation", Augmentation, augmentation)
        self.source = EpisodeSource(predictor, self.decoder, self.scenes, changes, precision)
        decode = torch.compile(self.decoder) if compile else self.decoder
        self._watched = None if decoder is None else WatchedDecoder(decode)
        self._decode = self._watched or decode
        self._graph = CudaGraph() if cuda_graph else None

        stops, most = self.rules.stop == "agent", self.scenes.max_instances
        self.max_episode_steps = 2 * most if stops and max_episode_steps is None else max_episode_steps
        self._max_steps = self.max_episode_steps if stops and self.max_episode_steps is not None else most
        self.num_envs, self.render_mode = num_envs, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**deepcopy(type(self).metadata), "autoreset_mode": self.autoreset_mode}
        self.observer = Observer(obs, obs_dtype, size, coarse_levels(self.pretrained)).to(device)
        length = self.decoder.latent_size + stops
        self.single_observation_space = self.observer.space
        self.single_action_space = gym.spaces.Box(-1, 1, (length,), np.float32)
        self.samplers = [SceneSampler(sampler, len(self.scenes)) for _ in range(num_envs)]
        self._autoreset = Autoreset(self.autoreset_mode, num_envs)
        self._slots = Slots(self.samplers, self._autoreset, self.observer, self.device)
        self._actions = ActionReader(num_envs, length, stops, self.device)
        self.closed = False

    # The batched spaces of many large pictures take seconds and gigabytes, and stepping does not need them.

    @cached_property
    def observation_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """Space of the observations of `num_envs` scenes."""
        return batch_space(self.single_observation_space, self.num_envs)

    @cached_property
    def action_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """Space of the actions in `num_envs` scenes."""
        return batch_space(self.single_action_space, self.num_envs)

    @property
    def threshold(self) -> float:
        """Probability below which a pixel of the label map is background."""
        return self.rules.threshold

    @property
    def state(self) -> EnvState:
        """The episodes under way; the next reset of a slot writes into the same memory.

        Raises:
            RuntimeError: before the first `reset`, or after `close`.
        """
        return self._slots.begun()

    @property
    def is_over(self) -> NDArray[np.bool_]:
        """The slots that wait for their reset, `[num_envs]` bool; the host knows them without asking the device."""
        return self._autoreset.is_over.copy()

    @property
    def scene(self) -> tuple[Scene, ...]:
        """The scene of each slot as it is now: resized and augmented, and without the instances given away."""
        names = [self.scenes.scene(index).name for index in self._slots.scene_index.tolist()]
        return tuple(Scene(*picture(self._slots.episode(slot)), name) for slot, name in enumerate(names))

    @property
    def label_map(self) -> Tensor:
        """Hard prediction so far, `[num_envs, H, W]` int64, labels in the order of prediction."""
        return dynamics.label_prediction(self.state, self.threshold)

    @unaffected
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a new episode, in every slot or in those of a mask.

        Args:
            seed: slot `i` is seeded `seed + i`, or with the `i`-th of `num_envs` seeds; None lets it go on.
            options: `scene_index`, an int or `[num_envs]` ints: the scenes of these episodes;
                `reset_mask`, `[num_envs]` bool, numpy or torch: the slots to reset, the others stay as they are.

        Raises:
            ValueError: a seed or an option is not as above; or, when the episodes have begun, an action since the last
                reset was not finite, or what a decoder or a context predictor of one's own returned is not in [0, 1].
            IndexError: a scene index is outside of the data set.
            RuntimeError: the first reset has a `reset_mask` that leaves a slot without an episode.
        """
        scene_indices, mask = parse_options(options, self.num_envs)
        seeds = parse_seed(seed, self.num_envs)
        super().reset(seed=seed if isinstance(seed, int) else None)
        self.closed = False
        slots = mask.nonzero()[0].tolist()
        if self._slots.state is None and len(slots) < self.num_envs:
            raise RuntimeError("the first reset must begin all slots: leave options['reset_mask'] out")
        for slot in slots:
            if (own := seeds[slot]) is not None:
                self.samplers[slot].seed(own)
        self._begin(slots, None if scene_indices is None else [scene_indices[slot] for slot in slots])
        return self._slots.observe(), with_masks(episode_info(self._slots), as_tensor(mask, device=self.device))

    @unaffected
    def step(self, actions: Tensor | NDArray[np.float32]) -> tuple[Observation, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Add one mask in every slot whose episode is under way; `autoreset_mode` decides about the others.

        Args:
            actions: `[num_envs, l]`, with `stop="agent"` `[num_envs, l + 1]`, where a positive last entry ends the
                episode and adds nothing; values outside of [-1, 1] are clipped.

        Returns:
            Observations `[num_envs, ...]`, rewards `[num_envs]` float32, terminated and truncated `[num_envs]` bool,
            infos.

        Raises:
            ValueError: `actions` has another shape. NaN and infinity in it count as 0, and the next reset of any slot,
                automatic or not, or `close` raises for them: until then no device is asked. So it is with masks of a
                decoder of one's own that are not in [0, 1], for which a CPU raises at once.
            RuntimeError: with automatic resets disabled, an episode is over.
        """
        actions = self._actions.read(actions, ignored=self._autoreset.is_over)
        fresh = self._begin_after_end()
        rewards, terminated, truncated = self._advance(actions, fresh)
        done = terminated | truncated
        slots = self._autoreset.advance(fresh, done if self.rules.stop == "agent" else None)
        metrics = final_metrics(self._slots, slots, self.threshold)
        infos: dict[str, Any] = {}
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            infos = with_masks(metrics, done)
        elif slots:
            infos = {"final_obs": self._slots.observe(), "_final_obs": done.clone()}
            infos |= {"final_info": with_masks(episode_info(self._slots) | metrics, done), "_final_info": done.clone()}
            last = {slot: self._slots.episode(slot).map(torch.clone) for slot in slots} if self.render_mode else {}
            self._begin(slots)
            self._slots.before_reset = last
        infos |= with_masks(episode_info(self._slots), torch.ones_like(done))
        return self._slots.observe(), rewards, terminated, truncated, infos

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
        shown = self._slots.before_reset if before_reset else {}
        episodes = [shown[slot] if slot in shown else self._slots.episode(slot) for slot in slots]
        return tuple(frame(episode, self.threshold) for episode in episodes)

    @unaffected
    def get_state(self, env_ids: Sequence[int] | None = None) -> Snapshot:
        """Copy the episodes of the slots `env_ids` (None for all; one may stand twice), generators included."""
        return snapshots.take(self._slots, parse_env_ids(env_ids, self.num_envs), self.rules)

    @unaffected
    def set_state(self, snapshot: Snapshot, env_ids: Sequence[int] | None = None) -> None:
        """Go on from `snapshot` in the slots `env_ids` (None for all), bit by bit as the slots did that gave it.

        Where `reward` or `threshold` are others here, episodes go on as after `set_attr`.

        Raises:
            ValueError: `env_ids` are not as many slots as the snapshot has, or the environment has other sizes,
                another number or order of scenes, or another decoder.
            RuntimeError: the environment was never reset, and a slot would stay without an episode.
        """
        sizes = (self._max_steps, self.scenes.max_instances, *self.scenes.size)
        slots = parse_env_ids(env_ids, self.num_envs)
        snapshots.put_back(self._slots, slots, snapshot, sizes, self.decoder, self.rules)

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the episodes and end the threads that stream scenes; called once, by `close`.

        Raises:
            ValueError: an action since the last reset was not finite, or a mask not in [0, 1].
        """
        self._slots.forget()
        if self._graph is not None:
            self._graph.forget()
        self.scenes.close()
        self.closed = True  # also if the next line raises
        self._check()

    def __getstate__(self) -> dict[str, Any]:
        """What pickling keeps: arguments, rules as they are now, and the episodes."""
        kept = {**self.arguments, **{name: getattr(self.rules, name) for name in RULES}}
        snapshot = None if self._slots.state is None else self.get_state()
        return {"arguments": kept, "snapshot": snapshot, "spec": self.spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["arguments"])  # type: ignore[misc]
        self.spec = state["spec"]
        if state["snapshot"] is not None:
            self.set_state(state["snapshot"])

    def _begin(self, slots: Sequence[int], scene_indices: Sequence[int] | None = None) -> None:
        """Begin new episodes in `slots`; all that is random comes from each slot's own generator."""
        samplers = [self.samplers[slot] for slot in slots]
        chosen = [sampler.next() for sampler in samplers] if scene_indices is None else scene_indices
        generators = [sampler.generator for sampler in samplers]
        state, batch = self.source.begin(chosen, generators, self.rules, self._max_steps, self.max_episode_steps)
        self._slots.put(slots, state, batch.indices, batch.augmentation)
        if scene_indices is None:
            self.scenes.expect(sampler.peek() for sampler in samplers)
        self._check()

    def _check(self) -> None:
        """Look at the actions and at the masks of a decoder of one's own since the last reset.

        Raises:
            ValueError: they are no numbers, or no probabilities.
        """
        self._actions.check()
        if self._watched is not None:
            self._watched.check()

    def _begin_after_end(self) -> list[int]:
        """Reset the slots that are over before a step, or refuse to step them; returns which they are."""
        slots = [] if self._slots.state is None else self._autoreset.slots_to_begin()
        if slots:
            self._begin(slots)
        return slots

    @torch.no_grad()
    def _advance(self, actions: Tensor, fresh: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rewards and flags of one step; the slots `fresh` sit it out."""
        inputs = self.state, actions, self._slots.mask(fresh)
        if self._graph is None:
            after, rewards, terminated, truncated = self._act(*inputs)
        else:
            settings = self.rules, self.action_scale, self.precision, torch.are_deterministic_algorithms_enabled()
            after, rewards, terminated, truncated = self._graph(self._act, settings, *inputs)
        self._slots.advance(after)
        return rewards, terminated, truncated

    def _act(
        self, state: EnvState, actions: Tensor, sits_out: Tensor | None
    ) -> tuple[EnvState, Tensor, Tensor, Tensor]:
        """What a step computes on the device; see `dynamics.act`."""
        with autocast(self.device, self.precision):
            return dynamics.act(state, actions, self._decode, self.rules, self.action_scale, sits_out)
