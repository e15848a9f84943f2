"""Which slots are over and when the others will be: known to the host, which so need not ask the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor


class Autoreset:
    """Keeps count of the steps of every slot, and says which are to begin anew.

    Attributes:
        mode: SAME_STEP, NEXT_STEP or DISABLED.
        is_over: `[num_envs]` bool, the slots that wait for their reset; another array after every step.
    """

    def __init__(self, mode: AutoresetMode, num_envs: int) -> None:
        self.mode = mode
        self.is_over: NDArray[np.bool_] = np.ones(num_envs, dtype=bool)
        self._steps_left = np.zeros(num_envs, dtype=np.int64)

    def begin(self, slots: Sequence[int], steps_left: NDArray[np.int64]) -> None:
        """Note that new episodes in `slots` end by themselves in `steps_left` `[K]` steps."""
        self._steps_left[list(slots)] = steps_left
        self.is_over[list(slots)] = False

    def slots_to_begin(self) -> list[int]:
        """The slots to reset before a step is taken in the others.

        Raises:
            RuntimeError: some are over, and nobody but the user may reset them.
        """
        slots: list[int] = self.is_over.nonzero()[0].tolist()
        if slots and self.mode is AutoresetMode.DISABLED:
            raise RuntimeError(f"the episodes in slots {slots} are over: call reset(options={{'reset_mask': ...}})")
        return slots

    def advance(self, fresh: Sequence[int], done: Tensor | None = None) -> list[int]:
        """Count a step; returns the slots whose episodes it has ended.

        Args:
            fresh: slots that were reset instead of stepped.
            done: `[num_envs]` bool on the device, for which the host then waits; None where the count says it.
        """
        if done is not None:
            self.is_over = done.numpy(force=True).copy()
        else:
            self._steps_left -= 1
            self._steps_left[list(fresh)] += 1
            self.is_over = self._steps_left <= 0
            self.is_over[list(fresh)] = False
        slots: list[int] = self.is_over.nonzero()[0].tolist()
        return slots
