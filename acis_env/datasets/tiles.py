"""Pictures as windows that overlap: a data set of the windows, and instances that are joined across them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.preprocessing import Preprocessing, Squeeze, Tile
from acis_env.datasets.scene import Scene, SceneDataset
from acis_env.datasets.windows import Window, cut_scene
from acis_env.ops.labels import relabel

AGREEMENT = 0.5
"""Least IoU, in the pixels that two windows have in common, of instances that are one."""


class TiledScenes:
    """The windows of a data set's pictures, each a scene of the networks' size; a `SceneDataset`.

    A picture whose windows are asked for one after the other is decoded once.

    Attributes:
        pictures: the data set.
        tile: how the windows lie.
        max_instances: that of the data set, which no window can exceed.
    """

    def __init__(self, pictures: SceneDataset, tile: Tile) -> None:
        """Find all windows.

        Args:
            pictures: the data set. Where it has `sizes`, the `(h, w)` of all of its scenes, nothing is decoded here.
            tile: how the windows lie.
        """
        self.pictures, self.tile, self.max_instances = pictures, tile, pictures.max_instances
        sizes = getattr(pictures, "sizes", None)
        if sizes is None:
            sizes = [pictures[index].image.shape[1:] for index in range(len(pictures))]
        self._windows = [tile.windows((size[0], size[1])) for size in sizes]
        self._first = np.cumsum([0, *map(len, self._windows)]).tolist()
        self._scaled: tuple[int, Scene] | None = None

    def __len__(self) -> int:
        """Number of windows of all pictures."""
        return int(self._first[-1])

    def __getitem__(self, index: int) -> Scene:
        """Window `index`, named `<name>@<y>,<x>` by its place in the scaled picture."""
        if not 0 <= index < len(self):
            raise IndexError(f"scene index must be in [0, {len(self)}), got {index}")
        number = int(np.searchsorted(self._first, index, "right")) - 1
        return cut_scene(self._scale(number), self._windows[number][index - self._first[number]])

    def __iter__(self) -> Iterator[Scene]:
        """All windows in order."""
        return (self[index] for index in range(len(self)))

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask for windows at once: as those of the data set may."""
        return getattr(self.pictures, "is_thread_safe", False) is True

    @property
    def fingerprint(self) -> str | None:
        """Of the data set and its windows; None if the data set has none."""
        own = getattr(self.pictures, "fingerprint", None)
        return f"{own} {self.tile!r}" if isinstance(own, str) else None

    def picture(self, number: int) -> Scene:
        """The whole picture at its own size, with labels 1..N without gaps."""
        scene = self.pictures[number]
        return scene if scene.label_map is None else replace(scene, label_map=relabel(scene.label_map))

    def windows_of(self, number: int) -> range:
        """Indices of the windows of a picture."""
        return range(self._first[number], self._first[number + 1])

    def _scale(self, number: int) -> Scene:
        known = self._scaled  # one look, since other threads may be here, too
        if known is not None and known[0] == number:
            return known[1]
        scene, tile = self.pictures[number], self.tile
        try:
            image = tile.scale_image(scene.image)
        except ValueError as error:  # it would be too large
            raise ValueError(f"{scene.name}: {error}") from error
        label_map = None if scene.label_map is None else tile.scale_labels(scene.label_map)
        foreground = scene.foreground
        if foreground is not None:
            foreground = tile.scale_labels(foreground.astype(np.int32)) > 0
        scaled = Scene(image, label_map, scene.name, foreground)
        self._scaled = number, scaled
        return scaled


def windowed(dataset: SceneDataset, preprocessing: Preprocessing) -> tuple[SceneDataset, Preprocessing]:
    """The data set whose scenes `preprocessing` makes one picture of each, and what then remains to be done to them."""
    if isinstance(preprocessing, Tile):
        return TiledScenes(dataset, preprocessing), Squeeze(preprocessing.size)
    return dataset, preprocessing


def join(label_maps: Sequence[NDArray[Any]], windows: Sequence[Window]) -> list[list[tuple[int, int]]]:
    """Find the instances that lie in several windows, by where these overlap.

    Two instances are one if they agree there. Pairs that have most pixels in common are joined first, and an instance
    has at most one part in each window, so that neighbours which touch stay apart.

    Args:
        label_maps: of each of `K` windows, `[H, W]`, 0 = background.
        windows: where they lie.

    Returns:
        The parts of each instance as pairs of window and label, those of the lowest label first.
    """
    parts = [(k, label) for k, found in enumerate(label_maps) for label in np.unique(found[found > 0]).tolist()]
    groups = {part: [part] for part in parts}
    for first, second in _agreements(label_maps, windows):
        ours, theirs = groups[first], groups[second]
        if ours is not theirs and {k for k, _ in ours}.isdisjoint(k for k, _ in theirs):
            ours += theirs
            groups |= dict.fromkeys(theirs, ours)
    distinct = {id(group): sorted(group) for group in groups.values()}.values()
    return sorted(distinct, key=lambda group: (min(label for _, label in group), group))


Part = tuple[int, int]
"""A window and a label in it."""


def _agreements(label_maps: Sequence[NDArray[Any]], windows: Sequence[Window]) -> list[tuple[Part, Part]]:
    """Pairs of parts in different windows that agree, those with most pixels in common first."""
    found: list[tuple[int, Part, Part]] = []
    for k, window in enumerate(windows):
        for other in range(k + 1, len(windows)):
            common = window.common(windows[other])
            if common.height == 0 or common.width == 0:
                continue
            ours = common.within(window).cut(label_maps[k]).ravel().astype(np.int64)
            theirs = common.within(windows[other]).cut(label_maps[other]).ravel().astype(np.int64)
            shape = int(ours.max(initial=0)) + 1, int(theirs.max(initial=0)) + 1
            known = (ours >= 0) & (theirs >= 0)
            shared = np.bincount((ours * shape[1] + theirs)[known], minlength=shape[0] * shape[1]).reshape(shape)
            union = shared.sum(1)[:, None] + shared.sum(0) - shared
            for a, b in np.argwhere(shared[1:, 1:] >= AGREEMENT * np.maximum(union[1:, 1:], 1)) + 1:
                found.append((int(shared[a, b]), (k, int(a)), (other, int(b))))
    found.sort(key=lambda agreement: -agreement[0])
    return [(first, second) for _, first, second in found]
