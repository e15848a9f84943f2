"""Planes of observations: rounded to bytes, and copied when written to."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor


def to_uint8(values: Tensor) -> Tensor:
    """[0, 1] to the nearest of 0..255, same shape."""
    if values.device.type == "cpu" and values.numel() > 0:
        return round_by_opencv(values)
    return round_by_torch(values)


def round_by_torch(values: Tensor) -> Tensor:
    """`to_uint8` on any device."""
    return values.mul(255).round_().to(torch.uint8)


def round_by_opencv(values: Tensor) -> Tensor:
    """`to_uint8` on a CPU, in one pass; not of an empty tensor."""
    flat = values.float().reshape(len(values), -1).numpy(force=True)
    return torch.from_numpy(cv2.convertScaleAbs(flat, alpha=255)).view(values.shape)


def lazy_copy(planes: Tensor) -> Tensor:
    """A copy; on a CPU it is made when it or `planes` is first written to, and most never are."""
    clone = getattr(torch, "_lazy_clone", torch.clone)  # torch does not document it
    copied: Tensor = clone(planes) if planes.device.type == "cpu" else planes.clone()
    return copied
