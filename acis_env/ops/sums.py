"""Sums of masks over the instances of label maps.

Ignored pixels have an address of their own before the background's, whose sum is dropped."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.ops.labels import IGNORED
from acis_env.precision import widest_float


class Runs(NamedTuple):
    """Stretches of one label in a batch of label maps, row by row."""

    starts: NDArray[np.int64]  # [R], of the flattened batch
    addresses: NDArray[np.int64]  # [R], scene * (N + 2) + label + 1


class KnownRuns:
    """The runs of one batch of label maps, kept from the first time that they are asked for.

    Whoever writes into the label maps must call `clear`. Copies and pickles know of nothing.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: tuple[Tensor, int, Runs] | None = None

    def __reduce__(self) -> tuple[type[KnownRuns], tuple[()]]:
        return KnownRuns, ()

    def clear(self) -> None:
        """Forget them."""
        self._known = None

    def find(self, label_maps: Tensor, max_instances: int) -> Runs:
        """The runs of `label_maps`, anew if these are another tensor than last time."""
        known = self._known  # another thread may replace it meanwhile
        if known is not None and known[0] is label_maps and known[1] == max_instances:
            return known[2]
        runs = find_runs(label_maps, max_instances)
        self._known = label_maps, max_instances, runs
        return runs


def sum_by_label(masks: Tensor, label_maps: Tensor, max_instances: int, known: KnownRuns | None = None) -> Tensor:
    """Sum of each mask over the background and over each instance.

    Args:
        masks: `[B, H, W]` in [0, 1].
        label_maps: `[B, H, W]`, integers in -1..max_instances.
        max_instances: `N`, the capacity.
        known: of these label maps, for a CPU, which then looks at them only once.

    Returns:
        `[B, N + 1]` float32; ignored pixels (-1) are in no sum.

    Raises:
        ValueError: on a CPU, a label is out of range.
    """
    if masks.device.type == "cpu" and not (masks.requires_grad and torch.is_grad_enabled()):
        runs = find_runs(label_maps, max_instances) if known is None else known.find(label_maps, max_instances)
        return sum_by_run(masks, runs, max_instances)
    return sum_by_pixel(masks, label_maps, max_instances)


def sum_by_pixel(masks: Tensor, label_maps: Tensor, max_instances: int) -> Tensor:
    """`sum_by_label` in one pass over the pixels."""
    batch, pixels = len(masks), masks[0].numel()
    # In blocks first: a running sum over 10^5 pixels loses digits in float32, one over 128 does not.
    block = math.gcd(pixels, 128)
    sums = torch.zeros(batch, pixels // block, max_instances + 2, device=masks.device)
    one = torch.ones(1, dtype=torch.int64, device=masks.device)  # a tensor with an axis makes the sum int64 at once
    addresses = label_maps.reshape(batch, -1, block) + one
    sums.scatter_add_(2, addresses, masks.reshape(batch, -1, block).float())
    return sums.sum(1, dtype=widest_float(masks.device))[:, 1:].float()


def sum_by_run(masks: Tensor, runs: Runs, max_instances: int) -> Tensor:
    """`sum_by_label` where neighbours, most of which have one label, are summed before an address is looked up."""
    run_sums = np.add.reduceat(masks.float().numpy(force=True).reshape(-1), runs.starts)
    sums = np.bincount(runs.addresses, run_sums, minlength=len(masks) * (max_instances + 2))  # in float64
    return torch.from_numpy(sums.reshape(len(masks), -1)[:, 1:].astype(np.float32, order="C"))


def find_runs(label_maps: Tensor, max_instances: int) -> Runs:
    """The runs of label maps `[B, H, W]` with labels in -1..max_instances.

    Raises:
        ValueError: a label is out of range.
    """
    pixels = label_maps[0].numel()
    labels = label_maps.numpy(force=True).reshape(-1)
    begins = np.empty(labels.size, dtype=bool)
    np.not_equal(labels[1:], labels[:-1], out=begins[1:])
    begins[::pixels] = True
    starts = np.flatnonzero(begins)
    run_labels = labels[starts].astype(np.int64)
    lowest, highest = run_labels.min(), run_labels.max()
    if lowest < IGNORED or highest > max_instances:
        raise ValueError(f"label_maps must hold {IGNORED}..{max_instances}, got {lowest} to {highest}")
    return Runs(starts, starts // pixels * (max_instances + 2) + run_labels + 1)
