"""How scenes of any size become pictures of the networks' size, and how masks find the way back.

Every way scales a picture, cuts windows of the networks' size out of it, and undoes both on masks. Two are those of
Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019: of its text, and of its public code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.configs import nearest_first
from acis_env.datasets.windows import Window, centred, covering
from acis_env.ops.labels import relabel

MOST_PIXELS = 2**26
"""Pixels to which a picture may be enlarged: a thin one can need any number until its shorter side fits."""


@dataclass(frozen=True)
class Preprocessing(ABC):
    """A change of image and label map that knows how to undo itself on masks; a pure function of its arguments.

    Where a window hangs over the edge of the scaled picture, the image's border goes on, and labels are ignored.
    """

    size: tuple[int, int]
    """Height and width `(H, W)` of what it makes."""

    @property
    def name(self) -> str:
        """The string of which `parse_preprocessing` makes it again; that of the class if it is not among them."""
        return next((name for name, kind in PREPROCESSINGS.items() if type(self) is kind), type(self).__name__)

    @abstractmethod
    def scaled_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """Size `(sh, sw)` to which a picture of `original_size` `(h, w)` is scaled."""

    def windows(self, original_size: tuple[int, int]) -> list[Window]:
        """The `K` windows of the scaled picture, each of `size`; unless told otherwise the central one."""
        return [centred(self.scaled_size(original_size), self.size)]

    def scale_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image `[3, h, w]` uint8 as `[3, sh, sw]` uint8.

        Raises:
            ValueError: it would have to be enlarged to more than memory should hold.
        """
        return resize_image(image, self._checked_size(_size_of(image)))

    def scale_labels(self, label_map: NDArray[Any]) -> NDArray[np.int32]:
        """The label map `[h, w]` as `[sh, sw]` int32, aligned with the image, with labels 1..N without gaps.

        Raises:
            ValueError: it would have to be enlarged to more than memory should hold.
        """
        return resize_label_map(label_map, self._checked_size(_size_of(label_map)))

    def images(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """All windows `[K, 3, H, W]` uint8 of the image `[3, h, w]` uint8; ValueError as `scale_image`."""
        scaled = self.scale_image(image)
        return np.stack([window.cut_image(scaled) for window in self.windows(_size_of(image))])

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The first window `[3, H, W]` uint8 of the image `[3, h, w]` uint8; ValueError as `scale_image`."""
        return np.ascontiguousarray(self.windows(_size_of(image))[0].cut_image(self.scale_image(image)))

    def label_map(self, label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
        """The first window `[H, W]` int32 of the label map `[h, w]`, aligned with the image, with labels 1..N.

        Instances that come out with fewer than `min_area` pixels become background, unless that would take the last.

        Raises:
            ValueError: it would have to be enlarged to more than memory should hold.
        """
        scaled, window = self.scale_labels(label_map), self.windows(_size_of(label_map))[0]
        part = window.cut(scaled)
        largest = int(np.bincount(part[part > 0]).max(initial=1))
        return window.cut_labels(scaled, min(min_area, largest))

    def masks_back(
        self, masks: NDArray[np.float32], original_size: tuple[int, int], number: int = 0
    ) -> NDArray[np.float32]:
        """Soft masks `[T, H, W]` of a window as `[T, h, w]` of the original picture, 0 outside of the window.

        Args:
            masks: in [0, 1].
            original_size: `(h, w)`.
            number: which of `windows` they belong to.

        Raises:
            ValueError: the picture would have to be enlarged to more than memory should hold.
        """
        scaled = np.zeros((len(masks), *self._checked_size(original_size)), np.float32)
        self.windows(original_size)[number].paste(masks, scaled)
        return resize_masks(scaled, original_size)

    def mask_back(
        self, mask: NDArray[np.float32], original_size: tuple[int, int], number: int = 0
    ) -> tuple[Window, NDArray[np.float32]]:
        """`masks_back` of one mask `[H, W]`, but of the rectangle alone that its window covers: where, and what."""
        return Window(0, 0, *original_size), self.masks_back(mask[None], original_size, number)[0]

    def _checked_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        height, width = self.scaled_size(original_size)
        if height * width > max(MOST_PIXELS, original_size[0] * original_size[1]):
            raise ValueError(
                f"preprocessing {self.name!r} would enlarge a picture of {original_size[0]}x{original_size[1]} (height "
                f"x width) to {height}x{width}; at most {MOST_PIXELS} pixels are allowed: use 'squeeze' or 'tile'"
            )
        return height, width


@dataclass(frozen=True)
class Squeeze(Preprocessing):
    """Stretches the whole picture to `size`, whatever its shape was: nothing is lost but proportions and detail."""

    def scaled_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """The size of the networks."""
        return self.size

    def label_map(self, label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
        """Resize a label map by the nearest pixel centre; where no instance is large enough, the largest stays."""
        return resize_label_map(label_map, self.size, min_area)


@dataclass(frozen=True)
class ShorterSide(Preprocessing):
    """Scales until `size` is just filled, and crops what is longer at its middle, as the published code does.

    Of a picture of 530x500 (height x width) and networks for 224x224, 13 of 237 rows are lost. Images are scaled
    bicubically.
    """

    def scaled_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """The smallest size of these proportions that `size` fits into."""
        (h, w), (height, width) = original_size, self.size
        if height * w >= width * h:
            return height, max(width, (2 * w * height + h) // (2 * h))  # rounded
        return max(height, (2 * h * width + w) // (2 * w)), width

    def scale_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale an image bicubically."""
        return resize_image(image, self._checked_size(_size_of(image)), bicubic=True)


@dataclass(frozen=True)
class HalveCrop(Preprocessing):
    """Halves the picture and takes its middle, as the paper's text says: its border is lost."""

    def scaled_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """Half of both sides."""
        return max(original_size[0] // 2, 1), max(original_size[1] // 2, 1)


@dataclass(frozen=True)
class Tile(Preprocessing):
    """Covers the picture with windows that overlap, so that nothing is lost, however large the picture is.

    An instance that lies in several windows is several instances there, which `acis_env.datasets.tiles.join` makes one.
    """

    scale: float = 1.0
    """Factor on both sides of the picture."""
    overlap: float = 0.25
    """Least share of a window's height and width that it has in common with its neighbour."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale of the preprocessing 'tile' must be a positive number, got {self.scale}")
        if not 0 <= self.overlap <= 0.75:
            raise ValueError(f"overlap of the preprocessing 'tile' must be in [0, 0.75], got {self.overlap}")

    @property
    def name(self) -> str:
        """`"tile"`, `"tile:SCALE"` or `"tile:SCALE:OVERLAP"`."""
        if self.overlap != Tile.overlap:
            return f"tile:{self.scale!r}:{self.overlap!r}"
        return "tile" if self.scale == Tile.scale else f"tile:{self.scale!r}"

    def scaled_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """`scale` times the original size."""
        height, width = (max(1, round(length * self.scale)) for length in original_size)
        return height, width

    def windows(self, original_size: tuple[int, int]) -> list[Window]:
        """As many windows as are needed, evenly spread, row by row."""
        height, width = (round(side * self.overlap) for side in self.size)
        return list(_covering(self.scaled_size(original_size), self.size, (height, width)))

    def mask_back(
        self, mask: NDArray[np.float32], original_size: tuple[int, int], number: int = 0
    ) -> tuple[Window, NDArray[np.float32]]:
        """The rectangle of the picture that a window covers, and the mask there, to rounding: a large picture has many
        windows, and no time to be made once for every mask.
        """
        scaled, window = self._checked_size(original_size), self.windows(original_size)[number]
        inside = window.clipped(scaled)
        part = inside.within(window).cut(mask)
        if scaled == original_size:
            return inside, np.ascontiguousarray(part)
        y, rows = _bilinear(original_size[0], scaled[0], inside.y, inside.height)
        x, columns = _bilinear(original_size[1], scaled[1], inside.x, inside.width)
        return Window(y, x, len(rows), len(columns)), rows @ part @ columns.T


PREPROCESSINGS: dict[str, type[Preprocessing]] = {
    "squeeze": Squeeze,
    "shorter-side": ShorterSide,
    "halve-crop": HalveCrop,
    "tile": Tile,
}
"""The ways by name. One of your own is a subclass with the method `scaled_size`, and an entry here."""


def parse_preprocessing(preprocessing: str | Preprocessing, size: tuple[int, int]) -> Preprocessing:
    """What a name, or an object, means for networks of `size` `(H, W)`.

    Args:
        preprocessing: a name in `PREPROCESSINGS`, behind which the numbers of "tile" may stand, as in "tile:0.5" (half
            the original scale) or "tile:1:0.4" (windows that overlap by 40 %); or an object of this size.
        size: of the networks.

    Raises:
        ValueError: there is no such name, a number is none or out of range, or the object has another size.
    """
    if isinstance(preprocessing, Preprocessing):
        if preprocessing.size != size:
            raise ValueError(f"preprocessing must be for the networks' size {size}, got {preprocessing}")
        return preprocessing
    name, *numbers = preprocessing.split(":") if isinstance(preprocessing, str) else [""]
    if name not in PREPROCESSINGS or (numbers and name != "tile") or len(numbers) > 2:
        known = ", ".join(map(repr, nearest_first(name, [*PREPROCESSINGS, "tile:SCALE", "tile:SCALE:OVERLAP"])))
        raise ValueError(f"preprocessing must be one of {known}, got {preprocessing!r}")
    try:
        values = [float(number) for number in numbers]
    except ValueError as error:
        raise ValueError(f"preprocessing must be tile:SCALE:OVERLAP with two numbers, got {preprocessing!r}") from error
    return PREPROCESSINGS[name](size, *values)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int], bicubic: bool = False) -> NDArray[np.uint8]:
    """Resize `image` `[3, h, w]` to `size`, `[3, H, W]` uint8: shrinking averages, growing interpolates.

    With `bicubic`, a pixel comes from the 16 nearest ones in either case.
    """
    if image.shape[1:] == size:
        return image.copy()
    shrinks = size[0] <= image.shape[1] and size[1] <= image.shape[2]
    interpolation = cv2.INTER_CUBIC if bicubic else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
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


@lru_cache(maxsize=8)
def _covering(size: tuple[int, int], window_size: tuple[int, int], overlap: tuple[int, int]) -> tuple[Window, ...]:
    """`covering`, which is asked for once per mask of a picture."""
    return tuple(covering(size, window_size, overlap))


def _bilinear(length: int, scaled: int, start: int, count: int) -> tuple[int, NDArray[np.float32]]:
    """Weights by which one side of a scaled picture is interpolated, of its pixels from `start` on.

    Args:
        length: number of pixels of the original side.
        scaled: of the scaled one.
        start: first of the scaled pixels that are not zero.
        count: number of these.

    Returns:
        The first original pixel to which they contribute, and weights `[n, count]` of the `n` original pixels from
        there on. Beyond the centre of the last scaled pixel, that one goes on.
    """
    centres = np.clip((np.arange(length) + 0.5) * scaled / length - 0.5, 0, scaled - 1)
    lower = np.floor(centres).astype(int)
    upper = np.minimum(lower + 1, scaled - 1)
    first = int(np.searchsorted(upper, start))
    end = int(np.searchsorted(lower, start + count))
    weights = np.zeros((end - first, count + 1), np.float32)  # what falls outside goes to the last column
    share = (centres - lower)[first:end]
    places = np.arange(end - first)
    for pixels, values in ((lower, 1 - share), (upper, share)):
        columns = pixels[first:end] - start
        np.add.at(weights, (places, np.where((columns >= 0) & (columns < count), columns, count)), values)
    return first, np.ascontiguousarray(weights[:, :count])


def resize_masks(masks: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize soft masks `[T, H, W]` to `size` `(h, w)` by bilinear interpolation."""
    if masks.shape[1:] == size:
        return masks
    resized = [cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for mask in masks]
    return np.stack(resized).astype(np.float32) if resized else np.zeros((0, *size), dtype=np.float32)


def _largest_label(label_map: NDArray[Any]) -> int:
    labels, areas = np.unique(label_map[label_map > 0], return_counts=True)
    return int(labels[areas.argmax()])


def _size_of(picture: NDArray[Any]) -> tuple[int, int]:
    """Height and width of `[..., h, w]`."""
    return picture.shape[-2], picture.shape[-1]
