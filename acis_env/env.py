"""One scene at a time, in numpy, for everything that speaks `gymnasium.Env`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from acis_env.arguments import RULES
from acis_env.datasets import Scene
from acis_env.decoder import Decoder
from acis_env.observations import NumpyObservation, Observation
from acis_env.snapshot import Snapshot
from acis_env.specs import PortableSpec
from acis_env.vector_env import SegmentationVectorEnv


class SegmentationEnv(PortableSpec, gym.Env[NumpyObservation, NDArray[np.float32]]):
    """One scene at a time, in numpy: the one-slot view of `SegmentationVectorEnv`, without automatic resets.

    The `info` of the last step has the metrics of the finished label map. An episode that is cut by Gymnasium's
    `TimeLimit` (`gymnasium.make(..., max_episode_steps=k)`) ends without them: that wrapper knows of none.
    """

    metadata: dict[str, Any] = SegmentationVectorEnv.metadata

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        """Take the keyword arguments of `SegmentationVectorEnv`, but for `num_envs` and `autoreset_mode`.

        Raises:
            FileNotFoundError: as `SegmentationVectorEnv`.
            ValueError: as `SegmentationVectorEnv`, or an argument is of many scenes at a time.
        """
        for name in {"num_envs", "autoreset_mode"} & kwargs.keys():
            raise ValueError(
                f"{name} is of many scenes at a time, got {kwargs[name]!r} for one: use gymnasium.make_vec; with its "
                'vectorization_mode="sync" the mode is given by vector_kwargs={"autoreset_mode": ...}'
            )
        self._slot = SegmentationVectorEnv(1, render_mode=render_mode, autoreset_mode="Disabled", **kwargs)
        self.render_mode = render_mode
        self.observation_space = self._slot.single_observation_space
        self.action_space = self._slot.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NumpyObservation, dict[str, Any]]:
        """Begin an episode; `options={"scene_index": i}` chooses its scene."""
        super().reset(seed=seed)
        observations, infos = self._slot.reset(seed=seed, options=options)
        self._np_random = self._slot.samplers[0].generator
        return _first(observations), _first_info(infos)

    def step(self, action: NDArray[np.float32]) -> tuple[NumpyObservation, float, bool, bool, dict[str, Any]]:
        """Add one mask.

        Raises:
            ValueError: `action` is not `[l]` or not finite.
            RuntimeError: the episode is over.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(f"action must be [l] = {list(self.action_space.shape or ())}, got {list(action.shape)}")
        if not np.isfinite(action).all():
            raise ValueError(f"action must be finite, got {action.tolist()}")
        if self._slot.is_over[0]:
            raise RuntimeError("the episode is over or has not begun: call reset()")
        observations, rewards, terminated, truncated, infos = self._slot.step(action[None])
        return _first(observations), float(rewards), bool(terminated), bool(truncated), _first_info(infos)

    def render(self) -> NDArray[np.uint8] | None:
        """A frame `[h, w, 3]` uint8, as `SegmentationVectorEnv.render`."""
        frames = self._slot.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Forget the episode; may be called twice."""
        self._slot.close()

    def get_state(self) -> Snapshot:
        """Copy the episode, generator included; see `SegmentationVectorEnv.get_state`."""
        return self._slot.get_state()

    def set_state(self, snapshot: Snapshot) -> None:
        """Go on from `snapshot`; see `SegmentationVectorEnv.set_state`."""
        self._slot.set_state(snapshot)

    @property
    def scene(self) -> Scene:
        """The scene under way, resized and augmented."""
        return self._slot.scene[0]

    @property
    def decoder(self) -> Decoder:
        """The frozen mask decoder."""
        return self._slot.decoder

    @property
    def label_map(self) -> NDArray[np.int64]:
        """Hard prediction so far, `[H, W]` int64, labels in the order of prediction."""
        return self._slot.label_map[0].numpy(force=True)


def _rule(name: str) -> property:
    """The rule `name` as an attribute, so that `set_wrapper_attr` and what is built on it change the environment."""
    return property(
        lambda env: getattr(env._slot.rules, name),
        lambda env, value: env._slot.set_attr(name, value),
        doc=f"The rule `{name}`; set, it changes as by `SegmentationVectorEnv.set_attr`.",
    )


for _name in RULES:
    setattr(SegmentationEnv, _name, _rule(_name))


def _first(observations: Observation) -> NumpyObservation:
    if isinstance(observations, Tensor):
        return observations[0].numpy(force=True)
    return {key: value[0].numpy(force=True) for key, value in observations.items()}


def _first_info(infos: Mapping[str, Tensor]) -> dict[str, Any]:
    """Values of the only slot, as Python numbers where they are single."""
    info: dict[str, Any] = {}
    for key, value in infos.items():
        if not key.startswith("_") and infos[f"_{key}"][0]:
            info[key] = value[0].item() if value.dim() == 1 else value[0].numpy(force=True)
    return info
