"""The files of the CVPPP Leaf Segmentation Challenge: a folder of PNG files per subset, or HDF5 files of all subsets.

| | PNG | HDF5 |
| --- | --- | --- |
| image | `training/A1/plant001_rgb.png`, RGBA | `/A1/plant001/rgb` in `CVPPP2017_training_images.h5` |
| labels | `_label.png`, whose palette's index is the label | `/A1/plant001/label` in `CVPPP2017_training_truth.h5` |
| foreground | `_fg.png`, 1 where there is a leaf | `/A1/plant001/fg` beside the image |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.folder_files import PNG, Pair, check_same_size, find_pairs
from acis_env.datasets.listed import stamp_of
from acis_env.datasets.roots import MissingSplit, named, names_in
from acis_env.datasets.scene import Scene
from acis_env.ops.labels import relabel
from acis_env.pictures import Reading, colours_as_labels

EXPECTED = "training/A1 and testing/A1 of the PNG release, or CVPPP2017_training_images.h5 of the HDF5 release"
PLANT, SUBSET = re.compile(r"plant\d+"), re.compile(r"A[1-5]")
READING = Reading(coloured_labels=True)
"""Some tools save labels again in colours, each of which is a leaf."""


@dataclass(frozen=True)
class Plant:
    """What names a scene."""

    subset: str
    name: str

    def __str__(self) -> str:
        return f"{self.subset}/{self.name}"


class Release(Protocol):
    """One part, training or testing, of a release; its string is the place, for errors."""

    about: str
    """What it is, in words."""

    def subsets(self) -> list[str]:
        """The subsets that are there, sorted."""
        ...

    def names(self, subset: str) -> list[str]:
        """Plants of a subset, sorted.

        Raises:
            FileNotFoundError: there is no such subset, or a file of a plant is missing.
        """
        ...

    def scene(self, plant: Plant) -> Scene:
        """A plant with all that is known of it."""
        ...

    def label_map(self, plant: Plant) -> NDArray[np.int32] | None:
        """Its label map `[H, W]` with labels 1..N, None if there is none."""
        ...

    def promised_count(self, plant: Plant) -> int | None:
        """Number of its leaves by the tables of the release; None where these do not say."""
        ...

    def stamps(self, plant: Plant) -> tuple[Any, ...]:
        """What changes when a file of the plant does."""
        ...


def open_release(root: Path, part: str) -> Release:
    """The release that is in `root`.

    Args:
        root: folder.
        part: "training" or "testing".

    Raises:
        FileNotFoundError: there is none.
    """
    found = names_in(root, EXPECTED)
    for folder in (root / part, *sorted(root.glob(f"*{part}*/{part}"))):
        if _has_subsets(folder):
            return PngRelease(folder, part)
    if (root / f"CVPPP2017_{part}_images.h5").is_file():
        return Hdf5Release(root, part)
    # The level of the parts has been left out: these are training images, or the folder says that they are not.
    if (part == "training" or root.name == part) and _has_subsets(root):
        return PngRelease(root, part)
    raise MissingSplit(f"{root}: no {part} images of CVPPP; expected {EXPECTED}, found {named(found)}")


def _has_subsets(folder: Path) -> bool:
    return folder.is_dir() and any(SUBSET.fullmatch(name) for name in names_in(folder, "A1 to A5"))


class PngRelease:
    """Folders A1 to A5 of PNG files."""

    about = "PNG release of CVPPP: folders A1 to A5"

    def __init__(self, folder: Path, part: str) -> None:
        self.folder = folder
        self._labels_optional = part == "testing"
        self._pairs: dict[str, dict[str, Pair]] = {}
        self._counts: dict[str, dict[str, int]] = {}

    def __str__(self) -> str:
        return str(self.folder)

    def subsets(self) -> list[str]:
        return [name for name in names_in(self.folder, "A1 to A5") if SUBSET.fullmatch(name)]

    def names(self, subset: str) -> list[str]:
        folder, expected = self.folder / subset, "plantNNN_rgb.png and plantNNN_label.png"
        if not folder.is_dir():
            found = names_in(self.folder, "A1 to A5")
            raise FileNotFoundError(f"{folder} is no folder; expected {expected} in it, found {named(found)} beside it")
        names_in(folder, expected)  # says what is wrong with a folder that cannot be read
        pairs = find_pairs(folder, labels_optional=self._labels_optional)
        for name in pairs:
            _check_name(name, folder)
        self._pairs[subset], self._counts[subset] = pairs, _read_table(folder / f"{subset}.csv")
        return sorted(pairs)

    def scene(self, plant: Plant) -> Scene:
        pair = self._pairs[plant.subset][plant.name]
        assert pair.image is not None
        foreground = self._foreground(plant)
        check_same_size(pair.image, pair.label)
        check_same_size(pair.image, foreground if foreground.is_file() else None, "foreground")
        return Scene(
            np.ascontiguousarray(READING.picture(pair.image, PNG).transpose(2, 0, 1)),
            self.label_map(plant),
            str(plant),
            READING.label_map(foreground, PNG) > 0 if foreground.is_file() else None,
        )

    def _foreground(self, plant: Plant) -> Path:
        return self.folder / plant.subset / f"{plant.name}_fg.png"

    def label_map(self, plant: Plant) -> NDArray[np.int32] | None:
        label = self._pairs[plant.subset][plant.name].label
        return None if label is None else relabel(READING.label_map(label, PNG))

    def promised_count(self, plant: Plant) -> int | None:
        return self._counts[plant.subset].get(plant.name)

    def stamps(self, plant: Plant) -> tuple[Any, ...]:
        pair = self._pairs[plant.subset][plant.name]
        return (*sorted(pair.stamps), stamp_of(self._foreground(plant)), str(self.folder.absolute()))


class Hdf5Release:
    """Files of all subsets: one of images and foregrounds, and one of labels, which the test set may lack."""

    about = "HDF5 release of CVPPP: CVPPP2017_training_images.h5, CVPPP2017_training_truth.h5"

    def __init__(self, root: Path, part: str) -> None:
        self.images = root / f"CVPPP2017_{part}_images.h5"
        self.truth = root / f"CVPPP2017_{part}_truth.h5"
        self._has_truth = part == "training" or self.truth.is_file()

    def __str__(self) -> str:
        return str(self.images)

    def subsets(self) -> list[str]:
        with _opened(self.images) as file:
            return sorted(name for name in file if SUBSET.fullmatch(name))

    def names(self, subset: str) -> list[str]:
        names = self._plants_in(self.images, subset)
        if self._has_truth:
            absent = sorted(set(names) - set(self._plants_in(self.truth, subset)))
            if absent:
                raise FileNotFoundError(
                    f"{self.truth} has no labels of {len(absent)} plants of {subset} that are in {self.images.name}: "
                    f"{named(absent)}; expected /{subset}/{absent[0]}/label"
                )
        return names

    def scene(self, plant: Plant) -> Scene:
        with _opened(self.images) as file:
            image = _member(file, plant, "rgb", self.images)
            foreground = _member(file, plant, "fg", self.images, optional=True)
        if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
            raise ValueError(
                f"{self.images}: {plant}/rgb must be uint8 [H, W, 3 or 4], got {image.dtype} {list(image.shape)}"
            )
        label_map = self.label_map(plant)
        for name, other in (("label", label_map), ("fg", foreground)):
            if other is not None and other.shape[:2] != image.shape[:2]:
                raise ValueError(
                    f"{self.images}: {plant}/rgb is {image.shape[0]}x{image.shape[1]} but {name} is "
                    f"{other.shape[0]}x{other.shape[1]} (height x width); they must be equal"
                )
        return Scene(
            np.ascontiguousarray(image[..., :3].transpose(2, 0, 1)),
            label_map,
            str(plant),
            None if foreground is None else _labels(foreground, f"{self.images}: {plant}/fg") > 0,
        )

    def label_map(self, plant: Plant) -> NDArray[np.int32] | None:
        if not self._has_truth:
            return None
        with _opened(self.truth) as file:
            pixels = _member(file, plant, "label", self.truth)
        return relabel(_labels(pixels, f"{self.truth}: {plant}/label"))

    def promised_count(self, plant: Plant) -> int | None:
        return None

    def stamps(self, plant: Plant) -> tuple[Any, ...]:
        return stamp_of(self.images), stamp_of(self.truth)

    def _plants_in(self, path: Path, subset: str) -> list[str]:
        with _opened(path) as file:
            if subset not in file:
                raise FileNotFoundError(f"{path} has no group {subset}; found {named(sorted(file))}")
            names = sorted(file[subset])
        for name in names:
            _check_name(name, path)
        return names


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, open for reading.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or h5py is not installed.
    """
    h5py = import_h5py(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it is a part of the HDF5 release of CVPPP")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def import_h5py(path: Path) -> Any:
    """The library, which `path` needs.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"{path}: HDF5 needs h5py: pip install 'acis-env[data]'") from error
    return h5py


def _member(file: Any, plant: Plant, name: str, path: Path, optional: bool = False) -> Any:
    """The array `/A1/plant001/name`; None if it is optional and there is none."""
    try:
        group = file[str(plant)]
        if name in group:
            return group[name][()]
        found = sorted(group)
    except (KeyError, OSError, RuntimeError) as error:
        raise _damaged(path, error) from error
    if optional:
        return None
    raise FileNotFoundError(f"{path} has no {plant}/{name}; found {named(found)}")


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read as HDF5, is it damaged or cut off? ({str(error).splitlines()[0]})")


def _labels(pixels: NDArray[Any], source: str) -> NDArray[Any]:
    """Labels `[H, W]` of an array of labels, or of colours."""
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4) and pixels.dtype == np.uint8:
        return colours_as_labels(pixels[..., :3])
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui" or pixels.min(initial=0) < 0:
        raise ValueError(f"{source} must be [H, W] integers from 0 on, got {pixels.dtype} {list(pixels.shape)}")
    return pixels


def _check_name(name: str, place: Path) -> None:
    if not PLANT.fullmatch(name):
        raise ValueError(f"{place}: expected plants named plantNNN, got {name!r}")


def _read_table(path: Path) -> dict[str, int]:
    """Number of leaves per plant by the table of a subset, lines `plant001_rgb.png, 15`; empty if there is none."""
    if not path.is_file():
        return {}
    lines = path.read_text(errors="replace").splitlines()
    entries = (re.fullmatch(r"\s*(plant\d+)_rgb\.png\s*,\s*(\d+)\s*", line) for line in lines)
    return {entry[1]: int(entry[2]) for entry in entries if entry}
