"""skrl: the vector environment as one of its wrapped environments, and true next observations for its agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

try:
    from skrl import config
    from skrl.agents.torch import Agent
    from skrl.envs.wrappers.torch import Wrapper
    from skrl.utils.spaces.torch import flatten_tensorized_space
except ImportError as error:
    raise ImportError('acis_env.adapters.skrl needs skrl 2: pip install "acis-env[skrl]"') from error


class SkrlWrapper(Wrapper):  # type: ignore[misc]
    """A `SegmentationVectorEnv`, or a Gymnasium wrapper around one, as skrl's trainers and agents use it.

    Observations are flat, `[num_envs, size]` float32, in the order of `skrl.utils.spaces.torch`: models take them
    apart with `unflatten_tensorized_space`. Planes of uint8 become numbers in [0, 1], and `observation_space` says so.
    Rewards are `[num_envs, 1]` float32, flags `[num_envs, 1]` bool; everything stays on the environment's device.

    A slot whose episode ends begins the next in the same step. skrl's trainers then hand one tensor to the agent both
    as the next observation of the old episode and as the first of the new one, so with several slots its agents
    never see how an episode ended. Episodes that terminate lose nothing: no agent looks beyond them. For those that
    are truncated (`max_episode_steps`), and for anything else that reads `next_observations`, put
    `FinalObservations` in front of the agent's class. With one slot, skrl's trainers reset by themselves, and `step`
    returns the observation after the last step of the episode.

    `infos` are the environment's, but for `final_obs`, flat as observations are, and `episode`, the means over the
    episodes that ended in this step, which skrl's trainers write to TensorBoard.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], seed: int | None = None) -> None:
        """Wrap an environment of autoreset mode SAME_STEP.

        Args:
            env: environment made by `gymnasium.make_vec`.
            seed: seed of the first reset; None takes that of `skrl.utils.set_seed`, which is 0 where it was not called.

        Raises:
            ValueError: the environment resets in another way.
        """
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f'env must have autoreset_mode="SameStep" for skrl, got {mode}')
        super().__init__(env)
        self._seed: int | None = config.torch.key if seed is None else seed
        self._begun: tuple[Tensor, dict[str, Any]] | None = None

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Space of one slot's observation."""
        return _scaled_space(self._env.single_observation_space)

    @property
    def action_space(self) -> gym.Space[Any]:
        """Space of one slot's action."""
        space: gym.Space[Any] = self._env.single_action_space
        return space

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        """Begin an episode in every slot; where the only slot has just begun one by itself, return that."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            return begun
        observations, infos = self._env.reset(seed=self._seed)
        self._seed = None
        return _flatten(observations), infos

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Add one mask in every slot.

        Args:
            actions: `[num_envs, a]`; values outside of [-1, 1] are clipped.
        """
        raw, rewards, terminated, truncated, infos = self._env.step(actions)
        observations, infos = _flatten(raw), dict(infos)
        self._begun = None
        if "final_obs" in infos:
            infos["final_obs"] = _flatten(infos["final_obs"])
            infos["episode"] = {**infos.get("episode", {}), **_episode_means(infos)}
            if self.num_envs == 1:
                self._begun = observations, {k: v for k, v in infos.items() if not k.startswith(("final_", "_final_"))}
                observations = infos["final_obs"]
        return observations, rewards[:, None], terminated[:, None], truncated[:, None], infos

    def state(self) -> Tensor | None:
        """State that only critics see: None, as they see what the policy sees."""
        return None

    def render(self, *args: Any, **kwargs: Any) -> Any:
        """Draw a frame per slot (see `SegmentationVectorEnv.render`)."""
        return self._env.render(*args, **kwargs)

    def close(self) -> None:
        """Close the environment; may be called twice."""
        self._env.close()


class FinalObservations(Agent):  # type: ignore[misc]
    """Put before a class of skrl's agents, it records how finished episodes ended, not how the next ones begin.

        class FinalObservationPPO(FinalObservations, PPO): ...

    Replay memories then store the true next observation. PPO and its kin bootstrap from it where an episode is
    truncated, provided that `time_limit_bootstrap` is on: without that they take the first value of the next episode.
    """

    def record_transition(self, *, next_observations: Tensor, infos: Mapping[str, Any], **transition: Any) -> None:
        """Record a transition, with `next_observations` from `infos["final_obs"]` where an episode ended."""
        if "final_obs" in infos:
            next_observations = torch.where(infos["_final_obs"][:, None], infos["final_obs"], next_observations)
        super().record_transition(next_observations=next_observations, infos=infos, **transition)


def _flatten(observations: Tensor | Mapping[str, Tensor]) -> Tensor:
    """`[num_envs, size]` float32, in the order of skrl; uint8 planes in [0, 1]."""
    if isinstance(observations, Mapping):
        scaled: Any = {name: _scale(planes) for name, planes in observations.items()}
    else:
        scaled = _scale(observations)
    flat: Tensor = flatten_tensorized_space(scaled)
    return flat


def _scale(planes: Tensor) -> Tensor:
    return planes.float() / 255 if planes.dtype == torch.uint8 else planes


def _scaled_space(space: gym.Space[Any]) -> gym.Space[Any]:
    if isinstance(space, gym.spaces.Dict):
        return gym.spaces.Dict({name: _scaled_space(part) for name, part in space.items()})
    if isinstance(space, gym.spaces.Box) and space.dtype == np.uint8:
        return gym.spaces.Box(0, 1, space.shape, np.float32)
    return space


def _episode_means(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    """The mean over the episodes that ended, of each of their numbers."""
    final, ended = infos["final_info"], infos["_final_info"]
    names = [name for name, value in final.items() if not name.startswith("_") and value.dim() == 1]
    return {name: final[name][ended].float().mean() for name in names if name != "scene_index"}
