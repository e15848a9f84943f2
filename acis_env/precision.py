"""Networks in bfloat16: the convolutions and the decoder, which are nearly all of the work, and nothing else.

What is added up over pixels, steps or scenes stays float32: scores, memory, values, losses, weights and their moments.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """A context in which convolutions and linear maps compute in `precision`."""
    if precision == "float32":
        return full_precision(device)
    return torch.autocast(device.type, torch.bfloat16)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context in which networks compute in the precision of their input, whatever surrounds it."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # entered in a quarter of the time


def widest_float(device: torch.device) -> torch.dtype:
    """The type for sums whose last digits count: float64, but for Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def to_float32(x: Tensor) -> Tensor:
    """`x` in float32, unless it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
