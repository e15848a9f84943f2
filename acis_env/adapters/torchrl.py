"""The vector environment for TorchRL: tensordicts in and out, all on its device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from acis_env.augment import NUM_PARAMETERS
from acis_env.metrics import METRIC_NAMES
from acis_env.observations import Observation
from acis_env.vector_env import SegmentationVectorEnv

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded
    from torchrl.envs import EnvBase
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('SegmentationTorchRLEnv needs TorchRL: pip install "acis-env[torchrl]"') from error

INFO_TYPES: dict[str, tuple[int, torch.dtype]] = {
    "potential": (1, torch.float32),
    "num_instances": (1, torch.int64),
    "scene_index": (1, torch.int64),
    "augmentation": (NUM_PARAMETERS, torch.float32),
    **dict.fromkeys(METRIC_NAMES, (1, torch.float32)),
    "is_success": (1, torch.bool),
}
"""Length and dtype of every info that a tensordict can have."""


class SegmentationTorchRLEnv(EnvBase):  # type: ignore[misc]  # TorchRL has no annotations
    """A TorchRL environment whose `B` slots are those of a `SegmentationVectorEnv`.

    TorchRL resets the slots that are done itself, by `_reset`, so the `("next", ...)` entries of an episode's last
    step are those of its end, and the root entries after it those of the next beginning. Only by hand can a slot be
    stepped after its end: `env.step` and `step_mdp` in a loop need an `env.maybe_reset` between them.

    A tensordict `[B]` has

    - the observation: `image`, `mask`, `foreground` and `angles` of `obs="dict"`, else `observation`;
    - `action` `[B, l]` in [-1, 1], with `stop="agent"` `[B, l + 1]`;
    - `("next", "reward")` `[B, 1]`; `done`, `terminated` and `truncated` `[B, 1]` bool;
    - `infos` `[B, k]`, beside the observation; the metrics (`sbd`, ...) are zero until the episode ends.

    Attributes:
        vector_env: the environment that does the work. Its `set_attr` changes the rules, `render` draws.
    """

    def __init__(self, vector_env: SegmentationVectorEnv, infos: Iterable[str] = ("potential", "sbd")) -> None:
        """Wrap `vector_env`; from here on it should be reset and stepped by TorchRL alone.

        Args:
            vector_env: made with `autoreset_mode="Disabled"`.
            infos: names in `INFO_TYPES` of the infos that tensordicts are to have.

        Raises:
            ValueError: `vector_env` is another environment or resets itself, or an info is unknown.
        """
        if not isinstance(vector_env, SegmentationVectorEnv):
            raise ValueError(f"vector_env must be a SegmentationVectorEnv without wrappers, got {vector_env!r}")
        if vector_env.autoreset_mode is not AutoresetMode.DISABLED:
            raise ValueError(
                'vector_env must be made with autoreset_mode="Disabled", since TorchRL resets the slots that are '
                f"done, got {vector_env.autoreset_mode}"
            )
        self._info_names = tuple(infos)
        if unknown := sorted(set(self._info_names) - set(INFO_TYPES)):
            raise ValueError(f"infos must be some of {tuple(INFO_TYPES)}, got {unknown}")
        super().__init__(device=vector_env.device, batch_size=[vector_env.num_envs])
        self.vector_env = vector_env
        self._terminated = torch.zeros(vector_env.num_envs, dtype=torch.bool, device=self.device)
        self._truncated = self._terminated.clone()
        self._make_specs()

    def to(self, device: str | torch.device) -> SegmentationTorchRLEnv:
        """This environment, which stays where its networks and scenes are.

        Raises:
            ValueError: `device` is another one.
        """
        if torch.empty(0, device=device).device != self.device:
            raise ValueError(f"device must be that of the vector environment, {self.device}, got {device}")
        return self

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the vector environment too; may be called twice."""
        self.vector_env.close()
        super().close(raise_if_closed=raise_if_closed)

    def _make_specs(self) -> None:
        space = self.vector_env.single_observation_space
        parts = dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {"observation": space}
        specs = {name: self._bounded(part) for name, part in parts.items()}
        specs |= {name: self._info_spec(name) for name in self._info_names}
        self.observation_spec = Composite(specs, shape=self.batch_size)
        self.action_spec = self._bounded(self.vector_env.single_action_space)
        self.reward_spec = Unbounded(shape=(*self.batch_size, 1), device=self.device)
        flags = {name: self._flag() for name in ("done", "terminated", "truncated")}
        self.full_done_spec = Composite(flags, shape=self.batch_size)

    def _bounded(self, space: gym.Space[Any]) -> TensorSpec:
        """Spec of `B` elements of a box whose bounds are the same for all entries."""
        assert isinstance(space, gym.spaces.Box)
        dtype = torch.from_numpy(space.low).dtype
        low, high = space.low.min().item(), space.high.max().item()
        return Bounded(low, high, shape=(*self.batch_size, *space.shape), dtype=dtype, device=self.device)

    def _info_spec(self, name: str) -> TensorSpec:
        length, dtype = INFO_TYPES[name]
        if dtype is torch.bool:
            return self._flag()
        return Unbounded(shape=(*self.batch_size, length), dtype=dtype, device=self.device)

    def _flag(self) -> TensorSpec:
        return Categorical(2, shape=(*self.batch_size, 1), dtype=torch.bool, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        """Seed slot `i` with `seed + i`, from its next episode on, as `vector_env.reset(seed=seed)` does."""
        for slot, sampler in enumerate(self.vector_env.samplers):
            sampler.seed(None if seed is None else seed + slot)

    def _reset(
        self, tensordict: TensorDictBase | None = None, scene_index: int | Sequence[int] | None = None
    ) -> TensorDictBase:
        """Begin episodes in the slots of `tensordict["_reset"]`, or in all, with chosen scenes if there are any.

        The entries of the other slots say how they are, but TorchRL keeps what the tensordict had.
        """
        mask = None if tensordict is None else tensordict.get("_reset", None)
        mask = torch.ones_like(self._terminated) if mask is None else mask.view(self.batch_size)
        if not mask.any():
            assert tensordict is not None
            return tensordict.exclude("_reset")
        options: dict[str, Any] = {"reset_mask": mask}
        if scene_index is not None:
            options["scene_index"] = scene_index
        observations, infos = self.vector_env.reset(options=options)
        self._terminated, self._truncated = self._terminated & ~mask, self._truncated & ~mask
        return self._tensordict(observations, infos)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Step all slots, or those of `tensordict["_step"]`.

        Raises:
            RuntimeError: the episode of a slot to be stepped is over.
        """
        actions, mask = tensordict["action"], tensordict.get("_step", None)
        if mask is None or mask.all():
            return self._step_all(actions)
        mask = mask.view(self.batch_size)
        stepped = self._step_some(actions, mask)
        unchanged = tensordict.select(*stepped.exclude("reward").keys())
        unchanged["reward"] = torch.zeros_like(stepped["reward"])
        return torch.where(mask, stepped, unchanged)

    def _step_all(self, actions: Tensor) -> TensorDictBase:
        observations, rewards, self._terminated, self._truncated, infos = self.vector_env.step(actions)
        result = self._tensordict(observations, infos)
        result["reward"] = rewards[:, None]
        return result

    def _step_some(self, actions: Tensor, mask: Tensor) -> TensorDictBase:
        """Step the slots of `mask`; what the others get is not theirs.

        A slot that sits out lends its place to the copy of one that does not, since the vector environment steps
        all of them, and an episode that is over cannot be.
        """
        stepping, resting = mask.nonzero()[:, 0].tolist(), (~mask).nonzero()[:, 0].tolist()
        episodes = self.vector_env.get_state(resting)
        terminated, truncated = self._terminated, self._truncated
        self.vector_env.set_state(self.vector_env.get_state(stepping[:1] * len(resting)), resting)
        result = self._step_all(actions)
        self.vector_env.set_state(episodes, resting)
        self._terminated = torch.where(mask, self._terminated, terminated)
        self._truncated = torch.where(mask, self._truncated, truncated)
        return result

    def _tensordict(self, observations: Observation, infos: dict[str, Tensor]) -> TensorDictBase:
        """What `_reset` and `_step` have in common."""
        entries = {"observation": observations} if isinstance(observations, Tensor) else dict(observations)
        for name in self._info_names:
            length, dtype = INFO_TYPES[name]
            missing = torch.zeros(*self.batch_size, length, dtype=dtype, device=self.device)
            entries[name] = infos.get(name, missing).view_as(missing)
        entries["done"] = (self._terminated | self._truncated)[:, None]
        entries |= {"terminated": self._terminated[:, None].clone(), "truncated": self._truncated[:, None].clone()}
        return TensorDict(entries, batch_size=self.batch_size, device=self.device)
