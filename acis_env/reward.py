"""Reward that does not depend on the order in which instances are found.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Eqs. (4) and (5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ScoreName = Literal["dice", "iou"]
SCORES: tuple[ScoreName, ...] = ("dice", "iou")

ScoreFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A score of one's own: takes masks `[B, H, W]`, label maps `[B, H, W]` and areas `[B, N]` as `score` does, and
returns the agreement of each mask with each instance, `[B, N]` in [0, 1]. `overlap` helps to write one."""


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


def score(masks: Tensor, label_maps: Tensor, areas: Tensor, function: ScoreName | ScoreFunction = "dice") -> Tensor:
    """Agreement `F` of one mask per scene with every instance: soft Dice, soft IoU or a function of one's own.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]` int64.
        areas: `[B, N]`, pixels of each instance, zero for padding.
        function: "dice", "iou" or a `ScoreFunction`.

    Returns:
        `[B, N]` in [0, 1]; zero against padding.

    Raises:
        ValueError: the function of one's own returned another shape, or a value outside of [0, 1].
    """
    if callable(function):
        return _check_scores(function(masks, label_maps, areas), areas)
    common = overlap(masks, label_maps, areas.shape[1])
    total = masks.flatten(1).double().sum(1, keepdim=True).float() + areas
    union = total - common
    return 2 * common / total.clamp_min(1e-6) if function == "dice" else common / union.clamp_min(1e-6)


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


def potential(
    scores: Tensor, steps: Tensor, num_instances: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Assignment and potential of every scene.

    Args:
        scores: `[B, T, N]`, padded.
        steps: `[B]` int64, predictions so far, at most `T`.
        num_instances: `[B]` int64, at most `N`.
        noise: `[B, T, N]`, added to the scores for the choice of the assignment only, Eq. (2).

    Returns:
        Assignment `[B, T]` int64, -1 where a prediction has no instance, and potential `[B]`, `phi_t` of Eq. (4):
        the total score of the assigned pairs, without noise.
    """
    host_scores, host_steps, host_counts = (x.numpy(force=True) for x in (scores, steps, num_instances))
    host_noise = np.zeros(host_scores.shape, dtype=np.float32) if noise is None else noise.numpy(force=True)
    assignment = np.full(host_scores.shape[:2], -1, dtype=np.int64)
    potentials = np.zeros(len(host_scores), dtype=np.float32)
    for scene, (taken, count) in enumerate(zip(host_steps, host_counts, strict=True)):
        valid = host_scores[scene, :taken, :count]
        chosen, _ = assign(valid + host_noise[scene, :taken, :count])
        assignment[scene, :taken] = chosen
        (rows,) = np.nonzero(chosen >= 0)
        potentials[scene] = valid[rows, chosen[rows]].astype(np.float64).sum()
    return torch.from_numpy(assignment).to(scores.device), torch.from_numpy(potentials).to(scores.device)


def greedy(step_scores: Tensor, assignment: Tensor, step_count: Tensor) -> tuple[Tensor, Tensor]:
    """Give the newest prediction of every scene its best free instance, and leave all others what they have.

    Args:
        step_scores: `[B, N]`, scores of the newest prediction, zero for padding.
        assignment: `[B, T]` int64, of the predictions before it.
        step_count: `[B]` int64, number of predictions including it.

    Returns:
        Assignment `[B, T]` int64, and the score `[B]` with the instance found: 0 and -1 where no free one overlaps.
    """
    is_taken = torch.zeros(len(step_scores), step_scores.shape[1] + 1, dtype=torch.bool, device=step_scores.device)
    is_taken = is_taken.scatter(1, assignment + 1, True)[:, 1:]
    gain, instance = step_scores.masked_fill(is_taken, 0).max(1)
    instance = torch.where(gain > 0, instance, -1)
    return assignment.scatter(1, step_count[:, None] - 1, instance[:, None]), gain


def _check_scores(scores: Tensor, areas: Tensor) -> Tensor:
    if scores.shape != areas.shape:
        raise ValueError(f"score must return [B, N] = {list(areas.shape)}, got {list(scores.shape)}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"score must return values in [0, 1], got {scores.min().item()} to {scores.max().item()}")
    return torch.where(areas > 0, scores.float(), 0)
