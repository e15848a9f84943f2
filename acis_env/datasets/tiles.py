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
from acis_env.threads import map_in_threads

AGREEMENT = 0.5
"""Least IoU, in the pixels that two windows have in common, of instances that are one."""
NEAR = 2
"""Pixels at a side of a window in which an instance counts as cut: predicted masks may end before the side does."""


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
            find = map_in_threads if self.is_thread_safe else map
            sizes = find(lambda index: pictures[index].image.shape[1:], range(len(pictures)))
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


Part = tuple[int, int]
"""A window and a label in it."""


def join(label_maps: Sequence[NDArray[Any]], windows: Sequence[Window]) -> list[list[Part]]:
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


def without_fragments(
    groups: Sequence[list[Part]], label_maps: Sequence[NDArray[Any]], windows: Sequence[Window]
) -> list[list[Part]]:
    """Leave out what a window cut off, where another one shows more.

    A part is cut if it comes near a side of its window beyond which the picture goes on. An instance that some window
    shows uncut keeps those parts alone. One whose parts are all cut goes if most pixels of each lie in one larger
    instance, as another window shows it: a predicted fragment need not agree with the whole in the sense of `join`.

    Args:
        groups: parts of each instance, as `join` finds them.
        label_maps: of each of `K` windows, `[H, W]`, 0 = background.
        windows: where they lie.
    """
    edges = _edges(windows)
    ends = *edges[:, :2].min(0), *edges[:, :2].max(0)  # y and x of the first and the last windows
    cut = [_cut_labels(label_map, window, ends) for label_map, window in zip(label_maps, windows, strict=True)]
    kept = [[part for part in group if part[1] not in cut[part[0]]] or list(group) for group in groups]
    areas = [np.bincount(label_map[label_map > 0], minlength=1) for label_map in label_maps]
    size = [max(int(areas[k][label]) for k, label in group) for group in kept]
    owner = {part: number for number, group in enumerate(groups) for part in group}
    for number in sorted(range(len(kept)), key=lambda number: size[number]):
        if all(label in cut[k] for k, label in kept[number]):
            around = [_most_around(part, label_maps, windows, edges) for part in kept[number]]
            holders = {owner[part] for part in around if part is not None}
            if None not in around and all(size[other] > size[number] for other in holders):
                kept[number] = []
    return [group for group in kept if group]


def _cut_labels(label_map: NDArray[Any], window: Window, ends: tuple[int, int, int, int]) -> set[int]:
    """Labels that come near a side of `window` beyond which the picture goes on.

    Args:
        label_map: `[H, W]` of the window.
        window: where it lies.
        ends: the `y` and `x` of the windows at the top and at the left, and of those at the bottom and at the right.
    """
    sides = [
        side.ravel()
        for side, goes_on in (
            (label_map[:NEAR], window.y > ends[0]),
            (label_map[:, :NEAR], window.x > ends[1]),
            (label_map[-NEAR:], window.y < ends[2]),
            (label_map[:, -NEAR:], window.x < ends[3]),
        )
        if goes_on
    ]
    return set(np.concatenate(sides).tolist()) - {0} if sides else set()


def _most_around(
    part: Part, label_maps: Sequence[NDArray[Any]], windows: Sequence[Window], edges: NDArray[np.int64]
) -> Part | None:
    """The part of another window that holds most pixels of `part`, if it holds more than half of them."""
    k, label = part
    best, most = None, int((label_maps[k] == label).sum()) / 2
    for other in _meeting(k, edges):
        common = windows[k].common(windows[other])
        ours = common.within(windows[k]).cut(label_maps[k]) == label
        theirs = common.within(windows[other]).cut(label_maps[other])[ours]
        counts = np.bincount(theirs[theirs > 0], minlength=1)
        if counts.max() > most:
            best, most = (other, int(counts.argmax())), counts.max()
    return best


def _edges(windows: Sequence[Window]) -> NDArray[np.int64]:
    """First row and column of each window, and those after the last: `[K, 4]`."""
    return np.array([(w.y, w.x, w.y + w.height, w.x + w.width) for w in windows], np.int64)


def _meeting(k: int, edges: NDArray[np.int64]) -> list[int]:
    """Numbers of the windows that have pixels in common with window `k`, itself not among them."""
    meets = (edges[:, :2] < edges[k, 2:]).all(1) & (edges[k, :2] < edges[:, 2:]).all(1)
    return [other for other in np.flatnonzero(meets).tolist() if other != k]


def _agreements(label_maps: Sequence[NDArray[Any]], windows: Sequence[Window]) -> list[tuple[Part, Part]]:
    """Pairs of parts in different windows that agree, those with most pixels in common first."""
    found: list[tuple[int, Part, Part]] = []
    edges, is_filled = _edges(windows), [bool((label_map > 0).any()) for label_map in label_maps]
    for k, window in enumerate(windows):
        for other in _meeting(k, edges) if is_filled[k] else ():
            if other < k or not is_filled[other]:
                continue
            common = window.common(windows[other])
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
