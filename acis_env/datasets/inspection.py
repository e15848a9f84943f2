"""A look at every scene of a data set: what there is, what is wrong with it, and what networks of a size would miss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.listed import Listed
from acis_env.datasets.preprocessing import Preprocessing
from acis_env.datasets.scene import Scene, SceneDataset
from acis_env.files import one_line
from acis_env.ops.labels import label_areas, relabel
from acis_env.threads import map_in_threads

SMALLEST_SIDE = 8
"""Side in px of the smallest image in which there is something to segment."""
MOST_INSTANCES = 255
"""Most that label maps of 8 bits hold, of which many tools and the servers of benchmarks make use."""
MIN_AREA = 4
"""Pixels of the smallest instance that `PackedScenes` keeps."""


@dataclass(frozen=True)
class Readable:
    """A scene that can be read, or turns out to be damaged."""

    read: Callable[[], Scene]
    place: str
    """File of its labels, for errors; its name where that is not known."""
    may_be_empty: bool = True
    count: int | None = None
    """Number of masks, where each instance has a file."""


@dataclass(frozen=True)
class Facts:
    """What was found in one scene."""

    name: str
    size: tuple[int, int] | None = None
    """Height and width in px; None where it cannot be read."""
    areas: NDArray[np.int64] | None = None
    """Pixels of each instance, `[N]`; None where they are not known."""
    vanished: int = 0
    """Instances that are no longer there at the networks' size."""
    problems: tuple[str, ...] = ()
    """One line each, that names the file."""


@dataclass
class Inspection:
    """What was found in a split."""

    split: str
    facts: list[Facts] = field(default_factory=list)

    @property
    def read(self) -> list[Facts]:
        """The scenes that could be read."""
        return [facts for facts in self.facts if facts.size is not None]

    @property
    def longer_sides(self) -> NDArray[np.int64]:
        """Longer side of every image in px."""
        return np.array([max(facts.size) for facts in self.facts if facts.size is not None], np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Instances of every scene whose labels are known, `[S]`."""
        return np.array([len(facts.areas) for facts in self.facts if facts.areas is not None], np.int64)

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of every instance."""
        known = [facts.areas for facts in self.facts if facts.areas is not None]
        return np.concatenate(known) if known else np.zeros(0, np.int64)

    @property
    def problems(self) -> list[str]:
        """Those of all scenes."""
        return [problem for facts in self.facts for problem in facts.problems]


def readable_pictures(pictures: Sequence[Listed]) -> list[Readable]:
    """Listed pictures, each as a whole scene."""
    return [
        Readable(
            partial(_read, picture),
            str(picture.files[0]),
            picture.may_be_empty,
            None if picture.may_be_empty else picture.count,
        )
        for picture in pictures
    ]


def readable_scenes(dataset: SceneDataset) -> list[Readable]:
    """The scenes of any data set."""
    return [Readable(partial(dataset.__getitem__, index), f"scene {index}") for index in range(len(dataset))]


def inspect_scenes(scenes: Sequence[Readable], preprocessing: Preprocessing) -> Iterator[Facts]:
    """Facts about every scene in order; several are read at a time.

    Args:
        scenes: to be read.
        preprocessing: with which instances that vanish are counted.
    """
    together = 64
    for first in range(0, len(scenes), together):
        yield from map_in_threads(partial(_look_at, preprocessing), scenes[first : first + together])


def _read(picture: Listed) -> Scene:
    labels = picture.read_labels()
    return Scene(picture.read_image(), None if labels is None else relabel(labels), picture.name)


def _look_at(preprocessing: Preprocessing, readable: Readable) -> Facts:
    try:
        scene = readable.read()
    except (OSError, ValueError) as error:
        return Facts(readable.place, problems=(one_line(error),))
    height, width = scene.image.shape[1:]
    problems = []
    if min(height, width) < SMALLEST_SIDE:
        problems.append(
            f"{readable.place}: its image is {height}x{width} (height x width), expected {SMALLEST_SIDE} px and more"
        )
    if scene.label_map is None:
        return Facts(scene.name, (height, width), problems=tuple(problems))
    areas = label_areas(scene.label_map)[1:]
    problems += _problems_of_labels(readable, len(areas))
    vanished = 0
    try:
        vanished = len(areas) - _number_left(scene.label_map, preprocessing)
    except ValueError as error:
        problems.append(f"{readable.place}: {error}")
    return Facts(scene.name, (height, width), areas, vanished, tuple(problems))


def _number_left(label_map: NDArray[np.int32], preprocessing: Preprocessing) -> int:
    """Instances of which a window of the networks shows enough; at least one, if there is any."""
    scaled = preprocessing.scale_labels(label_map)
    most = np.zeros(int(label_map.max(initial=0)) + 1, np.int64)
    for window in preprocessing.windows((label_map.shape[0], label_map.shape[1])):
        areas = label_areas(window.cut(scaled))
        most[: len(areas)] = np.maximum(most[: len(areas)], areas)
    return max(int((most[1:] >= MIN_AREA).sum()), min(len(most) - 1, 1))


def _problems_of_labels(readable: Readable, number: int) -> list[str]:
    problems: list[str] = []
    if number == 0 and not readable.may_be_empty:
        problems.append(f"{readable.place}: expected at least one instance, found background only")
    if number > MOST_INSTANCES:
        problems.append(f"{readable.place}: expected at most {MOST_INSTANCES} instances, found {number}")
    if readable.count is not None and readable.count != number:
        problems.append(
            f"{readable.place}: expected as many instances as masks, {readable.count}, found {number}: some are empty, "
            "or others cover them"
        )
    return problems


def describe_inspection(inspection: Inspection, preprocessing: Preprocessing) -> list[str]:
    """Lines about scenes, instances, sizes, and what vanishes.

    Args:
        inspection: of a split.
        preprocessing: with which it was made.
    """
    read, counts, areas = inspection.read, inspection.counts, inspection.areas
    lines = [f"{inspection.split}: {_plural(len(inspection.facts), 'scene')}"]
    if len(read) < len(inspection.facts):
        lines[0] += f", {len(inspection.facts) - len(read)} of which cannot be read"
    if read:
        sizes = sorted(facts.size for facts in read if facts.size is not None)
        lines.append(
            f"  sizes {_range([f'{height}x{width}' for height, width in (sizes[0], sizes[-1])])} (height x width)"
        )
    if len(counts) < len(read):
        lines.append(f"  {len(read) - len(counts)} without labels")
    if len(counts):
        none = int((counts == 0).sum())
        lines.append(
            f"  {_plural(len(areas), 'instance')}, {_range([str(counts.min()), str(counts.max())])} per scene, median "
            f"{np.median(counts):g}" + (f"; {_plural(none, 'scene')} without any" if none else "")
        )
    if len(areas):
        lines.append(f"  instances of {areas.min()} to {areas.max()} px, median {np.median(areas):g}")
        worst = max(read, key=lambda facts: facts.vanished)
        lost = sum(facts.vanished for facts in read)
        size, how = preprocessing.size, preprocessing.name
        line = f"  at {size[0]}x{size[1]} ({how}) {lost} of {len(areas)} instances vanish"
        if lost:
            touched = sum(facts.vanished > 0 for facts in read)
            line += (
                f", in {_plural(touched, 'scene')}, most in {worst.name} ({worst.vanished} of {_number(worst.areas)})"
            )
        lines.append(line)
    return lines


def _number(areas: NDArray[Any] | None) -> int:
    return 0 if areas is None else len(areas)


def _range(words: Sequence[str]) -> str:
    return words[0] if words[0] == words[-1] else f"{words[0]} to {words[-1]}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
