"""Actions on their way from the agent to the decoder."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.surroundings import as_tensor


class ActionReader:
    """Brings actions to the device and into [-1, 1], and remembers who sent something else than numbers.

    The host does not wait for the device to look at each action: NaN and infinity count as 0, and whoever calls
    `check` later learns about them.
    """

    def __init__(self, num_envs: int, length: int, stops: bool, device: torch.device) -> None:
        """Expect `[num_envs, length]`, whose last entry is no part of the latent code if `stops`."""
        self.expected, self.device = (num_envs, length), device
        self._entries = "l + 1" if stops else "l"
        self._is_finite = torch.ones(num_envs, dtype=torch.bool, device=device)  # since the last check

    def read(self, actions: Tensor | NDArray[np.float32], ignored: NDArray[np.bool_]) -> Tensor:
        """`actions` as float32 in [-1, 1], without a gradient.

        Args:
            actions: `[num_envs, length]`.
            ignored: `[num_envs]` bool, slots whose actions count for nothing and may be anything.

        Raises:
            ValueError: they have another shape.
        """
        tensor = as_tensor(actions, dtype=torch.float32, device=self.device).detach()
        if tensor.shape != self.expected:
            raise ValueError(
                f"actions must be [num_envs, {self._entries}] = {list(self.expected)}, got {list(tensor.shape)}; "
                "was the decoder pre-trained with another latent size?"
            )
        if self.device.type == "cpu" and math.isfinite(tensor.sum()):  # cheaper than to look at each
            return tensor.clamp(-1, 1)
        is_fine = torch.isfinite(tensor).all(1)
        if ignored.any():
            is_fine |= torch.from_numpy(ignored).to(self.device)
        self._is_finite &= is_fine
        return tensor.nan_to_num(0, 0, 0).clamp_(-1, 1)

    def check(self) -> None:
        """Look at all actions since the last check; waits for the device.

        Raises:
            ValueError: some were not finite; names their slots.
        """
        if not self._is_finite.all():
            slots = (~self._is_finite).nonzero()[:, 0].tolist()
            self._is_finite.fill_(True)
            raise ValueError(f"actions must be finite, got NaN or infinity in slots {slots} since the last reset")
