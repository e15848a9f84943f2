"""Label maps: which pixels count, areas of their instances, and their instances renamed to 1..N."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -1
"""Label of pixels that are neither background nor instance, since nobody knows: they count in no reward, loss or
measure."""
BLOCK = 2**20
"""Pixels that are looked up at a time, since NumPy makes 8 bytes of every index."""
MOST_LABELS = 2**16
"""Largest label for which a table is worth its memory, however small the label map is."""


def relabel(label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
    """Rename the instances of `label_map` `[H, W]` to 1..N in the order of their old labels.

    Instances of fewer than `min_area` pixels become background; 0 stays background, and `IGNORED` stays ignored.
    """
    choice = relabel_by_table if _has_table(label_map) else relabel_by_sorting
    return choice(label_map, min_area)


def relabel_by_sorting(label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
    """`relabel` of any labels."""
    labels, inverse, areas = np.unique(label_map, return_inverse=True, return_counts=True)
    keep = (labels != 0) & (labels != IGNORED) & (areas >= min_area)
    new_labels = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    new_labels[labels == IGNORED] = IGNORED
    return new_labels[inverse].reshape(label_map.shape)


def relabel_by_table(label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
    """`relabel` of integers from -1 on that are not too large, without sorting the pixels."""
    keep = label_areas(label_map) >= max(min_area, 1)
    keep[0] = False
    new_labels = np.append(np.where(keep, np.cumsum(keep), 0), IGNORED).astype(np.int32)  # -1 looks up the last entry
    renamed = np.empty(label_map.shape, np.int32)
    for rows in _blocks(label_map):
        renamed[rows] = new_labels[label_map[rows]]
    return renamed


def label_areas(label_map: NDArray[Any]) -> NDArray[np.int64]:
    """Pixels of each label from 0 to the largest of `label_map` `[H, W]`, integers from -1 on: `[N + 1]`.

    Ignored pixels count for none.
    """
    areas = np.zeros(int(label_map.max(initial=0)) + 1, np.int64)
    has_ignored = label_map.min(initial=0) == IGNORED
    for rows in _blocks(label_map):
        labels = label_map[rows]
        if labels.dtype == np.uint8 and labels.size > 0:  # counted in a quarter of the time, beside other threads
            counts: Any = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
            areas += counts.ravel()[: len(areas)].astype(np.int64)
        else:
            counted = labels[labels != IGNORED] if has_ignored else labels.ravel()
            areas += np.bincount(counted.astype(np.intp, copy=False), minlength=len(areas))  # NumPy 1 takes no uint64
    return areas


def count_instances(label_maps: Tensor) -> Tensor:
    """Instances of each of `label_maps` `[B, H, W]` with labels 1..N: `[B]`, 0 where all is background or ignored."""
    return label_maps.flatten(1).amax(1).clamp_min(0)


def _has_table(label_map: NDArray[Any]) -> bool:
    if not np.issubdtype(label_map.dtype, np.integer) or label_map.size == 0 or label_map.min() < IGNORED:
        return False
    return int(label_map.max()) <= max(MOST_LABELS, label_map.size // 8)


def _blocks(label_map: NDArray[Any]) -> Iterator[slice]:
    """Rows of `label_map`, some `BLOCK` pixels at a time."""
    step = max(1, BLOCK // max(label_map[:1].size, 1))
    return (slice(first, first + step) for first in range(0, len(label_map), step))
