"""Pictures that a data set of files lists before it decodes any of them, and the scenes that are made of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.configs import check_keywords, is_count
from acis_env.datasets.choice import SceneChoice
from acis_env.datasets.folder_index import FolderIndex, known_or_found
from acis_env.datasets.preprocessing import resize_image, resize_label_map
from acis_env.datasets.scene import IGNORED, Scene
from acis_env.datasets.windows import Window
from acis_env.ops.labels import label_areas, relabel
from acis_env.pictures import FORMATS, Reading
from acis_env.threads import map_in_threads

_WHOLE = Window(0, 0, 0, 0)
"""Stands for all of a picture, whose size need not be known."""


@dataclass(frozen=True)
class Listed:
    """A picture, and where its labels are."""

    name: str
    image: Path
    files: tuple[Path, ...]
    """Files with the labels, or a folder that holds them; errors name the first."""
    labels: Callable[[], NDArray[Any] | None]
    """Reads the label map `[H, W]`: -1 ignored, 0 background, other labels instances, with gaps; None: not known."""
    variant: str = ""
    """Options by which the labels are read, where the same files can be read in several ways."""
    count: int | None = None
    """Number of instances, or a bound on it, where it is known without reading the labels."""
    may_be_empty: bool = False
    """Whether a picture without instances is nothing unusual."""
    reading: Reading = Reading()
    formats: tuple[str, ...] = FORMATS
    """Of the image."""

    def read_image(self) -> NDArray[np.uint8]:
        """The image `[3, H, W]`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read.
        """
        return np.ascontiguousarray(self.reading.picture(self.image, self.formats).transpose(2, 0, 1))

    def read_labels(self) -> NDArray[Any] | None:
        """The label map `[H, W]` as `labels` gives it.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, or its size is not that of the image.
        """
        labels, size = self.labels(), self.reading.size(self.image, self.formats)
        if labels is not None and labels.shape != size:
            raise ValueError(
                f"{self.image} is {size[0]}x{size[1]} but its label map is {labels.shape[0]}x{labels.shape[1]} "
                f"(height x width), by {self.files[0]}; they must be equal"
            )
        return labels


class ListedScenes:
    """Scenes of listed pictures at their own resolution, in their order; a `SceneDataset`.

    At construction the labels are read only where instances have to be counted or crops placed. A scene is named as its
    picture, a crop `<name>@<y>,<x>,<side>`.

    Attributes:
        max_instances: instances in the fullest scene, or a bound on them.
    """

    is_thread_safe = True
    max_instances: int

    def __init__(self, where: Path, pictures: Sequence[Listed], *, largest: int | None = None, **choice: Any) -> None:
        """Choose the scenes.

        Args:
            where: the data set's folder or file, for errors.
            pictures: at least one; their names differ.
            largest: so many instances of a scene are kept, those of the largest areas; others are ignored.
            choice: options of `SceneChoice`.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: an option is unknown or out of range, two pictures have one name, labels that have to be read
                cannot be, or no scene is within the limits.
        """
        check_keywords(f"scene options of {where}", SceneChoice, choice)
        if largest is not None and not is_count(largest):
            raise ValueError(f"largest must be None or an int from 1 on, got {largest!r}")
        self._where, self._choice, self._largest = where, SceneChoice(**choice), largest
        self._pictures = {picture.name: picture for picture in pictures}
        if len(self._pictures) < len(pictures):
            twice = next(name for name, count in Counter(picture.name for picture in pictures).items() if count > 1)
            raise ValueError(f"{where}: names of images must differ, got {twice!r} twice")
        check_present(pictures)
        is_known = self._choice.crop is None and all(self._known_count(picture) is not None for picture in pictures)
        index = self._choose() if is_known else known_or_found(self.fingerprint, len(pictures), self._choose)
        self._scenes = index.scenes
        self.max_instances = index.max_instances if largest is None else min(index.max_instances, largest)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, times and lengths of all files, and of the options."""
        stamp = cache(stamp_of)  # many pictures may have their labels in one file
        parts: list[Any] = [self._choice, self._largest]
        for picture in self._pictures.values():
            parts.append((picture.name, picture.variant, picture.reading, stamp(picture.image)))
            parts += map(stamp, picture.files)
        return hashlib.sha256(repr(parts).encode(errors="backslashreplace")).hexdigest()

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every scene; no image is decoded for it."""
        if self._choice.crop is not None:
            return [window.size for _, window in self._scenes]
        return map_in_threads(self._size, [name for name, _ in self._scenes])

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._scenes)

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, decoded anew; ValueError if a file of it is damaged."""
        name, window = self._scenes[index]
        picture = self._pictures[name]
        image, label_map = picture.read_image(), self._label_map(picture)
        if self._choice.scale != 1:
            image = resize_image(image, self._choice.scaled(image.shape[1:]))
        if self._choice.crop is not None:
            image, label_map = np.ascontiguousarray(window.cut(image)), window.cut(label_map)
            name += f"@{window.y},{window.x},{window.height}"
        label_map = relabel(label_map, self._choice.min_area)
        return Scene(image, label_map if self._largest is None else keep_largest(label_map, self._largest), name)

    def __iter__(self) -> Iterator[Scene]:
        """All scenes in order."""
        return (self[index] for index in range(len(self)))

    def _size(self, name: str) -> tuple[int, int]:
        picture = self._pictures[name]
        return self._choice.scaled(picture.reading.size(picture.image, picture.formats))

    def _choose(self) -> FolderIndex:
        scenes: list[tuple[str, Window]] = []
        counts_seen: set[int] = set()
        most = 0
        found = map_in_threads(self._look_at, list(self._pictures.values()))
        for name, (windows, seen) in zip(self._pictures, found, strict=True):
            scenes += [(name, window) for window in windows]
            counts_seen |= seen
            most = max(most, *windows.values(), 0)
        if not scenes:
            raise self._choice.nothing_left(self._where, counts_seen)
        return FolderIndex(scenes, most)

    def _look_at(self, picture: Listed) -> tuple[dict[Window, int], set[int]]:
        """Scenes of a picture with their numbers of instances, and the numbers of all parts that were looked at."""
        known = self._known_count(picture) if self._choice.crop is None else None
        if known is not None:
            return {_WHOLE: known} if self._choice.wants(known) else {}, {known}
        label_map, seen = self._label_map(picture), set[int]()
        height, width = label_map.shape
        return self._choice.windows(picture.name, (height, width), label_map, seen), seen

    def _known_count(self, picture: Listed) -> int | None:
        """Number of instances of the whole picture, or a bound on it, as far as that is known without its labels."""
        return picture.count if self._choice.min_area == 1 else None

    def _label_map(self, picture: Listed) -> NDArray[np.int32]:
        """Scaled label map `[H, W]`, labels 1..N without gaps, N of the whole picture; -1 = ignored."""
        labels = picture.read_labels()
        if labels is None:
            raise ValueError(f"{picture.image}: expected an image with labels, found none")
        is_whole = self._choice.scale == 1
        return relabel(labels) if is_whole else resize_label_map(labels, self._choice.scaled(labels.shape))


