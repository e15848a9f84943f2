"""Plays a vector environment with fixed actions, and keeps what every call returned."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from acis_env.testing.errors import attempt, expect
from acis_env.testing.form import check_devices, check_in_space, check_infos, check_numbers
from acis_env.testing.tree import describe, difference, leaves, mapped, to_numpy

RESET_PARTS = ("observations", "infos")
STEP_PARTS = ("observations", "rewards", "terminated", "truncated", "infos")


@dataclass(frozen=True)
class Call:
    """What one call of `reset` or `step` returned."""

    name: str
    returned: dict[str, Any]  # the very objects, by the names of STEP_PARTS
    copies: dict[str, Any]  # what they held when the call returned, in numpy
    reset_mask: NDArray[np.bool_] | None = None  # [num_envs], of a partial reset

    @property
    def is_step(self) -> bool:
        return "rewards" in self.copies

    @property
    def done(self) -> NDArray[np.bool_]:
        """`[num_envs]` bool: episodes that ended in this call; `[1]` False for a reset."""
        if not self.is_step:
            return np.zeros(1, dtype=np.bool_)
        done: NDArray[np.bool_] = self.copies["terminated"] | self.copies["truncated"]
        return done


@dataclass(frozen=True)
class Player:
    """Plays an environment with fixed actions, and checks the form of all it returns."""

    env: VectorEnv[Any, Any, Any]
    seed: int
    actions: Sequence[Any]
    device: torch.device | None  # where the tensors of the environment are; None where it returns arrays

    @staticmethod
    def of(env: VectorEnv[Any, Any, Any], seed: int, num_steps: int) -> Player:
        """Draw the actions, and see whether the environment speaks numpy or torch."""
        space = copy.deepcopy(env.action_space)
        space.seed(seed)
        actions = [space.sample() for _ in range(num_steps)]
        first = Player(env, seed, actions, None).reset("first reset", seed=seed)
        tensors = [leaf for _, leaf in leaves(first.returned["observations"]) if isinstance(leaf, Tensor)]
        return Player(env, seed, actions, tensors[0].device if tensors else None)

    @property
    def mode(self) -> AutoresetMode:
        mode: AutoresetMode = self.env.metadata["autoreset_mode"]
        return mode

    def play(
        self,
        *,
        actions: Sequence[Any] | None = None,
        seed: int | list[int] | None = None,
        after_call: Callable[[Call], None] | None = None,
        tensor_masks: bool = False,
    ) -> list[Call]:
        """Reset and step; with automatic resets disabled, every end is followed by a reset of the slots concerned."""
        calls: list[Call] = []

        def note(call: Call) -> None:
            calls.append(call)
            if after_call is not None:
                after_call(call)

        seed = self.seed if seed is None else seed
        note(self.reset(f"reset(seed={seed})", seed=seed))
        for number, action in enumerate(self.actions if actions is None else actions, start=1):
            note(self.step(f"step {number}", action))
            done = calls[-1].done
            if self.mode is AutoresetMode.DISABLED and done.any():
                note(self.reset_slots(f"reset after step {number}", done, tensor_masks))
        return calls

    def reset(self, name: str, **arguments: Any) -> Call:
        options: dict[str, Any] = arguments.pop("options", {})
        before = dict(options)
        mask = mapped(to_numpy, options.get("reset_mask"))
        returned = attempt(name, self.env.reset, options=options, **arguments)
        expect(
            isinstance(returned, tuple) and len(returned) == 2,
            f"{name} must return (observations, infos), got {describe(returned)}",
        )
        is_gymnasiums = isinstance(self.env.unwrapped, SyncVectorEnv | AsyncVectorEnv)
        if is_gymnasiums and mask is not None and not options:
            warnings.warn("Gymnasium's environments take 'reset_mask' out of the options of their caller", stacklevel=2)
        else:
            changed = difference({**before, "reset_mask": mask}, {"reset_mask": None, **mapped(to_numpy, options)})
            expect(changed is None, f"{name} must leave the options it is given as they were: {changed}")
        return self._checked(name, dict(zip(RESET_PARTS, returned, strict=True)), mask)

    def reset_slots(self, name: str, mask: NDArray[np.bool_], as_tensor: bool = False) -> Call:
        """Reset the slots of `mask` `[num_envs]`."""
        given = torch.tensor(mask, device=self.device) if as_tensor else mask.copy()
        return self.reset(name, options={"reset_mask": given})

    def step(self, name: str, actions: Any) -> Call:
        given = mapped(self.own_kind, actions)
        returned = attempt(name, self.env.step, given)
        expect(
            isinstance(returned, tuple) and len(returned) == 5,
            f"{name} must return ({', '.join(STEP_PARTS)}), got {describe(returned)}",
        )
        changed = difference({"actions": actions}, {"actions": mapped(to_numpy, given)})
        expect(changed is None, f"{name} must leave the actions it is given as they were: {changed}")
        return self._checked(name, dict(zip(STEP_PARTS, returned, strict=True)))

    def own_kind(self, actions: NDArray[Any]) -> Any:
        """A copy as the environment's own data are, array or tensor."""
        return np.array(actions) if self.device is None else torch.tensor(actions, device=self.device)

    def _checked(self, name: str, parts: dict[str, Any], mask: NDArray[np.bool_] | None = None) -> Call:
        check_devices(parts, getattr(self.env, "device", None), name)
        call = Call(name, parts, mapped(to_numpy, parts), mask)
        check_in_space(parts["observations"], self.env.observation_space, f"{name}: observations")
        if call.is_step:
            check_numbers(parts, self.env.num_envs, name)
        expect(isinstance(parts["infos"], dict), f"{name}: infos must be a dict, got {describe(parts['infos'])}")
        check_infos(parts["infos"], self.env.num_envs, f"{name}: infos")
        return call
