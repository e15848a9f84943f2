"""How scenes of any size become pictures of the networks' size, and how masks find the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.ops.labels import relabel


class Preprocessing(Protocol):
    """A change of image and label map that knows how to undo itself on masks; a pure function of its arguments."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width `(H, W)` of what it makes."""
        ...

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image `[3, h, w]` uint8 as `[3, H, W]` uint8."""
        ...

    def label_map(self, label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
        """The label map `[h, w]` as `[H, W]` int32, aligned with the image, with labels 1..N without gaps; -1 stays
        ignored.

        Instances that come out with fewer than `min_area` pixels become background, unless that would take the last.
        """
        ...

    def masks_back(self, masks: NDArray[np.float32], original_size: tuple[int, int]) -> NDArray[np.float32]:
        """Soft masks `[T, H, W]` of such a picture as `[T, h, w]` of the original, whose size is `(h, w)`."""
        ...


@dataclass(frozen=True)
class Squeeze:
    """Stretches the whole picture to `size`, whatever its shape was; a `Preprocessing`."""

    size: tuple[int, int]

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an image: shrinking averages, growing interpolates."""
        return resize_image(image, self.size)

    def label_map(self, label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
        """Resize a label map by the nearest pixel centre."""
        return resize_label_map(label_map, self.size, min_area)

    def masks_back(self, masks: NDArray[np.float32], original_size: tuple[int, int]) -> NDArray[np.float32]:
        """Resize soft masks to the original size."""
        return resize_masks(masks, original_size)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize `image` `[3, h, w]` to `size`, `[3, H, W]` uint8: shrinking averages, growing interpolates."""
    if image.shape[1:] == size:
        return image.copy()
    shrinks = size[0] <= image.shape[1] and size[1] <= image.shape[2]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    resized = cv2.resize(pixels, (size[1], size[0]), interpolation=interpolation)
    return np.ascontiguousarray(resized.transpose(2, 0, 1), dtype=np.uint8)


def resize_label_map(label_map: NDArray[Any], size: tuple[int, int], min_area: int = 1) -> NDArray[np.int32]:
    """Resize `label_map` `[h, w]` to `size` by the nearest pixel centre and rename its instances to 1..N.

    Args:
        label_map: `[h, w]` integers, 0 = background, -1 = ignored.
        size: `(H, W)`.
        min_area: instances of fewer pixels at the new size become background.

    Returns:
        `[H, W]` int32. It has an instance if `label_map` has one: should none be large enough, every pixel
        that the largest touches is kept.
    """
    height, width = label_map.shape
    rows = (2 * np.arange(size[0]) + 1) * height // (2 * size[0])
    columns = (2 * np.arange(size[1]) + 1) * width // (2 * size[1])
    resized = relabel(label_map[rows[:, None], columns], min_area)
    if (resized > 0).any() or not (label_map > 0).any():
        return resized
    touched_rows, touched_columns = np.nonzero(label_map == _largest_label(label_map))
    resized[touched_rows * size[0] // height, touched_columns * size[1] // width] = 1
    return resized


def resize_masks(masks: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize soft masks `[T, H, W]` to `size` `(h, w)` by bilinear interpolation."""
    if masks.shape[1:] == size:
        return masks
    resized = [cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for mask in masks]
    return np.stack(resized).astype(np.float32) if resized else np.zeros((0, *size), dtype=np.float32)


def _largest_label(label_map: NDArray[Any]) -> int:
    labels, areas = np.unique(label_map[label_map > 0], return_counts=True)
    return int(labels[areas.argmax()])