def keep_largest(label_map: NDArray[np.int32], number: int) -> NDArray[np.int32]:
    """`label_map` `[H, W]`, labels 1..N, with the `number` largest instances; the pixels of others are ignored.

    Of equally large ones those of the lower label stay.
    """
    areas = label_areas(label_map)[1:]
    if len(areas) <= number:
        return label_map
    dropped = 1 + np.argsort(-areas, kind="stable")[number:]
    return relabel(np.where(np.isin(label_map, dropped), IGNORED, label_map))


def check_present(pictures: Sequence[Listed]) -> None:
    """Make sure that every picture has a file, by one look into each folder.

    Raises:
        FileNotFoundError: naming the first that has none, and how many others.
    """
    folders = {folder: _names(folder) for folder in {picture.image.parent for picture in pictures}}
    absent = [picture for picture in pictures if picture.image.name not in folders[picture.image.parent]]
    if absent:
        more = f"; {len(absent)} of {len(pictures)} images are missing" if len(absent) > 1 else ""
        raise FileNotFoundError(f"{absent[0].name} has no image: {absent[0].image} does not exist{more}")


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def stamp_of(path: Path) -> tuple[str, int, int] | None:
    """Name, time of the last change and length of a file, which change when it does; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path.absolute()), status.st_mtime_ns, status.st_size
