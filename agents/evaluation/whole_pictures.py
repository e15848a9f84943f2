"""Whole pictures of a source of episodes, each segmented in as many windows as its preprocessing cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from acis_env.datasets.preprocessing import Preprocessing
from acis_env.datasets.scene import Scene
from acis_env.datasets.tiles import TiledScenes
from acis_env.dynamics import EnvState
from acis_env.episode_source import EpisodeSource
from acis_env.networks import FOREGROUND
from agents.evaluation.segmenters import Segmenter
from agents.models.prediction import Stopping

BATCH = 32
"""Episodes that are played at a time."""


@dataclass(frozen=True)
class Segmented:
    """What a segmenter predicts of one picture, window by window."""

    index: int
    scene: Scene
    own: list[NDArray[Any]]  # K times [T, H, W] in [0, 1], with the number of masks that the segmenter gives
    true: list[NDArray[Any]]  # K times [T, H, W], as many as the window has instances, or more if it is the only one
    foregrounds: list[NDArray[Any]]  # K times [H, W] in [0, 1], as the context shows it
    stopping: Stopping  # whose the number of `own` is


class WholePictures:
    """The pictures of a source at their own size, however they are cut for the networks.

    Attributes:
        preprocessing: how they are cut.
    """

    def __init__(self, source: EpisodeSource) -> None:
        """Take a source with scenes."""
        self.source, packed = source, source.own_scenes
        self._tiles = packed.dataset if isinstance(packed.dataset, TiledScenes) else None
        self.preprocessing: Preprocessing = packed.preprocessing if self._tiles is None else self._tiles.tile

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.source.own_scenes) if self._tiles is None else len(self._tiles.pictures)

    def scene(self, index: int) -> Scene:
        """Picture `index` at its own size, with labels 1..N."""
        return self.source.own_scenes.scene(index) if self._tiles is None else self._tiles.picture(index)

    def segmented(self, segmenter: Segmenter, indices: Sequence[int]) -> Iterator[Segmented]:
        """What `segmenter` predicts of the pictures `indices`, in fresh episodes."""
        if self._tiles is not None:
            yield from (self._segment_windows(segmenter, index, self._tiles) for index in indices)
            return
        for state, part in iterate(self.source, indices):
            prediction = segmenter(state)
            masks, foregrounds = prediction.masks.numpy(force=True), _foregrounds(state)
            found = zip(part, prediction.counted(), masks, foregrounds, strict=True)
            for index, own, true, foreground in found:
                yield Segmented(index, self.scene(index), [own], [true], [foreground], prediction.stopping)

    def _segment_windows(self, segmenter: Segmenter, index: int, tiles: TiledScenes) -> Segmented:
        own, true, foregrounds, windows = [], [], [], tiles.windows_of(index)
        stopping: Stopping = "own"
        for start in range(0, len(windows), BATCH):
            state, _ = self.source.begin(windows[start : start + BATCH])
            self.source.own_scenes.expect(range(windows.start + start + BATCH, windows.stop))
            prediction = segmenter(state)
            own += prediction.counted()
            true += prediction.counted(state.num_instances)
            foregrounds += _foregrounds(state)
            stopping = prediction.stopping
        return Segmented(index, self.scene(index), own, true, foregrounds, stopping)


def _foregrounds(state: EnvState) -> list[NDArray[Any]]:
    """The foreground `[H, W]` of each scene."""
    return list(state.context[:, FOREGROUND].numpy(force=True))


def iterate(
    source: EpisodeSource, indices: Sequence[int] | None = None, size: int = BATCH
) -> Iterator[tuple[EnvState, list[int]]]:
    """Fresh episodes in the scenes `indices`, by default all of them, `size` at a time, with the indices of these."""
    indices = range(len(source.own_scenes)) if indices is None else indices
    for start in range(0, len(indices), size):
        part = list(indices[start : start + size])
        state, _ = source.begin(part)
        source.own_scenes.expect(indices[start + size : start + 2 * size])
        yield state, part
