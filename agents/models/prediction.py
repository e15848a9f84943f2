"""What an agent, or whoever takes its place, predicts of scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Stopping = Literal["own", "true count", "best outcome", "random"]
"""Who says how many masks there are: whoever predicts them, the truth (by their count, or by the outcome), or a die."""


@dataclass(frozen=True)
class Prediction:
    """Masks of `B` scenes at the size of the network."""

    masks: Tensor  # [B, T, H, W] in [0, 1], soft, in the order of prediction
    num_masks: Tensor  # [B] int64, masks to keep, by who says so; the most that may be where nobody did
    stopped: Tensor  # [B] bool
    stopping: Stopping = "own"  # whose the number of masks is

    def counted(self, counts: Tensor | None = None) -> list[NDArray[np.float32]]:
        """The first masks of each scene, `[t, H, W]` on the host, as many as `counts` `[B]`, or as `num_masks`, say."""
        numbers = (self.num_masks if counts is None else counts).tolist()
        return [found[:number] for found, number in zip(self.masks.numpy(force=True), numbers, strict=True)]
