"""Reward that does not depend on the order in which instances are found.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Eqs. (4) and (5).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ScoreName = Literal["dice", "iou"]
SCORES: tuple[ScoreName, ...] = ("dice", "iou")


def instance_areas(label_maps: Tensor, max_instances: int) -> Tensor:
    """Pixels of each instance, `[B, N]`, zero for padding, of label maps `[B, H, W]` int64."""
    return overlap(torch.ones_like(label_maps, dtype=torch.float32), label_maps, max_instances)


def overlap(masks: Tensor, label_maps: Tensor, max_instances: int) -> Tensor:
    """Sum of each mask over each instance, in one pass over the pixels.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]` int64 in 0..max_instances.
        max_instances: `N`, the capacity.

    Returns:
        `[B, N]`.
    """
    # A running sum over 10^5 pixels loses digits in float32.
    sums = torch.zeros(len(masks), max_instances + 1, dtype=torch.float64, device=masks.device)
    sums = sums.scatter_add(1, label_maps.flatten(1), masks.flatten(1).double())
    return sums[:, 1:].float()


def score(masks: Tensor, label_maps: Tensor, areas: Tensor, name: ScoreName = "dice") -> Tensor:
    """Agreement `F` of one mask per scene with every instance: soft Dice or soft IoU.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]` int64.
        areas: `[B, N]`, pixels of each instance, zero for padding.
        name: "dice" or "iou".

    Returns:
        `[B, N]` in [0, 1]; zero against padding.
    """
    common = overlap(masks, label_maps, areas.shape[1])
    total = masks.flatten(1).double().sum(1, keepdim=True).float() + areas
    union = total - common
    return 2 * common / total.clamp_min(1e-6) if name == "dice" else common / union.clamp_min(1e-6)


def assign(scores: NDArray[np.floating]) -> tuple[NDArray[np.int64], float]:
    """One-to-one assignment of predictions to instances with the largest total score.

    Args:
        scores: `[T, N]`, one row per prediction, `T` smaller, equal or larger than `N`.

    Returns:
        The instance of each prediction, `[T]` int64, -1 where it has none, and the potential `phi`, Eq. (4).
    """
    assignment = np.full(len(scores), -1, dtype=np.int64)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    assignment[rows] = columns
    return assignment, float(scores[rows, columns].astype(np.float64).sum())


def potential(scores: Tensor, steps: Tensor, num_instances: Tensor) -> tuple[Tensor, Tensor]:
    """Assignment and potential of every scene.

    Args:
        scores: `[B, T, N]`, padded.
        steps: `[B]` int64, predictions so far, at most `T`.
        num_instances: `[B]` int64, at most `N`.

    Returns:
        Assignment `[B, T]` int64, -1 where a prediction has no instance, and potential `[B]`, `phi_t` of Eq. (4).
    """
    host_scores, host_steps, host_counts = (x.numpy(force=True) for x in (scores, steps, num_instances))
    assignment = np.full(host_scores.shape[:2], -1, dtype=np.int64)
    potentials = np.zeros(len(host_scores), dtype=np.float32)
    for scene, (taken, count) in enumerate(zip(host_steps, host_counts, strict=True)):
        assignment[scene, :taken], potentials[scene] = assign(host_scores[scene, :taken, :count])
    return torch.from_numpy(assignment).to(scores.device), torch.from_numpy(potentials).to(scores.device)
