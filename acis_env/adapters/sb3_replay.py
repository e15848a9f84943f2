"""A replay buffer for Stable-Baselines3 that keeps masks, and makes the context again when it is needed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from acis_env.augment import NUM_PARAMETERS
from acis_env.networks import IMAGE_CHANNELS
from acis_env.observations import CHANNELS
from acis_env.ops.planes import to_uint8
from acis_env.vector_env import SegmentationVectorEnv

SB3Observation = dict[str, NDArray[Any]] | NDArray[Any]
Info = dict[str, Any]

EPISODE_KEYS = ("scene_index", "augmentation")
"""Keys of every info: the numbers from which the context of the transition's episode can be made again."""


class EnvReference:
    """An environment that pickling leaves behind, so that saving an algorithm does not save its environment.

    Attributes:
        env: None after unpickling.
    """

    def __init__(self, env: SegmentationVectorEnv | None = None) -> None:
        self.env = env

    def __reduce__(self) -> tuple[type[EnvReference], tuple[()]]:
        return EnvReference, ()


class SceneReplayBuffer(ReplayBuffer):
    """Replay for "dict" and "stacked" observations that keeps masks and makes the rest of the planes again.

    The context (image, foreground, angles) stays the same in an episode. The buffer keeps the scene and the
    augmentation from which it came, the mask before each step, and the mask after it only where that is not the mask
    before the next one: at the end of an episode. Samples are those of Stable-Baselines3's own buffers, up to one
    grey level where the rounding in the context network depends on how many pictures it sees at a time.

    Memory per transition, uint8 observations `[13, H, W]`, actions `[a]`, episodes of `N` steps:
    `(1 + 1/N) H W + 4 a + 48` bytes here, `26 H W + 4 a + 12` there. For `N = 6` and `a = 16` that is 4.9 kB instead of
    107 kB at 64x64, and 59 kB instead of 1305 kB at 224x224.

    Without augmentation, contexts of scenes are kept on the environment's device once they were needed.

        venv = VecMonitor(SB3VecEnv(env))
        kwargs = {"source": venv.replay_source}
        model = TD3("CnnPolicy", venv, replay_buffer_class=SceneReplayBuffer, replay_buffer_kwargs=kwargs)

    Neither the algorithm nor the buffer is saved with the environment, so it is given back on loading:

        model = TD3.load(path, env=venv, replay_buffer_kwargs={"source": venv.replay_source})
        model.load_replay_buffer(buffer_path)
        model.replay_buffer.set_source(venv.replay_source)

    It must have the same scenes, weights, context, and whether there is augmentation.
    """

    observations: NDArray[Any]
    """Masks before the steps, `[buffer_size, num_envs, H, W]`."""

    def __init__(
        self,
        buffer_size: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        source: EnvReference | None = None,
        cache_bytes: int = 2**28,
    ) -> None:
        """Reserve memory.

        Args:
            buffer_size: transitions, in all slots together.
            observation_space: space of one scene's observation, "dict" or "stacked".
            action_space: space of one scene's action.
            device: where samples are put.
            n_envs: number of slots.
            optimize_memory_usage: must be False; the buffer shares masks between transitions anyway.
            handle_timeout_termination: a truncated transition counts as one that goes on.
            source: `SB3VecEnv.replay_source`; may be given later, by `set_source`.
            cache_bytes: largest memory for contexts that are kept.

        Raises:
            ValueError: the observations are of another kind, or `source` makes others.
        """
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        if optimize_memory_usage:
            raise ValueError("optimize_memory_usage must be False: this buffer shares masks between transitions anyway")
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.buffer_size = max(buffer_size // n_envs, 1)
        space = _mask_space(observation_space)
        rows = (self.buffer_size, n_envs)
        self.observations = np.zeros((*rows, *space.shape[1:]), dtype=space.dtype)
        self.actions = np.zeros((*rows, self.action_dim), dtype=self._maybe_cast_dtype(action_space.dtype))
        self.rewards = np.zeros(rows, dtype=np.float32)
        self.dones = np.zeros(rows, dtype=np.float32)
        self.timeouts = np.zeros(rows, dtype=np.float32)
        self.scene_index = np.zeros(rows, dtype=np.int64)
        self.augmentation = np.zeros((*rows, NUM_PARAMETERS), dtype=np.float32)
        # The masks after the newest steps, and after those that the next step did not go on from.
        self._newest_masks = self.observations[0].copy()
        self._last_masks: dict[tuple[int, int], NDArray[Any]] = {}
        self._cache: dict[int, Tensor] = {}
        self.cache_bytes = cache_bytes
        self.set_source(source or EnvReference())

    def set_source(self, source: EnvReference) -> None:
        """Take contexts from the environment of `source`.

        Raises:
            TypeError: `source` is no `SB3VecEnv.replay_source`.
            ValueError: its observations are not those of the buffer.
        """
        if not isinstance(source, EnvReference):
            raise TypeError(f"source must be SB3VecEnv.replay_source, got {type(source).__name__}")
        if source.env is not None and source.env.single_observation_space != self.observation_space:
            raise ValueError(
                f"source must have the observations of the buffer, {self.observation_space}, "
                f"got {source.env.single_observation_space}"
            )
        self._source = source
        self._cache = {}

    def add(
        self,
        obs: SB3Observation,
        next_obs: SB3Observation,
        action: NDArray[np.float32],
        reward: NDArray[np.float32],
        done: NDArray[np.bool_],
        infos: list[Info],
    ) -> None:
        """Append one transition of every slot.

        Args:
            obs: `[num_envs, ...]`.
            next_obs: `[num_envs, ...]`, at the end of an episode the last one of it.
            action: `[num_envs, a]`.
            reward: `[num_envs]`.
            done: `[num_envs]`.
            infos: what `SB3VecEnv` gave, one per slot.

        Raises:
            ValueError: the infos come from another environment.
        """
        if any(key not in info for info in infos for key in EPISODE_KEYS):
            raise ValueError(f"infos must have the keys {EPISODE_KEYS} of SB3VecEnv, got {sorted(infos[0])}")
        masks, row = _mask(obs), self.pos
        if self.full or row > 0:
            previous = (row - 1) % self.buffer_size
            goes_on = (masks == self._newest_masks).all(axis=(1, 2))
            for slot in np.flatnonzero(~goes_on).tolist():
                self._last_masks[previous, slot] = self._newest_masks[slot].copy()
        for slot in range(self.n_envs):
            self._last_masks.pop((row, slot), None)
        self.observations[row] = masks
        self._newest_masks[:] = _mask(next_obs)
        self.actions[row] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[row] = reward
        self.dones[row] = done
        if self.handle_timeout_termination:
            self.timeouts[row] = [info.get("TimeLimit.truncated", False) for info in infos]
        self.scene_index[row] = [info["scene_index"] for info in infos]
        self.augmentation[row] = [info["augmentation"] for info in infos]
        self.pos = (row + 1) % self.buffer_size
        self.full = self.full or self.pos == 0

    def reset(self) -> None:
        """Forget all transitions."""
        super().reset()
        self._last_masks.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def _get_samples(  # type: ignore[override]  # as in DictReplayBuffer
        self, batch_inds: NDArray[np.int64], env: VecNormalize | None = None
    ) -> ReplayBufferSamples | DictReplayBufferSamples:
        if env is not None and env.norm_obs:
            raise ValueError("VecNormalize must have norm_obs=False: policies normalise pictures themselves")
        slots = np.random.randint(0, self.n_envs, size=len(batch_inds))  # noqa: NPY002 (as in the parent class)
        at = (batch_inds, slots)
        contexts = self._contexts(self.scene_index[at], self.augmentation[at])
        dones = self.dones[at] * (1 - self.timeouts[at])
        samples: dict[str, Any] = {
            "observations": self._with_masks(contexts, self.observations[at]),
            "actions": self.to_torch(self.actions[at]),
            "next_observations": self._with_masks(contexts, self._masks_after(batch_inds, slots)),
            "dones": self.to_torch(dones[:, None]),
            "rewards": self.to_torch(self._normalize_reward(self.rewards[at][:, None], env)),
        }
        if isinstance(self.observation_space, gym.spaces.Dict):
            return DictReplayBufferSamples(**samples)
        return ReplayBufferSamples(**samples)

    def _masks_after(self, rows: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Masks `[B, H, W]` after the steps at `rows` `[B]` of `slots` `[B]`."""
        masks = self.observations[(rows + 1) % self.buffer_size, slots]
        newest = (self.pos - 1) % self.buffer_size
        for i, (row, slot) in enumerate(zip(rows.tolist(), slots.tolist(), strict=True)):
            if row == newest:
                masks[i] = self._newest_masks[slot]
            elif (row, slot) in self._last_masks:
                masks[i] = self._last_masks[row, slot]
        return masks

    def _contexts(self, scene_index: NDArray[np.int64], augmentation: NDArray[np.float32]) -> Tensor:
        """Contexts `[B, 12, H, W]` in the dtype of observations, on the buffer's device."""
        env = self._source.env
        if env is None:
            raise RuntimeError(
                "the buffer has no environment to take contexts from: "
                "call model.replay_buffer.set_source(venv.replay_source)"
            )
        if env.source.augmentation is not None:
            return self._context_again(env, scene_index, augmentation).to(self.device)
        unknown = sorted(set(scene_index.tolist()) - self._cache.keys())
        if unknown:
            made = self._context_again(env, np.array(unknown), augmentation[: len(unknown)])
            self._cache.update(zip(unknown, made.unbind(), strict=True))
        contexts = torch.stack([self._cache[scene] for scene in scene_index.tolist()])
        capacity = self.cache_bytes // contexts[0].nbytes
        for scene in list(self._cache)[: max(len(self._cache) - capacity, 0)]:
            del self._cache[scene]
        return contexts.to(self.device)

    def _context_again(
        self, env: SegmentationVectorEnv, scene_index: NDArray[np.int64], augmentation: NDArray[np.float32]
    ) -> Tensor:
        contexts = env.source.context_again(torch.from_numpy(scene_index), torch.from_numpy(augmentation))
        return to_uint8(contexts) if self.observations.dtype == np.uint8 else contexts

    def _with_masks(self, contexts: Tensor, masks: NDArray[Any]) -> Tensor | dict[str, Tensor]:
        """Observations `[B, ...]` of contexts `[B, 12, H, W]` and masks `[B, H, W]`."""
        image, others = contexts[:, :IMAGE_CHANNELS], contexts[:, IMAGE_CHANNELS:]
        planes = torch.cat((image, self.to_torch(masks)[:, None], others), dim=1)
        if not isinstance(self.observation_space, gym.spaces.Dict):
            return planes
        parts = planes.split(list(CHANNELS.values()), dim=1)
        return dict(zip(CHANNELS, parts, strict=True))


def _mask_space(space: gym.Space[Any]) -> gym.spaces.Box:
    """The mask's part `[1, H, W]` of a "dict" or "stacked" observation space."""
    if isinstance(space, gym.spaces.Dict) and set(space) == set(CHANNELS):
        mask = space["mask"]
        assert isinstance(mask, gym.spaces.Box)
        return mask
    num_planes = sum(CHANNELS.values())
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.shape[0] == num_planes:
        return gym.spaces.Box(space.low[:1], space.high[:1], dtype=space.dtype.type)
    raise ValueError(
        f'observation_space must be that of obs="dict" or "stacked", [13, H, W], got {space}; '
        "vectors need no buffer of their own, Stable-Baselines3's is right for them"
    )


def _mask(observations: SB3Observation) -> NDArray[Any]:
    """The masks `[B, H, W]` in a batch of "dict" or "stacked" observations."""
    if isinstance(observations, dict):
        return observations["mask"][:, 0]
    return observations[:, IMAGE_CHANNELS]
