"""Label maps of soft masks: at every pixel the mask of the highest probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.preprocessing import resize_masks


def compose_label_map(masks: NDArray[np.float32], threshold: float = 0.5) -> NDArray[np.int32]:
    """Hard label map `[h, w]` of soft masks `[T, h, w]`; label t is the t-th mask.

    Overlaps go to the mask of the highest probability, pixels below `threshold` are background.
    """
    if len(masks) == 0:
        return np.zeros(masks.shape[1:], dtype=np.int32)
    labels = masks.argmax(0).astype(np.int32) + 1
    return np.where(masks.max(0) >= threshold, labels, 0).astype(np.int32)


def compose_at(
    masks: NDArray[np.float32], size: tuple[int, int], threshold: float = 0.5, soft: bool = False
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """`compose_label_map` of masks at another size, one at a time: a large picture has no room for all.

    Args:
        masks: `[T, H, W]` in [0, 1].
        size: `(h, w)` of the picture.
        threshold: probability below which a pixel is background.
        soft: return the masks as they are, four bytes per pixel, in place of where they reach `threshold`.

    Returns:
        The label map `[h, w]`, and the masks `[T, h, w]`, bool or float32.
    """
    kept = np.empty((len(masks), *size), np.float32 if soft else bool)
    owner = np.zeros(size, np.min_scalar_type(len(masks)))
    best = np.zeros(size, np.float32)
    for number, mask in enumerate(masks, start=1):
        resized = resize_masks(mask[None], size)[0]
        kept[number - 1] = resized if soft else resized >= threshold
        owner[resized > best] = number
        np.maximum(best, resized, out=best)
    owner[best < threshold] = 0
    del best
    return owner.astype(np.int32), kept
