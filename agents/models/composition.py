"""Label maps of soft masks: the rule by which masks share the pixels of a picture, and masks that lie in windows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from acis_env.configs import check_choice
from acis_env.datasets.preprocessing import Preprocessing
from acis_env.datasets.tiles import join, without_fragments
from acis_env.datasets.windows import Window

Overlaps = Literal["most-probable", "first-predicted"]
"""Which of the masks that hold a pixel gets it."""
LEAST_OWNED = 0.5
"""Share of the pixels of a mask that it keeps in a picture of several windows, or else it is a repetition."""
FOREGROUND_LEVEL = 0.5
"""Predicted probability from which on a pixel is foreground, which filling gives to masks."""


@dataclass(frozen=True)
class Composition:
    """Rule by which the masks of a picture become its label map."""

    threshold: float = 0.5
    """Probability below which a mask does not hold a pixel."""
    overlaps: Overlaps = "most-probable"
    """Which of the masks that hold a pixel gets it: that of the highest probability there, or the first predicted."""
    fill: float = 0.0
    """A pixel of the predicted foreground that no mask holds goes to the nearest one that is at most so many pixels
    away, at the size of the networks; 0 leaves it to the background."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), got {self.threshold}")
        check_choice(self, "overlaps")
        if not 0 <= self.fill < math.inf:
            raise ValueError(f"fill must be a number of pixels, at least 0, got {self.fill}")


DEFAULT = Composition()
"""The rule where none is given: overlaps to the most probable mask, nothing is filled."""


def compose_label_map(masks: NDArray[np.float32], rule: Composition = DEFAULT) -> NDArray[np.int32]:
    """Hard label map `[h, w]` of soft masks `[T, h, w]`, without filling; label t is the t-th mask."""
    if len(masks) == 0:
        return np.zeros(masks.shape[1:], dtype=np.int32)
    # The first of the largest values: of probabilities, or of "holds the pixel".
    order = masks if rule.overlaps == "most-probable" else masks >= rule.threshold
    labels = order.argmax(0).astype(np.int32) + 1
    return np.where(masks.max(0) >= rule.threshold, labels, 0).astype(np.int32)


def fill_foreground(
    label_map: NDArray[np.int32], foreground: NDArray[np.bool_], distance: float, pitch: tuple[float, float] = (1, 1)
) -> NDArray[np.int32]:
    """Give pixels of the foreground without a label that of the nearest pixel that has one.

    Args:
        label_map: `[h, w]`, 0 = background.
        foreground: `[h, w]`.
        distance: between the centres of the two pixels, at most.
        pitch: distances of neighbouring rows and of neighbouring columns, in the unit of `distance`.

    Returns:
        `[h, w]`. Where two labels are equally near, either may win.
    """
    if distance == 0 or not label_map.any():
        return label_map
    far, nearest = distance_transform_edt(label_map == 0, sampling=pitch, return_indices=True)
    return np.where(foreground & (far <= distance), label_map[tuple(nearest)], label_map)


