"""Label maps of soft masks: at every pixel the mask of the highest probability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.preprocessing import Preprocessing
from acis_env.datasets.tiles import join


def compose_label_map(masks: NDArray[np.float32], threshold: float = 0.5) -> NDArray[np.int32]:
    """Hard label map `[h, w]` of soft masks `[T, h, w]`; label t is the t-th mask.

    Overlaps go to the mask of the highest probability, pixels below `threshold` are background.
    """
    if len(masks) == 0:
        return np.zeros(masks.shape[1:], dtype=np.int32)
    labels = masks.argmax(0).astype(np.int32) + 1
    return np.where(masks.max(0) >= threshold, labels, 0).astype(np.int32)


def compose_windows(
    masks: Sequence[NDArray[np.float32]],
    size: tuple[int, int],
    preprocessing: Preprocessing,
    threshold: float = 0.5,
    soft: bool = False,
    most: int | None = None,
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """`compose_label_map` of a picture of which masks are known in the windows that `preprocessing` cuts.

    Masks return as probabilities, to where their window lies. What is one instance in several windows is one mask, the
    largest probability of its parts; of several windows, masks that own no pixel of theirs are left out.

    Args:
        masks: of each of the `K` windows, `[T, H, W]` in [0, 1] with a `T` of its own.
        size: `(h, w)` of the picture.
        preprocessing: how the windows were cut.
        threshold: probability below which a pixel is background.
        soft: return the masks as they are, four bytes per pixel, in place of where they reach `threshold`.
        most: only the first so many masks of the picture.

    Returns:
        The label map `[h, w]`, and the masks `[T', h, w]`, bool or float32, in the order of prediction.
    """
    windows = preprocessing.windows(size)
    if len(windows) == 1:
        groups = [[(0, label)] for label in range(1, len(masks[0]) + 1)]
    else:
        groups = join([compose_label_map(found, threshold) for found in masks], windows)
    groups = groups[:most]

    def returned() -> Iterator[NDArray[np.float32]]:
        for group in groups:
            parts = [preprocessing.masks_back(masks[k][label - 1][None], size, k)[0] for k, label in group]
            yield np.maximum.reduce(parts)

    return _compose(returned(), len(groups), size, threshold, soft)


def _compose(
    masks: Iterator[NDArray[np.float32]], count: int, size: tuple[int, int], threshold: float, soft: bool
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Label map and masks of `count` masks `[h, w]`, one at a time: a large picture has no room for all."""
    kept = np.empty((count, *size), np.float32 if soft else bool)
    owner = np.zeros(size, np.min_scalar_type(count))
    best = np.zeros(size, np.float32)
    for number, mask in enumerate(masks, start=1):
        kept[number - 1] = mask if soft else mask >= threshold
        owner[mask > best] = number
        np.maximum(best, mask, out=best)
    owner[best < threshold] = 0
    del best
    return owner.astype(np.int32), kept
