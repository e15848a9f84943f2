"""rsl_rl: the vector environment as its `VecEnv`, and a PPO that bootstraps from true final observations."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

try:
    from rsl_rl.algorithms import PPO
    from rsl_rl.env import VecEnv
    from tensordict import TensorDict
except ImportError as error:
    raise ImportError('acis_env.adapters.rsl_rl needs rsl-rl-lib 5: pip install "acis-env[rsl_rl]"') from error


class RslRlVecEnv(VecEnv):  # type: ignore[misc]
    """A `SegmentationVectorEnv`, or a Gymnasium wrapper around one, as rsl_rl's runners use it.

    Observations are a TensorDict of batch size `[num_envs]`. Kinds "coarse" and "stacked" are one group, "policy"; the
    parts of kind "dict" are groups of their own names ("image", "mask", "foreground", "angles"). Planes of uint8
    become float32 in [0, 1], since rsl_rl's networks take what they get.

    Episodes begin in the constructor, and a slot whose episode ends begins the next in the same step. `extras` hold
    `time_outs` `[num_envs]` bool, where an episode was truncated, and in steps in which episodes end:
    `final_obs`, a TensorDict like the observations, of how they ended (meaningless in other slots), and `log`,
    for each number of the finished episodes ("/episode/sbd", ...) their `K` values.

    All tensors are ordinary ones, although rsl_rl's runners step in `torch.inference_mode`.

    Attributes:
        env: the wrapped environment.
        max_episode_length: steps of the longest episode that may occur.
        cfg: keyword arguments of the environment.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], seed: int | None = None) -> None:
        """Wrap an environment of autoreset mode SAME_STEP, and reset it.

        Args:
            env: environment made by `gymnasium.make_vec`.
            seed: seed of this reset.

        Raises:
            ValueError: the environment resets in another way.
        """
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f'env must have autoreset_mode="SameStep" for rsl_rl, got {mode}')
        base: Any = env.unwrapped
        self.env = env
        self.num_envs = env.num_envs
        self.num_actions = base.single_action_space.shape[0]
        self.device = base.device
        self.cfg = base.arguments
        self.max_episode_length = _longest_episode(base)
        with torch.inference_mode(False):
            observations, _ = env.reset(seed=seed)
            self._observations = self._groups(observations)

    @property
    def episode_length_buf(self) -> Tensor:
        """Steps taken in the episodes under way, `[num_envs]` int64."""
        state: Any = self.env.unwrapped
        steps: Tensor = state.state.step_count.clone()
        return steps

    @episode_length_buf.setter
    def episode_length_buf(self, value: Tensor) -> None:
        warnings.warn(
            "init_at_random_ep_len has no effect: an episode is as old as its masks are many, "
            "and episodes of scenes with different numbers of instances do not end together",
            stacklevel=2,
        )

    def get_observations(self) -> TensorDict:
        """What the agent sees now, in memory of its own."""
        return self._observations.clone()

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """Add one mask in every slot.

        Args:
            actions: `[num_envs, num_actions]`; values outside of [-1, 1] are clipped.

        Returns:
            Observations, rewards `[num_envs]`, dones `[num_envs]` int64, extras.
        """
        with torch.inference_mode(False), torch.no_grad():
            observations, rewards, terminated, truncated, infos = self.env.step(actions)
            self._observations = self._groups(observations)
            extras: dict[str, Any] = {"time_outs": truncated}
            if "final_obs" in infos:
                extras |= {"final_obs": self._groups(infos["final_obs"]), "log": _episodes(infos)}
            return self.get_observations(), rewards, (terminated | truncated).long(), extras

    def close(self) -> None:
        """Close the environment; may be called twice."""
        self.env.close()

    def _groups(self, observations: Tensor | Mapping[str, Tensor]) -> TensorDict:
        groups = observations if isinstance(observations, Mapping) else {"policy": observations}
        scaled = {name: x.float() / 255 if x.dtype == torch.uint8 else x for name, x in groups.items()}
        return TensorDict(scaled, batch_size=[self.num_envs], device=self.device)


class FinalObservationPPO(PPO):  # type: ignore[misc]
    """rsl_rl's PPO, but a truncated episode is worth what the critic says of its final observation.

    rsl_rl takes the value of the observation before the last step instead. The two differ by about one reward, which
    is much in episodes of a few steps. Select it by `"class_name": "acis_env.adapters.rsl_rl:FinalObservationPPO"`.
    """

    def process_env_step(self, obs: TensorDict, rewards: Tensor, dones: Tensor, extras: dict[str, Any]) -> None:
        """Record a step, and add the discounted value of `extras["final_obs"]` to rewards of truncated episodes."""
        if "final_obs" in extras:
            memory = self.critic.get_hidden_state()
            values = self.critic(extras["final_obs"].to(self.device)).detach()[:, 0]
            self.critic.reset(hidden_state=memory)
            rewards = rewards + self.gamma * values * extras["time_outs"].to(self.device)
            extras = {name: value for name, value in extras.items() if name != "time_outs"}
        super().process_env_step(obs, rewards, dones, extras)


def _longest_episode(env: Any) -> int:
    limit, instances = env.max_episode_steps, env.scenes.max_instances
    if env.rules.stop == "agent":
        return int(limit)
    return int(instances if limit is None else min(limit, instances))


def _episodes(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    """Each number of the `K` episodes that ended, `[K]`; rsl_rl's logger averages them over an iteration."""
    final, ended = infos["final_info"], infos["_final_info"]
    names = [name for name, value in final.items() if not name.startswith("_") and value.dim() == 1]
    return {f"/episode/{name}": final[name][ended].float() for name in names if name != "scene_index"}