@dataclass(frozen=True)
class PictureMasks:
    """The soft masks of a picture as the windows of its preprocessing show them, small; each is brought back when it is
    needed.

    Masks return as probabilities, to where their window lies. What is one instance in several windows is one mask, the
    largest probability of its parts, but of those that are cut only where there is no other (see `without_fragments`).
    """

    parts: Sequence[Sequence[tuple[int, NDArray[np.float32]]]]
    """For each mask, in the order of prediction, numbers of windows with what they show of it: `[H, W]` in [0, 1]."""
    size: tuple[int, int]
    """`(h, w)` of the picture."""
    preprocessing: Preprocessing
    """How the windows were cut."""

    @classmethod
    def joined(
        cls,
        masks: Sequence[NDArray[np.float32]],
        size: tuple[int, int],
        preprocessing: Preprocessing,
        rule: Composition = DEFAULT,
        most: int | None = None,
    ) -> PictureMasks:
        """Find which masks of several windows are one instance; of several windows, masks that own no pixel are left
        out.

        Args:
            masks: of each of the `K` windows, `[T, H, W]` in [0, 1] with a `T` of its own.
            size: `(h, w)` of the picture.
            preprocessing: how the windows were cut.
            rule: says which pixels a mask owns in its window.
            most: only the first so many masks of the picture.
        """
        windows = preprocessing.windows(size)
        if len(windows) == 1:
            groups = [[(0, label)] for label in range(1, len(masks[0]) + 1)]
        else:
            label_maps = [compose_label_map(found, rule) for found in masks]
            groups = without_fragments(join(label_maps, windows), label_maps, windows)
        return cls([[(k, masks[k][label - 1]) for k, label in group] for group in groups[:most]], size, preprocessing)

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.parts)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Masks `[h, w]` in [0, 1], one at a time: a large picture has no room for all."""
        for window, mask in map(self._back, self.parts):
            whole = np.zeros(self.size, np.float32)
            window.cut(whole)[...] = mask
            yield whole

    def label_map(
        self, rule: Composition = DEFAULT, foregrounds: Sequence[NDArray[np.float32]] | None = None
    ) -> NDArray[np.int32]:
        """Hard label map `[h, w]`; label t is the t-th mask.

        Of several windows, masks that would keep less than half of the pixels that they hold are left out of it where
        others hold more than half of them: they repeat what another window shows.

        Args:
            rule: how masks share the pixels.
            foregrounds: predicted foreground `[H, W]` in [0, 1] of every window, which filling needs.

        Raises:
            ValueError: the rule fills, and there are no foregrounds.
        """
        label_map, held = self._owners(rule, set())
        if len(self.preprocessing.windows(self.size)) > 1:
            owned = np.bincount(label_map.ravel(), minlength=len(held))
            doubtful = np.flatnonzero(owned < LEAST_OWNED * held)
            least_first = doubtful[np.argsort(owned[doubtful] / held[doubtful], kind="stable")]
            if repeated := self._repeated(least_first.tolist(), rule.threshold):
                label_map, _ = self._owners(rule, repeated)
        if rule.fill == 0:
            return label_map
        if foregrounds is None:
            raise ValueError(f"fill = {rule.fill} needs the predicted foreground of every window, got none")
        foreground = self._back(list(enumerate(foregrounds)))[1] >= FOREGROUND_LEVEL
        scaled = self.preprocessing.scaled_size(self.size)
        return fill_foreground(label_map, foreground, rule.fill, (scaled[0] / self.size[0], scaled[1] / self.size[1]))

    def _owners(self, rule: Composition, without: set[int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The label map `[h, w]` without filling, and the number of pixels that each label `[T + 1]` holds."""
        owner = np.zeros(self.size, np.min_scalar_type(len(self)))
        best = np.zeros(self.size, np.float32)
        held = np.zeros(len(self) + 1, np.int64)
        for number, parts in enumerate(self.parts, start=1):
            if number in without:
                continue
            window, mask = self._back(parts)
            held[number] = (mask >= rule.threshold).sum()
            there = window.cut(best)
            wins = mask > there if rule.overlaps == "most-probable" else (mask >= rule.threshold) & (there == 0)
            window.cut(owner)[wins] = number
            there[wins] = mask[wins]
        owner[best < rule.threshold] = 0
        return owner.astype(np.int32), held

    def _repeated(self, doubtful: Sequence[int], threshold: float) -> set[int]:
        """Those of `doubtful` that can go, one after the other: masks that stay hold more than half of each."""
        if not doubtful:
            return set()
        holders = np.zeros(self.size, np.int32)
        for window, mask in map(self._back, self.parts):
            window.cut(holders)[...] += mask >= threshold
        repeated = set()
        for number in doubtful:
            window, mask = self._back(self.parts[number - 1])
            there, holds = window.cut(holders), mask >= threshold
            if (there[holds] > 1).mean() > 1 - LEAST_OWNED:
                repeated.add(number)
                there[holds] -= 1
        return repeated

    def hard(self, threshold: float = DEFAULT.threshold) -> NDArray[np.bool_]:
        """Where each mask reaches `threshold`: `[T, h, w]` bool, overlaps included and nothing filled."""
        return self._stack(np.dtype(bool), threshold)

    def soft(self) -> NDArray[np.float32]:
        """All masks `[T, h, w]` in [0, 1], in four times the memory."""
        return self._stack(np.dtype(np.float32), None)

    def _stack(self, dtype: np.dtype[Any], threshold: float | None) -> NDArray[Any]:
        kept = np.zeros((len(self), *self.size), dtype)
        for place, (window, mask) in zip(kept, map(self._back, self.parts), strict=True):
            window.cut(place)[...] = mask if threshold is None else mask >= threshold
        return kept

    def _back(self, parts: Sequence[tuple[int, NDArray[np.float32]]]) -> tuple[Window, NDArray[np.float32]]:
        """Where parts `[H, W]` of windows lie in the picture, and their largest probability there."""
        found = [self.preprocessing.mask_back(part, self.size, k) for k, part in parts]
        if len(found) == 1:
            return found[0]
        y, x = (min(getattr(window, side) for window, _ in found) for side in ("y", "x"))
        bottom, right = max(w.y + w.height for w, _ in found), max(w.x + w.width for w, _ in found)
        whole = Window(y, x, bottom - y, right - x)
        largest = np.zeros(whole.size, np.float32)
        for window, mask in found:
            place = window.within(whole).cut(largest)
            np.maximum(place, mask, out=place)
        return whole, largest
