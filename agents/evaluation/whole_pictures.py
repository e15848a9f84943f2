"""Whole pictures of a source of episodes, each segmented in as many windows as its preprocessing cuts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from acis_env.datasets.preprocessing import Preprocessing
from acis_env.datasets.scene import Scene
from acis_env.datasets.tiles import TiledScenes
from acis_env.dynamics import EnvState
from acis_env.episode_source import EpisodeSource
from agents.evaluation.segmenters import Segmenter
from agents.models.agent import Stopping

BATCH = 32
"""Episodes that are played at a time."""


@dataclass(frozen=True)
class Segmented:
    """What a segmenter predicts of one picture, window by window."""

    index: int
    scene: Scene
    own: list[NDArray[Any]]  # K times [T, H, W] in [0, 1], with the number of masks that the segmenter gives
    true: list[NDArray[Any]]  # K times [T, H, W], as many as the window has instances, or more if it is the only one
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

    def segmented(self, segmenter: Segmenter, number: int) -> Iterator[Segmented]:
        """What `segmenter` predicts of the first `number` pictures, in fresh episodes."""
        if self._tiles is not None:
            yield from (self._segment_windows(segmenter, index, self._tiles) for index in range(number))
            return
        for state, indices in iterate(self.source, number):
            prediction = segmenter(state)
            found = zip(indices, prediction.counted(), prediction.masks.numpy(force=True), strict=True)
            for index, own, true in found:
                yield Segmented(index, self.scene(index), [own], [true], prediction.stopping)

    def _segment_windows(self, segmenter: Segmenter, index: int, tiles: TiledScenes) -> Segmented:
        own, true, windows = [], [], tiles.windows_of(index)
        stopping: Stopping = "own"
        for start in range(0, len(windows), BATCH):
            state, _ = self.source.begin(windows[start : start + BATCH])
            self.source.own_scenes.expect(range(windows.start + start + BATCH, windows.stop))
            prediction = segmenter(state)
            own += prediction.counted()
            true += prediction.counted(state.num_instances)
            stopping = prediction.stopping
        return Segmented(index, self.scene(index), own, true, stopping)


def iterate(
    source: EpisodeSource, num_scenes: int | None = None, size: int = BATCH
) -> Iterator[tuple[EnvState, list[int]]]:
    """Fresh episodes in the first `num_scenes` scenes in order, `size` at a time, with the indices of the scenes."""
    total = len(source.own_scenes) if num_scenes is None else min(num_scenes, len(source.own_scenes))
    for start in range(0, total, size):
        indices = list(range(start, min(start + size, total)))
        state, _ = source.begin(indices)
        source.own_scenes.expect(range(start + size, min(start + 2 * size, total)))
        yield state, indices
