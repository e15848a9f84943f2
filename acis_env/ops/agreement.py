"""Scores from sums: a handful of small operations, of which NumPy wastes less time on each."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor


def agreement(sums: Tensor, areas: Tensor, function: Literal["dice", "iou"]) -> Tensor:
    """Soft Dice or soft IoU of each mask with each instance.

    Args:
        sums: `[B, N + 1]`, of each mask over the background and over each instance.
        areas: `[B, N]`, pixels of each instance, zero for padding.
        function: which of both.

    Returns:
        `[B, N]` in [0, 1]; zero against padding.
    """
    if sums.device.type == "cpu" and not sums.requires_grad:
        return torch.from_numpy(formula(sums.numpy(), areas.numpy(), function))
    scores: Tensor = formula(sums, areas, function)
    return scores


def formula(sums: Any, areas: Any, function: Literal["dice", "iou"]) -> Any:
    """`agreement` of tensors or of arrays."""
    common, total = sums[:, 1:], sums.sum(axis=1, keepdims=True) + areas
    return 2 * common / total.clip(min=1e-6) if function == "dice" else common / (total - common).clip(min=1e-6)
