"""The environments: thin shells that hold the state and let `dynamics` do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from acis_env import dynamics
from acis_env.augment import Augmentation
from acis_env.context import oracle_context
from acis_env.datasets import Scene, SceneDataset, open_scenes
from acis_env.datasets.packed import PackedScenes
from acis_env.decoder import MaskDecoder
from acis_env.dynamics import EnvState
from acis_env.metrics import segmentation_metrics
from acis_env.networks import ANGLE_BINS, check_device
from acis_env.rendering import episode_frame
from acis_env.reward import SCORES, ScoreName
from acis_env.sampling import load_batch
from acis_env.weights import Pretrained, load_pretrained

ContextSource = Literal["predicted", "oracle"]


def observation_space(size: tuple[int, int]) -> gym.spaces.Dict:
    """What `dynamics.observe` gives for one scene of `size` `(H, W)`."""

    def plane(channels: int) -> gym.spaces.Box:
        return gym.spaces.Box(0, 255, (channels, *size), np.uint8)

    return gym.spaces.Dict(image=plane(3), mask=plane(1), foreground=plane(1), angles=plane(ANGLE_BINS))


class SegmentationVectorEnv(VectorEnv[dict[str, Tensor], Tensor, Tensor]):
    """Segments one scene per slot, one instance per step, all slots in one batch on one device.

    Every slot begins with an empty mask. An action in [-1, 1] is scaled to a latent code, decoded to the mask of
    one instance and added to the accumulated mask; the reward is the growth of the potential. An episode ends
    after as many steps as its scene has instances, and its slot begins the next in the same step
    (`AutoresetMode.SAME_STEP`): the last observation and info are in `infos["final_obs"]` and
    `infos["final_info"]`. Observations, rewards and flags are tensors on `device`.

    Slot `i` draws from its own generator, seeded `seed + i`, so its episodes do not depend on `num_envs`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (Gymnasium's contract)

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        device: str | torch.device = "cpu",
        *,
        scenes: str | Path | SceneDataset,
        weights: str | Path | Pretrained,
        split: str = "train",
        scene_options: Mapping[str, Any] | None = None,
        context: ContextSource = "predicted",
        score: ScoreName = "dice",
        action_scale: float = 3.0,
        augmentation: Mapping[str, Any] | None = None,
        cut_off: float = 0.5,
    ) -> None:
        """Open the scenes and load the frozen networks.

        Args:
            num_envs: number of slots.
            max_episode_steps: truncate an episode after so many steps; None lets it end by itself.
            render_mode: None or "rgb_array".
            device: of all tensors.
            scenes: "leaves", a folder of `<id>_rgb.png` and `<id>_label.png`, or a data set.
            weights: a bundled name, a folder made by `acis pretrain`, or the loaded networks.
            split: "train", "val" or "test"; of a folder, the subfolder of that name (see `open_scenes`).
            scene_options: further keyword arguments of `Leaves` or `FolderScenes`.
            context: "predicted" by the context network from the image, or the "oracle" made from the label map.
            score: "dice" or "iou", `F` of Eq. (4).
            action_scale: standard deviations of the latent prior that an action of 1 stands for.
            augmentation: keyword arguments of `Augmentation`, applied at every reset; None for none.
            cut_off: probability in (0, 1) below which a pixel of the label map is background.

        Raises:
            FileNotFoundError: scenes or weights are missing.
            ValueError: an argument is outside of its range, or a file is damaged.
        """
        check_device(device)
        _check_arguments(num_envs, max_episode_steps, render_mode, context, score, action_scale, cut_off)
        self.pretrained = weights if isinstance(weights, Pretrained) else load_pretrained(weights)
        self.pretrained.to(device)
        self.pretrained.context_network.eval()  # batch statistics would tie the slots to each other
        self.decoder: MaskDecoder = self.pretrained.autoencoder.decoder.freeze()
        self.device = torch.device(device)
        size = self.pretrained.size
        if isinstance(scenes, str | Path):
            scenes = open_scenes(str(scenes), split, size, scene_options)
        self.scenes = PackedScenes(scenes, size, device)
        self.max_episode_steps = max_episode_steps
        self.context_source = context
        self.score: ScoreName = score
        self.action_scale = action_scale
        self.augmentation = _open_augmentation(augmentation)
        self.cut_off = cut_off

        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode.SAME_STEP
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        latent_size = self.pretrained.autoencoder.config.latent_size
        self.single_observation_space = observation_space(size)
        self.single_action_space = gym.spaces.Box(-1, 1, (latent_size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._generators = [seeding.np_random(None)[0] for _ in range(num_envs)]
        self._scene_indices = torch.zeros(num_envs, dtype=torch.int64)
        self._state: EnvState | None = None

    @property
    def state(self) -> EnvState:
        """The episodes under way.

        Raises:
            RuntimeError: before the first `reset`.
        """
        if self._state is None:
            raise RuntimeError("call reset() before anything that needs an episode")
        return self._state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Begin a new episode in every slot.

        Args:
            seed: slot `i` is seeded `seed + i`; None continues the generators.
            options: `{"scene_index": int or [num_envs] ints}` chooses the scenes of these episodes.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._generators = [seeding.np_random(seed + slot)[0] for slot in range(self.num_envs)]
        self._state = self._begin(range(self.num_envs), self._chosen_scenes(options))
        return dynamics.observe(self.state), _with_masks(self._info(self.state))

    def step(
        self, actions: Tensor | NDArray[np.float32]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Add one mask in every slot; slots whose episode ends begin the next.

        Args:
            actions: `[num_envs, l]`; values outside of [-1, 1] are clipped.

        Returns:
            Observations `[num_envs, ...]` uint8, rewards `[num_envs]`, terminated and truncated
            `[num_envs]` bool, infos.

        Raises:
            ValueError: `actions` has another shape or holds NaN or infinity.
        """
        last, rewards, terminated, truncated = self._advance(actions)
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if done.any():
            infos = self._final_infos(last, done)
            slots = done.nonzero()[:, 0]
            self._state = last.merge(slots, self._begin(slots.tolist()))
        infos |= _with_masks(self._info(self.state))
        return dynamics.observe(self.state), rewards, terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One frame `[h, w, 3]` uint8 per slot: image, ground truth, and masks coloured by order (as Fig. 4)."""
        if self.render_mode is None:
            return None
        predictions = self.label_map.numpy(force=True)
        steps, potentials = self.state.step_count.tolist(), self.state.potential.tolist()
        return tuple(
            episode_frame(scene.image, scene.label_map, prediction, step, scene.num_instances, potential)
            for scene, prediction, step, potential in zip(self.scene, predictions, steps, potentials, strict=True)
        )

    @property
    def scene(self) -> tuple[Scene, ...]:
        """The scene of each slot as it is now: resized and augmented."""
        images = (self.state.context[:, :3] * 255).round().byte().numpy(force=True)
        label_maps = self.state.label_map.int().numpy(force=True)
        names = (self.scenes.scene(index).name for index in self._scene_indices.tolist())
        return tuple(Scene(*parts) for parts in zip(images, label_maps, names, strict=True))

    @property
    def label_map(self) -> Tensor:
        """Hard prediction so far, `[num_envs, H, W]` int64, labels in the order of prediction."""
        return dynamics.label_prediction(self.state, self.cut_off)

    def _chosen_scenes(self, options: Mapping[str, Any] | None) -> list[int] | None:
        if options is None or options.get("scene_index") is None:
            return None
        chosen = np.asarray(options["scene_index"])
        if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (self.num_envs,)):
            raise ValueError(
                f"options['scene_index'] must be an int or [num_envs] = [{self.num_envs}] ints, "
                f"got {options['scene_index']!r}"
            )
        return [int(index) for index in np.broadcast_to(chosen, self.num_envs)]

    def _begin(self, slots: Sequence[int], scene_indices: Sequence[int] | None = None) -> EnvState:
        """New episodes for `slots`, each drawn by the slot's own generator."""
        generators = [self._generators[slot] for slot in slots]
        if scene_indices is None:
            scene_indices = [int(generator.integers(len(self.scenes))) for generator in generators]
        batch = load_batch(self.scenes, scene_indices, self.augmentation, generators)
        self._scene_indices[list(slots)] = batch.indices
        capacity = self.scenes.max_instances
        if self.context_source == "oracle":
            context = oracle_context(batch.images, batch.label_maps, capacity)
        else:
            context = self.pretrained.context_network.context(batch.images)
        return dynamics.reset(context, batch.label_maps, self.decoder, capacity, capacity)

    @torch.no_grad()
    def _advance(self, actions: Tensor | NDArray[np.float32]) -> tuple[EnvState, Tensor, Tensor, Tensor]:
        """Take one step without any reset: new state, rewards, terminated, truncated."""
        latent = self._check_actions(actions).clamp(-1, 1) * self.action_scale
        self._state, rewards = dynamics.step(self.state, latent, self.decoder, self.score)
        terminated = dynamics.is_complete(self._state)
        truncated = torch.zeros_like(terminated)
        if self.max_episode_steps is not None:
            truncated = (self._state.step_count >= self.max_episode_steps) & ~terminated
        return self._state, rewards, terminated, truncated

    def _check_actions(self, actions: Tensor | NDArray[np.float32]) -> Tensor:
        tensor = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        if tensor.shape != expected:
            raise ValueError(
                f"actions must be [num_envs, l] = {list(expected)}, got {list(tensor.shape)}; "
                "was the decoder pre-trained with another latent size?"
            )
        if not torch.isfinite(tensor).all():
            slots = (~torch.isfinite(tensor)).any(1).nonzero()[:, 0].tolist()
            raise ValueError(f"actions must be finite, got NaN or infinity in slots {slots}")
        return tensor

    def _info(self, state: EnvState) -> dict[str, Tensor]:
        return {
            "potential": state.potential.clone(),
            "num_instances": state.num_instances.clone(),
            "step_count": state.step_count.clone(),
            "assignment": state.assignment.clone(),
        }

    def _final_infos(self, last: EnvState, done: Tensor) -> dict[str, Any]:
        """The last observation and info of the slots that are `done`, and the metrics of their label maps."""
        info = self._info(last)
        rows = {slot: self._metrics(last, slot) for slot in done.nonzero()[:, 0].tolist()}
        for key in next(iter(rows.values())):
            info[key] = torch.zeros(self.num_envs, device=self.device)
            for slot, metrics in rows.items():
                info[key][slot] = metrics[key]
        return {
            "final_obs": dynamics.observe(last),
            "_final_obs": done.clone(),
            "final_info": _with_masks(info, done),
            "_final_info": done.clone(),
        }

    def _metrics(self, state: EnvState, slot: int) -> dict[str, float]:
        episode = state.select(slice(slot, slot + 1))
        prediction = dynamics.label_prediction(episode, self.cut_off)[0].numpy(force=True)
        return segmentation_metrics(prediction, episode.label_map[0].numpy(force=True))


class SegmentationEnv(gym.Env[dict[str, NDArray[np.uint8]], NDArray[np.float32]]):
    """One scene at a time, in numpy: the one-slot view of `SegmentationVectorEnv`, without automatic resets.

    The `info` of the last step has the metrics of the finished label map. An episode that is cut by Gymnasium's
    `TimeLimit` (`gymnasium.make(..., max_episode_steps=k)`) ends without them: that wrapper knows of none.
    """

    metadata: dict[str, Any] = SegmentationVectorEnv.metadata

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        """Take the keyword arguments of `SegmentationVectorEnv`, `num_envs` excepted."""
        self._slot = SegmentationVectorEnv(num_envs=1, render_mode=render_mode, **kwargs)
        self.render_mode = render_mode
        self.observation_space = self._slot.single_observation_space
        self.action_space = self._slot.single_action_space
        self._is_over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any]]:
        """Begin an episode; `options={"scene_index": i}` chooses its scene."""
        super().reset(seed=seed)
        self._slot._generators = [self.np_random]
        self._slot.reset(options=options)
        self._is_over = False
        return self._observation(), self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[np.uint8]], float, bool, bool, dict[str, Any]]:
        """Add one mask.

        Raises:
            ValueError: `action` is not `[l]` or not finite.
            RuntimeError: the episode is over.
        """
        if self._is_over:
            raise RuntimeError("the episode is over (or none has begun): call reset()")
        action = np.asarray(action, dtype=np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(f"action must be [l] = {list(self.action_space.shape or ())}, got {list(action.shape)}")
        state, rewards, terminated, truncated = self._slot._advance(action[None])
        self._is_over = bool(terminated | truncated)
        info = self._info()
        if self._is_over:
            info |= self._slot._metrics(state, 0)
        return self._observation(), float(rewards), bool(terminated), bool(truncated), info

    def render(self) -> NDArray[np.uint8] | None:
        """A frame `[h, w, 3]` uint8, as `SegmentationVectorEnv.render`."""
        frames = self._slot.render()
        return None if frames is None else frames[0]

    @property
    def scene(self) -> Scene:
        """The scene under way, resized and augmented."""
        return self._slot.scene[0]

    @property
    def decoder(self) -> MaskDecoder:
        """The frozen mask decoder."""
        return self._slot.decoder

    @property
    def label_map(self) -> NDArray[np.int64]:
        """Hard prediction so far, `[H, W]` int64, labels in the order of prediction."""
        return self._slot.label_map[0].numpy(force=True)

    def _observation(self) -> dict[str, NDArray[np.uint8]]:
        return {key: value[0].numpy(force=True) for key, value in dynamics.observe(self._slot.state).items()}

    def _info(self) -> dict[str, Any]:
        state = self._slot.state
        steps = int(state.step_count)
        return {
            "potential": float(state.potential),
            "num_instances": int(state.num_instances),
            "step_count": steps,
            "assignment": state.assignment[0, :steps].numpy(force=True).copy(),
        }


def _open_augmentation(arguments: Mapping[str, Any] | None) -> Augmentation | None:
    try:
        return None if arguments is None else Augmentation(**arguments)
    except TypeError as error:
        raise ValueError(f"augmentation {dict(arguments or {})}: {error}") from error


def _with_masks(info: Mapping[str, Tensor], mask: Tensor | None = None) -> dict[str, Tensor]:
    """Add Gymnasium's `_key` for every key: the slots in which it holds."""
    everywhere = torch.ones(len(next(iter(info.values()))), dtype=torch.bool)
    masks = {f"_{key}": (everywhere.to(value.device) if mask is None else mask.clone()) for key, value in info.items()}
    return {**info, **masks}


def _check_arguments(
    num_envs: int,
    max_episode_steps: int | None,
    render_mode: str | None,
    context: str,
    score: str,
    action_scale: float,
    cut_off: float,
) -> None:
    checks = (
        ("num_envs", num_envs, num_envs >= 1, "at least 1"),
        (
            "max_episode_steps",
            max_episode_steps,
            max_episode_steps is None or max_episode_steps >= 1,
            "None or at least 1",
        ),
        ("render_mode", render_mode, render_mode in (None, "rgb_array"), 'None or "rgb_array"'),
        ("context", context, context in ("predicted", "oracle"), '"predicted" or "oracle"'),
        ("score", score, score in SCORES, f"one of {SCORES}"),
        ("action_scale", action_scale, action_scale > 0, "positive"),
        ("cut_off", cut_off, 0 < cut_off < 1, "between 0 and 1"),
    )
    for name, value, holds, expected in checks:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {value!r}")
