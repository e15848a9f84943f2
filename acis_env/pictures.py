"""Picture files: what their pixels mean, the same wherever a file is read.

| pixels | as a picture, RGB in 0..255 |
| --- | --- |
| 8-bit grey, RGB, palette, CMYK, black and white | as shown; alpha is dropped |
| 16-bit grey or RGB | 0..65535 becomes 0..255 |
| floats in [0, 1] | 0..1 becomes 0..255 |
| signed or 32-bit integers, other floats | refused, since they have no range of their own, but see `percentiles` |

The orientation that a camera notes in a file is applied, to label maps, too. Of several pages one has to be chosen; of
a telephone's MPO the first is the photo.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acis_env.ops.labels import IGNORED
from acis_env.plain_png import plain_grey, plain_size

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read; none of them starts another program."""
ORIENTATION = 0x0112
TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
"""How the pixels `[H, W, ...]` of a file become upright, by its EXIF orientation."""
SAMPLE_FORMAT, UNSIGNED = 339, 1

_log = logging.getLogger(__name__)
_said: set[str] = set()


@dataclass(frozen=True)
class Reading:
    """How picture files are read; every option may be left alone for 8-bit pictures and grey or palette labels."""

    percentiles: Sequence[float] | None = None
    """Two percentiles of a picture's own values, such as (0.1, 99.9), that become 0 and 255."""
    page: int | None = None
    """Page of a picture that has several, from 0."""
    ignore: int | Collection[int] = ()
    """Labels of pixels that are neither background nor instance, and become -1; such as 255, the void of Pascal VOC."""
    coloured_labels: bool = False
    """Whether label maps may be in colours, each of which is one instance, R + 256 G + 65536 B, and black the
    background."""

    def __post_init__(self) -> None:
        if self.percentiles is not None and not _are_percentiles(self.percentiles):
            raise ValueError(f"percentiles must be two rising numbers from 0 to 100, got {self.percentiles!r}")
        if self.page is not None and self.page < 0:
            raise ValueError(f"page must be at least 0, got {self.page}")

    def size(self, path: Path, formats: Sequence[str] = FORMATS) -> tuple[int, int]:
        """Height and width of a picture by its header.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no picture, is too large, or has several pages and none is chosen.
        """
        if "PNG" in formats and not self.page and (plain := plain_size(path)) is not None:
            return plain
        with _opened(path, self.page, formats) as image:
            # Pillow has turned the size of a TIFF already.
            is_turned = image.format != "TIFF" and _orientation(path, image) >= 5
            return (image.width, image.height) if is_turned else (image.height, image.width)

    def picture(self, path: Path, formats: Sequence[str] = FORMATS) -> NDArray[np.uint8]:
        """A picture as RGB `[H, W, 3]` uint8.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: `size` raises one, the file is damaged, or its values have no range of their own.
        """
        with _opened(path, self.page, formats) as image:
            pixels: NDArray[Any]
            if is_deep := _is_deep_colour(image):
                pixels = _decode_deep_colour(path, self.page or 0)
            else:
                is_raw = image.mode == "F" or image.mode.startswith("I")
                pixels = _decode(path, image, None if is_raw else "RGB")
            # OpenCV and Pillow turn what is in a TIFF by themselves.
            pixels = _upright(path, pixels, image) if not is_deep or image.format != "TIFF" else pixels
        pixels = self._in_bytes(path, pixels)
        return np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)

    def label_map(self, path: Path, formats: Sequence[str] = FORMATS) -> NDArray[Any]:
        """A label map `[H, W]` of integers, 0 = background, -1 = ignored, with gaps where the file has them.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no picture, too large or damaged; it is in colours, although these are not asked
                for; or a label is negative or not whole.
        """
        if "PNG" in formats and (plain := plain_grey(path)) is not None:
            return self._checked_labels(path, plain)
        with _opened(path, None, formats) as image:
            is_coloured = image.mode in ("RGB", "RGBA")
            if image.mode not in ("1", "L", "P", "F") and image.mode[0] != "I" and not is_coloured:
                raise ValueError(f"{path} must be one label per pixel, grey or palette, got {image.mode}")
            if is_coloured and (not self.coloured_labels or _is_deep_colour(image)):
                raise ValueError(
                    f"{path} must be one label per pixel, grey or palette, or with coloured_labels=True one 8-bit "
                    f"colour per instance, got {image.mode}"
                )
            labels = _upright(path, _decode(path, image, "RGB" if is_coloured else None), image)
        if is_coloured:
            labels = colours_as_labels(labels)
        return self._checked_labels(path, labels)

    def _in_bytes(self, path: Path, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if self.percentiles is None and pixels.dtype == np.uint8:
            return pixels
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise ValueError(f"{path} must hold finite values, got NaN or infinity")
        if self.percentiles is None:
            low, high = _full_range(path, pixels)
            _say_once(path, f"{pixels.dtype} values from {low} to {high} become 0 to 255")
        else:
            low, high = np.percentile(pixels, self.percentiles)
            _say_once(path, f"values from percentile {self.percentiles[0]} to {self.percentiles[1]} become 0 to 255")
        wide: type[np.floating[Any]] = np.float64 if pixels.dtype.itemsize > 2 else np.float32
        scaled: NDArray[Any] = pixels.astype(wide)
        scaled -= wide(low)
        scaled *= wide(255 / max(high - low, 1e-12))
        return scaled.round(out=scaled).clip(0, 255, out=scaled).astype(np.uint8)

    def _checked_labels(self, path: Path, labels: NDArray[Any]) -> NDArray[Any]:
        if labels.dtype.kind == "f":
            if not np.isfinite(labels).all() or (labels != np.floor(labels)).any():
                raise ValueError(f"{path} must hold whole numbers as labels, got {_odd_one(labels)}")
            labels = labels.astype(np.int64)
        ignored = [self.ignore] if isinstance(self.ignore, int) else list(self.ignore)
        if not ignored and labels.dtype.kind == "u":
            return labels
        is_ignored = np.isin(labels, ignored)
        if (lowest := labels.min(initial=0, where=~is_ignored)) < 0:
            raise ValueError(
                f"{path} must hold labels from 0 on (0 = background), got {lowest}; with ignore={lowest} its pixels "
                "do not count"
            )
        if is_ignored.any():
            labels = labels.astype(np.promote_types(labels.dtype, np.int8))  # has room for -1
            labels[is_ignored] = IGNORED
        return labels


def colours_as_labels(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """One label per colour of `pixels` `[H, W, 3]`, R + 256 G + 65536 B: `[H, W]`, 0 where they are black."""
    labels: NDArray[np.int32] = pixels.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    return labels


@contextmanager
def _opened(path: Path, page: int | None, formats: Sequence[str]) -> Iterator[Image.Image]:
    """The chosen page of a picture file, by its header."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    with _opening(path, "opened", formats):
        image: Any = Image.open(path, formats=tuple(formats))
    with image:
        with _opening(path, "opened", formats):
            pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if page is None and pages > 1:
            raise ValueError(f"{path} has {pages} pages: choose one by page=0 to {pages - 1}")
        if page is not None and page >= pages:
            raise ValueError(f"{path}: page must be below {pages}, the number of its pages, got {page}")
        if page:
            with _opening(path, "opened", formats):
                image.seek(page)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > 2 * limit:
            raise _too_large(path)
        yield image


@contextmanager
def _opening(path: Path, done: str, formats: Sequence[str]) -> Iterator[None]:
    """Make one error of all in which Pillow ends where a file is damaged."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except Exception as error:
        kind = formats[0] if len(formats) == 1 else "a picture"
        raise ValueError(f"{path} cannot be {done} as {kind}, is it damaged? ({_first_line(error)})") from error


def _too_large(path: Path) -> ValueError:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
    return ValueError(
        f"{path} must have at most {limit} million pixels, and its header promises more: cut it into tiles, or set "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _decode(path: Path, image: Image.Image, mode: str | None) -> NDArray[Any]:
    """Pixels `[H, W]` or `[H, W, 3]`, of the type that they have in the file, or in another mode of Pillow's."""
    with _opening(path, "decoded", (image.format or "",)):
        image.load()
        pixels = np.array(image if mode is None else image.convert(mode))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return pixels.astype(np.uint16)
    if image.mode == "I" and image.format == "TIFF" and _sample_format(image) == UNSIGNED and pixels.min(initial=0) < 0:
        return pixels.view(np.uint32)
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _sample_format(image: Image.Image) -> int:
    found = getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, UNSIGNED)
    return int(found[0] if isinstance(found, tuple) else found)


def _is_deep_colour(image: Any) -> bool:
    """Whether colours have 16 bits, of which Pillow would keep 8."""
    if image.mode not in ("LA", "RGB", "RGBA", "RGBX") or not image.tile:
        return False
    arguments = image.tile[0][3]
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return isinstance(raw_mode, str) and ";16" in raw_mode


def _decode_deep_colour(path: Path, page: int) -> NDArray[np.uint16]:
    """Pixels `[H, W]` or `[H, W, 3]`."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    with _opening(path, "decoded", FORMATS):
        if page:
            _, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(page, page + 1))
            pixels: Any = pages[0]
        else:
            pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        deep: NDArray[np.uint16] = pixels[..., 2::-1] if pixels.ndim == 3 else pixels
    return deep


def _upright(path: Path, pixels: NDArray[Any], image: Image.Image) -> NDArray[Any]:
    """`pixels` turned as the camera says."""
    turn = TURNS.get(_orientation(path, image))
    return pixels if turn is None else turn(pixels)


def _orientation(path: Path, image: Image.Image) -> int:
    with _opening(path, "opened", (image.format or "",)):
        # Not the method of PNG files, which decodes them in search of an orientation behind the pixels.
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))


def _full_range(path: Path, pixels: NDArray[Any]) -> tuple[float, float]:
    """What black and white are for pixels of this type."""
    if pixels.dtype in (np.uint8, np.uint16):
        return 0, int(np.iinfo(pixels.dtype).max)
    lowest, highest = pixels.min(), pixels.max()
    if pixels.dtype.kind != "f" or lowest < 0 or highest > 1:
        raise ValueError(
            f"{path} holds {pixels.dtype} values from {lowest} to {highest}, and what is black and white is not known: "
            "give percentiles, such as 0.1 and 99.9, or save it with 8 or 16 bits"
        )
    return 0, 1


def _are_percentiles(values: Sequence[float]) -> bool:
    return len(values) == 2 and 0 <= values[0] < values[1] <= 100


def _odd_one(labels: NDArray[Any]) -> float:
    """A label that is not whole."""
    return float(labels[~np.isfinite(labels) | (labels != np.floor(labels))][0])


def _say_once(path: Path, what: str) -> None:
    if what not in _said:
        _said.add(what)
        _log.warning("%s: %s, here and in other files of this kind", path, what)
