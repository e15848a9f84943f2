"""Tensors outside become numpy arrays, in the layout of Gymnasium's own vector environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from acis_env.observations import NumpyObservation, Observation
from acis_env.wrappers.base import Wrapper


class TorchToNumpy(Wrapper):
    """Takes and returns numpy arrays, as `gymnasium.vector.SyncVectorEnv` does in the same autoreset mode.

    Rewards are float64. In `infos`, single numbers are float64, int64 or bool, entries outside of a mask `_key` are
    zero, and `final_obs` is an object array `[num_envs]` of observations, None in slots that are not done.
    """

    def __init__(self, env: VectorEnv[Observation, Any, Tensor]) -> None:
        """Wrap `env`, whose observations are a tensor or a dict of tensors."""
        super().__init__(env)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NumpyObservation, dict[str, Any]]:
        """Reset the environment with the same arguments."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return _observation_to_numpy(observations), _infos_to_numpy(infos)

    def step(
        self, actions: ArrayLike
    ) -> tuple[NumpyObservation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step the environment.

        Args:
            actions: `[num_envs, ...]`, of the dtype of the action space or one that turns into it.
        """
        on_host = np.array(actions, dtype=self.single_action_space.dtype, order="C")
        results = self.env.step(torch.as_tensor(on_host, device=getattr(self.env, "device", "cpu")))
        observations, rewards, terminated, truncated, infos = results
        return (
            _observation_to_numpy(observations),
            rewards.numpy(force=True).astype(np.float64),
            terminated.numpy(force=True),
            truncated.numpy(force=True),
            _infos_to_numpy(infos),
        )


def _observation_to_numpy(observation: Observation) -> NumpyObservation:
    if isinstance(observation, Tensor):
        return observation.numpy(force=True)
    return {key: value.numpy(force=True) for key, value in observation.items()}


def _infos_to_numpy(infos: Mapping[str, Any]) -> dict[str, Any]:
    masks = {key: value.numpy(force=True) for key, value in infos.items() if key.startswith("_")}
    converted: dict[str, Any] = {}
    for key, value in infos.items():
        if key in masks:
            converted[key] = masks[key]
        elif key == "final_obs":
            converted[key] = _one_by_one(value, masks["_final_obs"])
        elif isinstance(value, Mapping):
            converted[key] = _infos_to_numpy(value)
        else:
            converted[key] = _info_to_numpy(value, masks.get(f"_{key}"))
    return converted


def _info_to_numpy(value: Tensor, mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    array = value.numpy(force=True)
    if array.ndim == 1 and array.dtype == np.float32:
        array = array.astype(np.float64)  # what SyncVectorEnv makes of Python numbers
    if mask is not None and not mask.all():
        array = array.copy()
        array[~mask] = 0
    return array


def _one_by_one(observations: Observation, mask: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The observations of the slots in `mask` `[num_envs]`, each in memory of its own."""
    separate = np.full(len(mask), None, dtype=object)
    for slot in np.flatnonzero(mask):
        if isinstance(observations, Tensor):
            separate[slot] = observations[slot].clone().numpy(force=True)
        else:
            separate[slot] = {key: value[slot].clone().numpy(force=True) for key, value in observations.items()}
    return separate
