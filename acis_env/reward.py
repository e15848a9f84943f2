"""What a mask is worth: its scores with the instances, and the greedy reward. The potential is in `matching`.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Eqs. (4) and (5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from acis_env.ops.agreement import agreement
from acis_env.ops.labels import IGNORED
from acis_env.ops.sums import KnownRuns, sum_by_label

ScoreName = Literal["dice", "iou"]
SCORES: tuple[ScoreName, ...] = ("dice", "iou")

ScoreFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A score of one's own: takes masks `[B, H, W]`, label maps `[B, H, W]` and areas `[B, N]` as `score` does, and
returns the agreement of each mask with each instance, `[B, N]` in [0, 1]. `overlap` helps to write one. It need not
know of ignored pixels: masks are zero there, and label maps background."""


def instance_areas(label_maps: Tensor, max_instances: int, known: KnownRuns | None = None) -> Tensor:
    """Pixels of each instance, `[B, N]`, zero for padding, of label maps `[B, H, W]`; `known` as for `overlap`."""
    return overlap(torch.ones_like(label_maps, dtype=torch.float32), label_maps, max_instances, known)


def overlap(masks: Tensor, label_maps: Tensor, max_instances: int, known: KnownRuns | None = None) -> Tensor:
    """Sum of each mask over each instance.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]`, integers in -1..max_instances.
        max_instances: `N`, the capacity.
        known: what is known of these label maps from other masks; saves time on a CPU.

    Returns:
        `[B, N]` float32.
    """
    return sum_by_label(masks, label_maps, max_instances, known)[:, 1:]


def score(
    masks: Tensor,
    label_maps: Tensor,
    areas: Tensor,
    function: ScoreName | ScoreFunction = "dice",
    known: KnownRuns | None = None,
) -> Tensor:
    """Agreement `F` of one mask per scene with every instance: soft Dice, soft IoU or a function of one's own.

    Args:
        masks: `[B, H, W]` in [0, 1]; their values at ignored pixels do not count.
        label_maps: `[B, H, W]`, integers, -1 = ignored.
        areas: `[B, N]`, pixels of each instance, zero for padding.
        function: "dice", "iou" or a `ScoreFunction`.
        known: as for `overlap`; not handed to a function of one's own.

    Returns:
        `[B, N]` in [0, 1]; zero against padding.

    Raises:
        ValueError: the function of one's own returned another shape or, on the CPU, a value outside of [0, 1].
    """
    if callable(function):
        return _check_scores(function(*without_ignored(masks, label_maps), areas.clone()), areas)
    return agreement(sum_by_label(masks, label_maps, areas.shape[1], known), areas, function)


def without_ignored(masks: Tensor, label_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Masks and label maps as a `ScoreFunction` gets them: zero and background where pixels are ignored.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]`, integers, -1 = ignored.

    Returns:
        Masks `[B, H, W]` and label maps `[B, H, W]` int64, both in memory of their own.
    """
    return masks.masked_fill(label_maps == IGNORED, 0), label_maps.long().clamp_min(0)


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
    is_instance = areas > 0  # against padding anything goes, as 0 / 0
    # Only the CPU is asked: the host would have to wait for any other device.
    if scores.device.type == "cpu":
        found = scores[is_instance]
        if not ((found >= 0) & (found <= 1)).all():
            raise ValueError(f"score must return values in [0, 1], got {found.min().item()} to {found.max().item()}")
    return torch.where(is_instance, scores.float(), 0)
