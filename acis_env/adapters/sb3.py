"""The vector environment for Stable-Baselines3 and sb3-contrib."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import optree
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from acis_env.vector_env import SegmentationVectorEnv

try:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('SB3VecEnv needs Stable-Baselines3: pip install "acis-env[sb3]"') from error

from acis_env.adapters.sb3_replay import EPISODE_KEYS, EnvReference, Info, SB3Observation, SceneReplayBuffer

__all__ = ["EnvReference", "SB3VecEnv", "SceneReplayBuffer"]


class SB3VecEnv(VecEnv):
    """A `VecEnv` around a `SegmentationVectorEnv` in mode SAME_STEP, which it resets and steps.

    Everything comes as numpy arrays, in one copy from the device per step. The info of a step has the keys
    `scene_index` and `augmentation` of the transition's episode; at the end of an episode also all of its
    `final_info` (`potential`, `sbd`, `is_success`, ...), `terminal_observation` and `TimeLimit.truncated`.
    `reset_infos` has the infos of the episodes under way as they began.

    Attributes:
        env: the vector environment.
        replay_source: for `SceneReplayBuffer`.
        spec: that of `env`.
    """

    def __init__(self, env: SegmentationVectorEnv) -> None:
        """Take the environment over.

        Raises:
            TypeError: `env` is something else, or wrapped; the wrappers to use are those of Stable-Baselines3.
            ValueError: its `autoreset_mode` is not "SameStep".
        """
        if not isinstance(env, SegmentationVectorEnv):
            raise TypeError(f"env must be a SegmentationVectorEnv without wrappers, got {type(env).__name__}")
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                'env must have autoreset_mode="SameStep", the one that Stable-Baselines3 expects, '
                f'got "{env.autoreset_mode.value}"'
            )
        self.env = env
        self.spec = env.spec
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    @property
    def replay_source(self) -> EnvReference:
        """Where a `SceneReplayBuffer` takes the context from."""
        return EnvReference(self.env)

    def reset(self) -> SB3Observation:
        """Begin an episode in every slot, with the seeds and options that were set since the last reset."""
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        observations, infos = self.env.reset(seed=seeds, options=_merge_options(self._options))
        self._reset_seeds()
        self._reset_options()
        host = _to_host({"observations": observations, "infos": _values(infos)})
        self.reset_infos = [_info(host["infos"], slot) for slot in range(self.num_envs)]
        observed: SB3Observation = host["observations"]
        return observed

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Keep the actions `[num_envs, a]` for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[SB3Observation, NDArray[np.float32], NDArray[np.bool_], list[Info]]:
        """Observations, rewards `[num_envs]` float32, dones `[num_envs]` bool, and one info per slot."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        results: dict[str, Any] = {
            "observations": observations,
            "rewards": rewards,
            "terminated": terminated,
            "truncated": truncated,
            "infos": _values(infos),
        }
        if "final_obs" in infos:
            ended = infos["_final_obs"].nonzero()[:, 0]
            final: Any = {"final_obs": infos["final_obs"], "final_info": _values(infos["final_info"])}
            results |= optree.tree_map(lambda value: value[ended], final)
        host = _to_host(results)
        dones = host["terminated"] | host["truncated"]
        indices, augmentation = (host["infos"][key] for key in EPISODE_KEYS)
        found: list[Info] = [
            {"scene_index": int(index), "augmentation": row} for index, row in zip(indices, augmentation, strict=True)
        ]
        for row, slot in enumerate(np.flatnonzero(dones).tolist()):
            self.reset_infos[slot] = _info(host["infos"], slot)
            found[slot] = _info(host["final_info"], row)
            found[slot]["terminal_observation"] = _row(host["final_obs"], row)
            found[slot]["TimeLimit.truncated"] = bool(host["truncated"][slot] and not host["terminated"][slot])
        return host["observations"], host["rewards"], dones, found

    def close(self) -> None:
        """Close the environment; may be called twice."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute or rule `attr_name` of the slots `indices`."""
        values = self.env.get_attr(attr_name)
        return [values[slot] for slot in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Change a rule in every slot (see `SegmentationVectorEnv.set_attr`).

        Raises:
            ValueError: `indices` leaves a slot out: all slots have the same rules.
        """
        slots = sorted(self._get_indices(indices))
        if slots != list(range(self.num_envs)):
            raise ValueError(f"indices must be None or all {self.num_envs} slots, which share {attr_name}, got {slots}")
        self.env.set_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the environment.

        Where it takes `env_ids`, as `get_state`, `set_state` and `render` do, it is called for each slot on its own,
        otherwise once for all of them.
        """
        method = getattr(self.env, method_name)
        slots = list(self._get_indices(indices))
        if "env_ids" in inspect.signature(method).parameters:
            return [method(*method_args, env_ids=[slot], **method_kwargs) for slot in slots]
        results = self.env.call(method_name, *method_args, **method_kwargs)
        return [results[slot] for slot in slots]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Say False for every slot: there are no single environments that could be wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One frame `[h, w, 3]` uint8 per slot; None where the environment has no `render_mode`."""
        frames = self.env.render()
        if frames is None:
            warnings.warn('the environment draws nothing: make it with render_mode="rgb_array"', stacklevel=2)
            return [None] * self.num_envs
        return frames


def _merge_options(options: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Options of a vector environment from those of its slots."""
    if not any(options):
        return None
    if any(set(own) != {"scene_index"} for own in options):
        raise ValueError(f"options must hold 'scene_index' for every slot and nothing else, got {list(options)}")
    return {"scene_index": [own["scene_index"] for own in options]}


def _values(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    """The entries of every slot, without their masks and the final ones."""
    return {key: value for key, value in infos.items() if not key.startswith(("_", "final_"))}


def _row(values: Any, row: int) -> Any:
    """Row `row` of arrays, in memory of its own."""
    return optree.tree_map(lambda value: value[row].copy(), values)


def _info(infos: Mapping[str, NDArray[Any]], row: int) -> Info:
    """The info of one slot: Python numbers where they are single."""
    info = {key: value[row].item() if value.ndim == 1 else value[row].copy() for key, value in infos.items()}
    info["assignment"] = info["assignment"][: info["step_count"]]
    return info


def _to_host(tree: Any) -> Any:
    """The tensors in nested dicts as arrays, in a single copy from their device."""
    leaves: list[Tensor]
    leaves, structure = optree.tree_flatten(tree)
    # The widest come first, so that every array begins at a multiple of its item size.
    order = sorted(range(len(leaves)), key=lambda index: -leaves[index].element_size())
    flat = torch.cat([leaves[i].contiguous().flatten().view(torch.uint8) for i in order]).numpy(force=True)
    arrays: list[Any] = [None] * len(leaves)
    start = 0
    for i in order:
        part = flat[start : start + leaves[i].nbytes]
        arrays[i] = part.view(str(leaves[i].dtype).removeprefix("torch.")).reshape(leaves[i].shape)
        start += leaves[i].nbytes
    return optree.tree_unflatten(structure, arrays)
