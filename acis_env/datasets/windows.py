"""Windows: rectangular parts of pictures, which may hang over the edges."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.scene import IGNORED, Scene, SceneDataset
from acis_env.ops.labels import relabel

TRIES_PER_CROP = 20
"""Windows drawn for one random crop until one of them has what is asked for."""


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; `y` and `x` are those of its first one in the picture."""

    y: int
    x: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def clipped(self, size: tuple[int, int]) -> Window:
        """The part that lies in a picture of `size` `(h, w)`; its sides are 0 where there is none."""
        return self.common(Window(0, 0, *size))

    def common(self, other: Window) -> Window:
        """The part that lies in another window, too; its sides are 0 where there is none."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - y
        width = min(self.x + self.width, other.x + other.width) - x
        return Window(y, x, max(height, 0), max(width, 0))

    def within(self, other: Window) -> Window:
        """The same rectangle in the coordinates of `other`."""
        return Window(self.y - other.y, self.x - other.x, self.height, self.width)

    def cut(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Pixels of `picture` `[..., h, w]` inside of the window: a view, smaller where the window hangs over."""
        inside = self.clipped(picture.shape[-2:])
        return picture[..., inside.y : inside.y + inside.height, inside.x : inside.x + inside.width]

    def cut_image(self, image: NDArray[Any]) -> NDArray[Any]:
        """The window `[..., height, width]` of `image` `[..., h, w]`, whose border goes on where it hangs over."""
        inside = self.clipped(image.shape[-2:])
        before = inside.y - self.y, inside.x - self.x
        after = self.height - inside.height - before[0], self.width - inside.width - before[1]
        margins = [(0, 0)] * (image.ndim - 2) + list(zip(before, after, strict=True))
        return np.pad(self.cut(image), margins, mode="edge")

    def cut_labels(self, label_map: NDArray[Any], min_area: int = 1) -> NDArray[np.int32]:
        """The window `[height, width]` of a label map `[h, w]`, ignored where it hangs over, with labels 1..N.

        Instances that have fewer than `min_area` pixels there become background.
        """
        part = np.full(self.size, IGNORED, np.int32)
        Window(0, 0, *label_map.shape).within(self).cut(part)[...] = relabel(self.cut(label_map), min_area)
        return part

    def paste(self, part: NDArray[Any], picture: NDArray[Any]) -> None:
        """Write `part` `[..., height, width]` into `picture` `[..., h, w]`, as far as the window lies in it."""
        self.cut(picture)[...] = Window(0, 0, *picture.shape[-2:]).within(self).cut(part)


def centred(size: tuple[int, int], window_size: tuple[int, int]) -> Window:
    """The central window of a picture of `size` `(h, w)`."""
    return Window((size[0] - window_size[0]) // 2, (size[1] - window_size[1]) // 2, *window_size)


def anywhere(size: tuple[int, int], window_size: tuple[int, int], generator: np.random.Generator) -> Window:
    """A window anywhere in a picture of `size` `(h, w)`; centred along a side that the picture is too short for."""
    first = centred(size, window_size)
    y, x = (
        int(generator.integers(length - side + 1)) if length > side else middle
        for length, side, middle in zip(size, window_size, (first.y, first.x), strict=True)
    )
    return Window(y, x, *window_size)


def covering(size: tuple[int, int], window_size: tuple[int, int], overlap: tuple[int, int]) -> list[Window]:
    """Windows that cover a picture of `size` `(h, w)` evenly, row by row.

    Args:
        size: of the picture.
        window_size: of each window.
        overlap: least number of rows and columns that neighbours have in common, each less than the window's.
    """
    rows, columns = (_starts(*lengths) for lengths in zip(size, window_size, overlap, strict=True))
    return [Window(y, x, *window_size) for y in rows for x in columns]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where windows begin along one side of the picture."""
    if length <= side:
        return [(length - side) // 2]
    count = -((overlap - length) // (side - overlap))  # the quotient rounded up
    return [number * (length - side) // (count - 1) for number in range(count)]


def cut_scene(scene: Scene, window: Window, min_area: int = 1) -> Scene:
    """The part of `scene` in `window`, named `<name>@<y>,<x>`; what hangs over is ignored."""
    label_map = None if scene.label_map is None else window.cut_labels(scene.label_map, min_area)
    foreground = None
    if scene.foreground is not None:
        foreground = np.zeros(window.size, np.bool_)
        Window(0, 0, *scene.foreground.shape).within(window).cut(foreground)[...] = window.cut(scene.foreground)
    image = np.ascontiguousarray(window.cut_image(scene.image))
    return Scene(image, label_map, f"{scene.name}@{window.y},{window.x}", foreground)


class RandomCrops:
    """Random windows of the pictures of a data set, at the scale of these; a `SceneDataset`.

    The crops of a picture depend on the seed and on the picture's name alone. A picture is decoded when one of its
    crops is asked for.

    Attributes:
        max_instances: that of the data set, which no crop can exceed.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        size: tuple[int, int],
        crops_per_image: int = 1,
        min_instances: int = 1,
        min_area: int = 1,
        seed: int = 0,
    ) -> None:
        """Decode nothing yet.

        Args:
            dataset: the pictures.
            size: height and width of the crops in px. What hangs over a smaller picture is ignored.
            crops_per_image: crops of each picture; picture `i` has the scenes from `i * crops_per_image` on.
            min_instances: instances wanted in a crop; where windows of so many are not found, the fullest is taken.
            min_area: instances of fewer pixels in the crop become background and don't count.
            seed: seed of all windows.

        Raises:
            ValueError: an argument is out of range.
        """
        if min(size) < 1:
            raise ValueError(f"size of crops must be two sides of at least 1 px, got {size}")
        for name, value, least in (
            ("crops_per_image", crops_per_image, 1),
            ("min_instances", min_instances, 0),
            ("min_area", min_area, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.dataset, self.size, self.crops_per_image = dataset, size, crops_per_image
        self.min_instances, self.min_area, self.seed = min_instances, min_area, seed
        self.max_instances = dataset.max_instances

    def __len__(self) -> int:
        """Number of crops."""
        return len(self.dataset) * self.crops_per_image

    def __getitem__(self, index: int) -> Scene:
        """Crop `index`, named `<name>@<y>,<x>`."""
        picture, number = divmod(index, self.crops_per_image)
        scene = self.dataset[picture]
        return cut_scene(scene, self._place(scene, number), self.min_area)

    def __iter__(self) -> Iterator[Scene]:
        """All crops in order."""
        return (self[index] for index in range(len(self)))

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask for crops at once: as those of the data set may."""
        return getattr(self.dataset, "is_thread_safe", False) is True

    @property
    def fingerprint(self) -> str | None:
        """Of the data set and its crops; None if the data set has none."""
        own = getattr(self.dataset, "fingerprint", None)
        options = self.size, self.crops_per_image, self.min_instances, self.min_area, self.seed
        return f"{own} {options}" if isinstance(own, str) else None

    def _place(self, scene: Scene, number: int) -> Window:
        """The first window with instances enough, or the fullest."""
        generator = np.random.default_rng([self.seed, zlib.crc32(scene.name.encode(errors="surrogatepass")), number])
        best, most = None, -1
        for _ in range(TRIES_PER_CROP):
            window = anywhere(scene.image.shape[1:], self.size, generator)
            if scene.label_map is None:
                return window
            count = int(relabel(window.cut(scene.label_map), self.min_area).max(initial=0))
            if count > most:
                best, most = window, count
            if count >= self.min_instances:
                break
        assert best is not None
        return best
