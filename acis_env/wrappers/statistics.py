"""Return, length and duration of every episode, kept on the device."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from acis_env.arguments import parse_env_ids
from acis_env.snapshot import Snapshot
from acis_env.wrappers.base import Wrapper, reset_slots


class RecordEpisodeStatistics(Wrapper):
    """Gymnasium's wrapper of this name for environments whose rewards and flags are tensors.

    When episodes end, `infos["episode"]` holds tensors `[num_envs]`, zero in all other slots: the return `r`, the
    length `l` int64 and the duration `t` in seconds; `infos["_episode"]` is True for these slots.

    A step without an end moves nothing to the host with SAME_STEP, and one flag in the other modes.

    Attributes:
        episode_returns: `[num_envs]`, sum of the rewards so far.
        episode_lengths: `[num_envs]` int64, steps so far; the step with which NEXT_STEP begins an episode is none.
        episode_count: number of episodes that ended.
        return_queue: returns of the last `buffer_length` of them, Python numbers; `length_queue` and `time_queue`
            alike.
    """

    def __init__(self, env: VectorEnv[Any, Any, Tensor], buffer_length: int = 100, stats_key: str = "episode") -> None:
        """Wrap `env`.

        Args:
            env: one whose metadata names its autoreset mode.
            buffer_length: number of episodes that the queues hold.
            stats_key: takes the place of "episode" in `infos`.

        Raises:
            ValueError: `env.metadata` names no autoreset mode.
        """
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(f"env.metadata['autoreset_mode'] must be an AutoresetMode, got {mode!r}")
        self._is_same_step = mode is AutoresetMode.SAME_STEP
        self._stats_key = stats_key
        self.return_queue: deque[float] = deque(maxlen=buffer_length)
        self.length_queue: deque[int] = deque(maxlen=buffer_length)
        self.time_queue: deque[float] = deque(maxlen=buffer_length)
        self.episode_count = 0
        device = getattr(env, "device", "cpu")
        self.episode_returns = torch.zeros(self.num_envs, device=device)
        self.episode_lengths = torch.zeros(self.num_envs, dtype=torch.int64, device=device)
        self._is_over = torch.zeros(self.num_envs, dtype=torch.bool, device=device)  # the next step begins an episode
        self._slots_over: list[int] = []  # the slots of `_is_over`, on the host, where the clock is
        self._start_times = np.full(self.num_envs, time.perf_counter())

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, and the statistics of the slots that begin anew."""
        slots = reset_slots(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._begin(slots)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step the environment.

        Raises:
            ValueError: `infos` holds `stats_key` already.
        """
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self.episode_returns = torch.where(self._is_over, 0, self.episode_returns + rewards)
        self.episode_lengths = torch.where(self._is_over, 0, self.episode_lengths + 1)
        self._start_times[self._slots_over] = time.perf_counter()
        done = terminated | truncated
        self._is_over, self._slots_over = done, []
        if self._some_ended(done, infos):
            self._record(done, infos)
        return observations, rewards, terminated, truncated, infos

    def set_state(self, snapshot: Snapshot, env_ids: Sequence[int] | None = None) -> None:
        """Put states back (see `SegmentationVectorEnv.set_state`); statistics of these slots count from there on."""
        self.env.set_state(snapshot, env_ids)
        slots = parse_env_ids(env_ids, self.num_envs)
        self._begin(slots)
        self._is_over[slots] = snapshot.is_over.to(self._is_over.device)
        self._slots_over = self._is_over.nonzero().flatten().tolist()

    def _begin(self, slots: list[int]) -> None:
        index = torch.tensor(slots, dtype=torch.int64, device=self._is_over.device)
        self.episode_returns = self.episode_returns.index_fill(0, index, 0)
        self.episode_lengths = self.episode_lengths.index_fill(0, index, 0)
        self._is_over = self._is_over.index_fill(0, index, False)
        self._slots_over = [slot for slot in self._slots_over if slot not in slots]
        self._start_times[slots] = time.perf_counter()

    def _some_ended(self, done: Tensor, infos: dict[str, Any]) -> bool:
        # With SAME_STEP the keys of infos say so, which spares the wait for the device.
        return "_final_obs" in infos if self._is_same_step else bool(done.any())

    def _record(self, done: Tensor, infos: dict[str, Any]) -> None:
        """Add the episodes that are `done` to `infos` and to the queues."""
        key = self._stats_key
        if key in infos or f"_{key}" in infos:
            raise ValueError(f"infos must not hold {key!r} before its statistics are added: choose another stats_key")
        slots = done.nonzero().flatten().tolist()
        seconds = np.round(time.perf_counter() - self._start_times, 6)
        times = torch.as_tensor(seconds, dtype=torch.float32, device=done.device)
        infos[key] = {
            "r": torch.where(done, self.episode_returns, 0),
            "l": torch.where(done, self.episode_lengths, 0),
            "t": torch.where(done, times, 0),
        }
        infos[f"_{key}"] = done.clone()
        self.episode_count += len(slots)
        self.return_queue.extend(self.episode_returns[slots].tolist())
        self.length_queue.extend(self.episode_lengths[slots].tolist())
        self.time_queue.extend(seconds[slots].tolist())
        self._slots_over = slots
        if self._is_same_step:  # the next episodes are under way
            self._begin(slots)
