"""Rosette plants of the CVPPP Leaf Segmentation Challenge, from its PNG or its HDF5 release.

Minervini et al., "Finely-grained annotated datasets for image-based plant phenotyping", 2016."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from acis_env.datasets.cvppp_files import EXPECTED, Plant, open_release
from acis_env.datasets.id_lists import is_held_out
from acis_env.datasets.roots import find_root, named
from acis_env.datasets.scene import Scene
from acis_env.threads import map_in_threads

SUBSETS = ("A1", "A2", "A3", "A4", "A5")
"""A5 is a mixture of the test images of the others, and has no training images."""
SPLITS = ("train", "val", "trainval", "test")
LICENCE = "by agreement: academic, non-commercial use, no redistribution"
CITATION = (
    "Minervini, Fischbach, Scharr, Tsaftaris: Finely-grained annotated datasets for image-based plant phenotyping. "
    "Pattern Recognition Letters 81, 2016"
)
SOURCE = (
    "https://www.plant-phenotyping.org/datasets-home (PNG, after a form) or "
    "https://competitions.codalab.org/competitions/18405 (HDF5)"
)

# fmt: off
A1_TEST = (
    3, 4, 9, 14, 19, 23, 25, 28, 34, 41, 56, 66, 74, 75, 81, 87, 93, 95, 97, 103, 111, 112, 117, 122, 125, 131, 136,
    140, 150, 155, 157, 158, 160,
)
"""Numbers of the test plants of A1; those from 1 to 161 that are missing here are its training plants."""
A1_TRAINING = tuple(number for number in range(1, 162) if number not in A1_TEST)
# The split of Ren and Zemel, "End-to-End Instance Segmentation with Recurrent Attention", CVPR 2017: NumPy's
# RandomState(2) shuffles the positions 0..127 of the ascending numbers, and the first 103 are for training. That their
# order was ascending is an assumption about their Python's dictionaries. The split of Araslanov et al., of the same
# sizes, is not published.
A1_VAL = (
    7, 11, 21, 29, 31, 42, 45, 48, 50, 51, 54, 59, 61, 78, 83, 89, 92, 102, 106, 113, 119, 128, 130, 137, 149,
)
"""Numbers of the 25 training plants of A1 that are for validation."""
# fmt: on

_log = logging.getLogger(__name__)


class CvpppScenes:
    """Plants at their own resolution, by subset and number; a `SceneDataset`.

    A scene is named by its subset and its plant, "A1/plant001", since plants of several subsets have the same number.
    Labels are those of the files, renamed to 1..N: a leaf may consist of several pieces. The official foreground is in
    `Scene.foreground`, for test plants, too. Test plants have no label map unless the truth of the test set is there.

    A1 is split as E2E does (103 plants for training, 25 for validation); of the other subsets every fifth plant is for
    validation (see `is_held_out`).
    """

    is_thread_safe = True

    def __init__(
        self,
        split: Literal["train", "val", "trainval", "test"] = "train",
        size: tuple[int, int] = (224, 224),
        root: str | Path | None = None,
        subsets: Sequence[str] | None = ("A1",),
        incomplete: bool = False,
    ) -> None:
        """Find the plants of a split; of their files the names only.

        Args:
            split: "train", "val", both ("trainval"), or "test".
            size: not used, as scenes keep their resolution; loaders of data sets get it.
            root: folder of the PNG release, with or without its level `training`, or of the files of the HDF5 release;
                None for the folder in the environment variable ACIS_CVPPP_ROOT.
            subsets: of "A1" to "A4", in the split "test" also "A5"; None for all that are there.
            incomplete: accept an A1 of which plants are missing, and warn of it.

        Raises:
            FileNotFoundError: there is no such folder, it has no such subset, or files are missing.
            ValueError: an argument is none of those above, or a file is damaged.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.split = split
        chosen = None if subsets is None else _check_subsets(subsets, split)
        folder = find_root("cvppp", root, EXPECTED, SOURCE)
        self._release = open_release(folder, "testing" if split == "test" else "training")
        self.subsets = tuple(self._release.subsets()) if chosen is None else chosen
        self._plants = [Plant(subset, name) for subset in self.subsets for name in self._names(subset, incomplete)]
        if not self._plants:
            raise ValueError(f"{self._release}: split {split!r} of {', '.join(self.subsets)} has no plants")

    def __len__(self) -> int:
        return len(self._plants)

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, decoded anew.

        Raises:
            ValueError: a file is damaged, or image, label map and foreground differ in size.
        """
        return self._release.scene(self._plants[index])

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def max_instances(self) -> int:
        """Leaves of the plant that has the most of them, 0 where no label map is known; reads all label maps."""
        return max(map_in_threads(self._count, self._plants))

    @cached_property
    def fingerprint(self) -> str:
        """Of names, times and lengths of all files."""
        files = [(str(plant), self._release.stamps(plant)) for plant in self._plants]
        return hashlib.sha256(repr(files).encode(errors="backslashreplace")).hexdigest()

    def _count(self, plant: Plant) -> int:
        label_map = self._release.label_map(plant)
        if label_map is None:
            return 0
        count, promised = int(label_map.max(initial=0)), self._release.promised_count(plant)
        if promised is not None and promised != count:
            _log.warning(
                "%s: %s has %d leaves, expected %d by the table of its subset: were the labels saved by their colours?",
                self._release,
                plant,
                count,
                promised,
            )
        return count

    def _names(self, subset: str, incomplete: bool) -> list[str]:
        """Plants of a subset that are in this split."""
        names = self._release.names(subset)
        if subset == "A1":
            names = self._checked_a1(names, incomplete)
        if self.split not in ("train", "val"):
            return names
        return [name for name in names if _is_for_validation(subset, name) == (self.split == "val")]

    def _checked_a1(self, names: Sequence[str], incomplete: bool) -> list[str]:
        """Those that A1 has officially, once none is missing."""
        official = [f"plant{number:03d}" for number in (A1_TEST if self.split == "test" else A1_TRAINING)]
        missing = [name for name in official if name not in names]
        if missing:
            problem = f"{self._release}: {len(missing)} of the {len(official)} plants of A1 are missing: "
            if not incomplete:
                way_out = "is the download whole? incomplete=True accepts what is there"
                raise FileNotFoundError(f"{problem}{named(missing, len(official))}; {way_out}")
            _log.warning("%s%s", problem, named(missing, len(official)))
        strangers = [name for name in names if name not in official]
        if strangers:
            _log.warning(
                "%s: %d plants are none of this part of A1 and left out: %s",
                self._release,
                len(strangers),
                named(strangers),
            )
        return [name for name in official if name in names]


def recognise_cvppp(root: Path) -> str | None:
    """Which release `root` is, if it is one."""
    try:
        return open_release(root, "training").about
    except OSError:
        return None


def _check_subsets(subsets: Sequence[str], split: str) -> tuple[str, ...]:
    chosen = (subsets,) if isinstance(subsets, str) else tuple(subsets)
    known = SUBSETS if split == "test" else SUBSETS[:-1]
    if not chosen or len(set(chosen)) < len(chosen) or any(subset not in known for subset in chosen):
        raise ValueError(f"subsets must be some of {', '.join(known)} in the split {split!r}, got {list(chosen)}")
    return chosen


def _is_for_validation(subset: str, name: str) -> bool:
    number = int(name.removeprefix("plant"))
    return number in A1_VAL if subset == "A1" else is_held_out(number)
