"""What a mask is worth: its scores with the instances, and the greedy reward. The potential is in `matching`.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Eqs. (4) and (5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple
from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ScoreName = Literal["dice", "iou"]
SCORES: tuple[ScoreName, ...] = ("dice", "iou")

ScoreFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A score of one's own: takes masks `[B, H, W]`, label maps `[B, H, W]` and areas `[B, N]` as `score` does, and
returns the agreement of each mask with each instance, `[B, N]` in [0, 1]. `overlap` helps to write one."""


def instance_areas(label_maps: Tensor, max_instances: int) -> Tensor:
    """Pixels of each instance, `[B, N]`, zero for padding, of label maps `[B, H, W]`."""
    return overlap(torch.ones_like(label_maps, dtype=torch.float32), label_maps, max_instances)


def overlap(masks: Tensor, label_maps: Tensor, max_instances: int) -> Tensor:
    """Sum of each mask over each instance.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]`, integers in 0..max_instances.
        max_instances: `N`, the capacity.

    Returns:
        `[B, N]` float32.
    """
    if _can_use_numpy(masks):
        return torch.from_numpy(_sums_by_run(masks, label_maps, max_instances))[:, 1:]
    return _sums_by_pixel(masks, label_maps, max_instances)[:, 1:]


def score(masks: Tensor, label_maps: Tensor, areas: Tensor, function: ScoreName | ScoreFunction = "dice") -> Tensor:
    """Agreement `F` of one mask per scene with every instance: soft Dice, soft IoU or a function of one's own.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]`, integers.
        areas: `[B, N]`, pixels of each instance, zero for padding.
        function: "dice", "iou" or a `ScoreFunction`.

    Returns:
        `[B, N]` in [0, 1]; zero against padding.

    Raises:
        ValueError: the function of one's own returned another shape or, on the CPU, a value outside of [0, 1].
    """
    if callable(function):
        return _check_scores(function(masks, label_maps.long(), areas.clone()), areas)
    if _can_use_numpy(masks):
        sums = _sums_by_run(masks, label_maps, areas.shape[1])
        return torch.from_numpy(_agreement(sums, areas.numpy(), function))
    agreement: Tensor = _agreement(_sums_by_pixel(masks, label_maps, areas.shape[1]), areas, function)
    return agreement


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


def _can_use_numpy(masks: Tensor) -> bool:
    """Whether NumPy, which wastes less time on small operations than torch, can do the work."""
    return masks.device.type == "cpu" and not (masks.requires_grad and torch.is_grad_enabled())


def _agreement(sums: Any, areas: Any, function: ScoreName) -> Any:
    """Dice or IoU `[B, N]` from sums `[B, N + 1]` and areas `[B, N]`, all tensors or all arrays."""
    common, total = sums[:, 1:], sums.sum(axis=1, keepdims=True) + areas
    return 2 * common / total.clip(min=1e-6) if function == "dice" else common / (total - common).clip(min=1e-6)


def _sums_by_pixel(masks: Tensor, label_maps: Tensor, max_instances: int) -> Tensor:
    """Sum of each mask over the background and over each instance, `[B, N + 1]`, in one pass over the pixels."""
    batch, pixels = len(masks), masks[0].numel()
    # In blocks first: a running sum over 10^5 pixels loses digits in float32, one over 128 does not.
    block = math.gcd(pixels, 128)
    sums = torch.zeros(batch, pixels // block, max_instances + 1, device=masks.device)
    sums.scatter_add_(2, label_maps.reshape(batch, -1, block).long(), masks.reshape(batch, -1, block).float())
    return sums.sum(1, dtype=torch.float64).float()


def _sums_by_run(masks: Tensor, label_maps: Tensor, max_instances: int) -> NDArray[np.float32]:
    """The same on a CPU, where neighbours, most of which have one label, are summed before an address is looked up."""
    runs = _known_runs(label_maps, max_instances)
    run_sums = np.add.reduceat(masks.float().numpy(force=True).reshape(-1), runs.starts)
    sums = np.bincount(runs.addresses, run_sums, minlength=len(masks) * (max_instances + 1))  # in float64
    return sums.reshape(len(masks), -1).astype(np.float32)


class _Runs(NamedTuple):
    """Stretches of one label in a batch of label maps, row by row."""

    starts: NDArray[np.int64]  # [R], of the flattened batch
    addresses: NDArray[np.int64]  # [R], scene * (N + 1) + label


_last: tuple[ref[Tensor], int, int, _Runs] | None = None
"""Label maps, the version of their content, `N`, and their runs."""


def _known_runs(label_maps: Tensor, max_instances: int) -> _Runs:
    """The runs of `label_maps`; found once where the same tensor is asked for again, as in every step of an episode."""
    global _last
    if label_maps.is_inference():  # these do not count how often they were written to
        return _find_runs(label_maps, max_instances)
    if _last is not None:
        known, version, capacity, runs = _last
        if known() is label_maps and (version, capacity) == (label_maps._version, max_instances):
            return runs
    runs = _find_runs(label_maps, max_instances)
    _last = ref(label_maps), label_maps._version, max_instances, runs
    return runs


def _find_runs(label_maps: Tensor, max_instances: int) -> _Runs:
    pixels = label_maps[0].numel()
    labels = label_maps.numpy(force=True).reshape(-1)
    begins = np.empty(labels.size, dtype=bool)
    np.not_equal(labels[1:], labels[:-1], out=begins[1:])
    begins[::pixels] = True
    starts = np.flatnonzero(begins)
    run_labels = labels[starts].astype(np.int64)
    lowest, highest = run_labels.min(), run_labels.max()
    if lowest < 0 or highest > max_instances:
        raise ValueError(f"label_maps must hold 0..{max_instances}, got {lowest} to {highest}")
    return _Runs(starts, starts // pixels * (max_instances + 1) + run_labels)


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
