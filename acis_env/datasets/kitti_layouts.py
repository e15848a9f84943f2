"""Layouts in which KITTI's cars are met, told apart by their folders.

- That of Ren and Zemel, CVPR 2017: `images/000007.png`; `gt/000007.png`, coarse, for training, and `gt_man/000007.png`
  for validation and test, where each colour that is not black is a car; lists `train.txt`, `valid_man.txt` and
  `test_man.txt`.
- KITTI's semantics release: `training/image_2/000007_10.png` and `training/instance/000007_10.png`, 16-bit, class * 256
  + instance. It has no lists: every fifth image is for validation (see `is_held_out`). `testing/image_2`, without
  labels, is the test set.
- That of Araslanov et al., CVPR 2019: `train/000007_rgb.png` and `train/000007_labels.png`, and likewise `val` and
  `test`; a manual label map `AnnotMasksAll/000007.png` replaces the coarse one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.folder_files import PNG
from acis_env.datasets.id_lists import check_listed, is_held_out, read_ids
from acis_env.datasets.roots import MissingSplit, named, names_in
from acis_env.datasets.scene import IGNORED
from acis_env.pictures import Reading

EXPECTED = (
    "images and gt; or training/image_2 and training/instance; or train and val with <id>_rgb.png and <id>_labels.png"
)
CAR, VOID = 26, 0
"""Classes of the semantics release: cars, and pixels without a label."""
Ids = Mapping[str, str | Sequence[str]]
"""Ids of each split, or the file that lists them."""


@dataclass(frozen=True)
class CarFiles:
    """The files of one image."""

    id: str
    image: Path
    label: Path | None
    read: Callable[[Path], NDArray[np.int32]]
    """Reads the label map `[H, W]`: cars have labels from 1 on, with gaps, and what is not known is `IGNORED`."""


def find_layout(root: Path, ids: Ids) -> Layout:
    """The layout that is in `root`.

    Args:
        root: folder.
        ids: lists that take the place of those of the layout, by split.

    Raises:
        FileNotFoundError: there is none.
        ValueError: `ids` names no split.
    """
    for split in ids:
        if split not in ("train", "val", "test"):
            raise ValueError(f'ids must be lists of the splits "train", "val" and "test", got one of {split!r}')
    found = names_in(root, EXPECTED)
    for layout in (ColouredLayout, SemanticsLayout, SplitFolders):
        if layout.is_in(root):
            return layout(root, ids)
    raise FileNotFoundError(f"{root}: no cars of KITTI; expected {EXPECTED}, found {named(found)}")


class Layout(ABC):
    """One layout in the folder `root`; what differs is in the subclasses."""

    about = ""
    """What it is, in words."""
    label_suffix = ".png"
    """What follows the id in the name of a label map."""

    def __init__(self, root: Path, ids: Ids) -> None:
        self.root = root
        self._ids = ids

    @staticmethod
    @abstractmethod
    def is_in(root: Path) -> bool:
        """Whether the folder `root` has this layout."""

    def is_listed(self, split: str) -> bool:
        """Whether a list says which images belong to the split."""
        return all(part in self._ids for part in (("train", "val") if split == "trainval" else (split,)))

    def files(self, split: str) -> list[CarFiles]:
        """Images of a split, sorted by id.

        Raises:
            FileNotFoundError: a list, an image or a label map is missing.
        """
        if split == "trainval":
            return sorted((*self.files("train"), *self.files("val")), key=lambda files: files.id)
        known = self._known(split)
        return [self._files(split, id) for id in sorted(self._listed(split, known))]

    def _listed(self, split: str, known: Sequence[str]) -> list[str]:
        """Ids of a split, out of those that have an image."""
        if split not in self._ids:
            return self._default(split, known)
        own = self._ids[split]
        path = self.root / own if isinstance(own, str) else None
        ids = [self._spelled(str(id)) for id in (read_ids(path) if path is not None else own)]
        check_listed(ids, known, f"ids[{split!r}]" if path is None else str(path), self._images(split))
        return ids

    def _known(self, split: str) -> list[str]:
        """Ids of all images in the folder of a split."""
        folder, suffix = self._images(split), self._suffix
        if not folder.is_dir():
            raise MissingSplit(f"kitti: split {split!r} must be <id>{suffix} in {folder}, which is no folder")
        names = names_in(folder, f"<id>{suffix}")
        return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]

    _suffix = ".png"
    """End of the names of images."""

    @abstractmethod
    def _images(self, split: str) -> Path:
        """Folder of the images of a split."""

    def _default(self, split: str, known: Sequence[str]) -> list[str]:
        """Ids of a split for which no list is given: all that are known, if a layout knows no better."""
        return list(known)

    def _spelled(self, id: str) -> str:
        """An id of a list as the files have it."""
        return id

    @abstractmethod
    def _files(self, split: str, id: str) -> CarFiles:
        """Image and label map of an id."""


class ColouredLayout(Layout):
    """Coarse and manual label maps in colours, and lists."""

    about = "cars of KITTI as of Ren and Zemel: images, gt, gt_man and lists of ids"

    def __init__(self, root: Path, ids: Ids) -> None:
        super().__init__(root, {"train": "train.txt", "val": "valid_man.txt", "test": "test_man.txt", **ids})
        self._chosen = set(ids)

    @staticmethod
    def is_in(root: Path) -> bool:
        return (root / "images").is_dir() and ((root / "gt").is_dir() or (root / "gt_man").is_dir())

    def _images(self, split: str) -> Path:
        return self.root / "images"

    def _spelled(self, id: str) -> str:
        return f"{int(id):06d}" if id.isdecimal() else id

    def _files(self, split: str, id: str) -> CarFiles:
        label = self.root / ("gt" if split == "train" else "gt_man") / f"{id}.png"
        if split in self._chosen and not label.is_file():
            label = self.root / "gt" / f"{id}.png"
        return CarFiles(id, self._images(split) / f"{id}.png", _required(label), read_coloured)


class SemanticsLayout(Layout):
    """Classes and instances in 16 bits."""

    about = "semantics release of KITTI: training/image_2 and training/instance"

    @staticmethod
    def is_in(root: Path) -> bool:
        return (root / "training" / "image_2").is_dir()

    def _part(self, split: str) -> Path:
        is_unlabelled = split == "test" and split not in self._ids
        return self.root / ("testing" if is_unlabelled else "training")

    def _images(self, split: str) -> Path:
        return self._part(split) / "image_2"

    def _default(self, split: str, known: Sequence[str]) -> list[str]:
        if split == "test":
            return list(known)
        for id in known:
            if not id.split("_")[0].isdecimal():
                raise ValueError(f"{self._images(split) / id}.png: expected a name that is a number, as 000000_10.png")
        return [id for id in known if is_held_out(int(id.split("_")[0])) == (split == "val")]

    def _spelled(self, id: str) -> str:
        return f"{id}_10" if id.isdecimal() else id

    def _files(self, split: str, id: str) -> CarFiles:
        image = self._images(split) / f"{id}.png"
        label = self._part(split) / "instance" / f"{id}.png"
        is_unlabelled = self._part(split).name == "testing" and not label.is_file()
        return CarFiles(id, image, None if is_unlabelled else _required(label), read_semantics)


class SplitFolders(Layout):
    """A folder per split, and manual label maps of all splits in another one."""

    about = "cars of KITTI as of Araslanov et al.: <split>/<id>_rgb.png, <id>_labels.png"
    label_suffix = "_labels.png"
    _suffix = "_rgb.png"

    @staticmethod
    def is_in(root: Path) -> bool:
        return any(any((root / split).glob("*_labels.png")) for split in ("train", "val", "test"))

    def is_listed(self, split: str) -> bool:
        return True

    def _images(self, split: str) -> Path:
        return self.root / split

    def _files(self, split: str, id: str) -> CarFiles:
        manual, label = self.root / "AnnotMasksAll" / f"{id}.png", self._images(split) / f"{id}_labels.png"
        chosen = manual if manual.is_file() else label
        is_unlabelled = split == "test" and not chosen.is_file()
        image = self._images(split) / f"{id}_rgb.png"
        return CarFiles(id, image, None if is_unlabelled else _required(chosen), read_coloured)


def read_semantics(path: Path) -> NDArray[np.int32]:
    """Cars of a label map of the semantics release `[H, W]`; pixels of no class, or of a car without number, are
    `IGNORED`.

    Raises:
        ValueError: it has not 16 bits.
    """
    codes = Reading().label_map(path, PNG)
    if codes.dtype != np.uint16:
        raise ValueError(
            f"{path} must hold class * 256 + instance in 16 bits, got {codes.dtype}; was it saved again by a program "
            "that cuts to 8 bits?"
        )
    classes, numbers = np.divmod(codes.astype(np.int32), 256)
    is_unknown = (classes == VOID) | ((classes == CAR) & (numbers == 0))
    label_map: NDArray[np.int32] = np.where(is_unknown, IGNORED, np.where(classes == CAR, numbers, 0)).astype(np.int32)
    return label_map


def read_coloured(path: Path) -> NDArray[np.int32]:
    """Cars of a label map `[H, W]`: each colour that is not black, or each label from 1 on where there is one channel.

    Raises:
        ValueError: it is neither.
    """
    return Reading(coloured_labels=True).label_map(path, PNG).astype(np.int32)


def _required(label: Path) -> Path:
    if not label.is_file():
        raise FileNotFoundError(f"{label}: no such label map; expected one beside every image")
    return label
