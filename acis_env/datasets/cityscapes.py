"""Streets of Cityscapes with their cars, or other things.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.configs import unknown_name
from acis_env.datasets.folder_files import PNG
from acis_env.datasets.listed import Listed, ListedScenes
from acis_env.datasets.roots import MissingSplit, find_root, named, names_in
from acis_env.datasets.scene import IGNORED
from acis_env.pictures import Reading

ABOUT = "Streets of 50 cities with their cars, or other things, at 2048x1024."
LICENCE = "by agreement: non-commercial use, no redistribution"
CITATION = "Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding. CVPR 2016"
SOURCE = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, after a form)"
EXPECTED = "leftImg8bit/train/<city> and gtFine/train/<city>"
IMAGES, LABELS = "leftImg8bit", "gtFine"
IMAGE_END, LABEL_END = "_leftImg8bit.png", "_gtFine_instanceIds.png"
WITHHELD = "test"
"""The split whose label maps are published without content."""

CLASSES = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "caravan": 29,
    "trailer": 30,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""Classes that have instances, by name."""
VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
"""Values of pixels that the official evaluation ignores ("ignoreInEval")."""
FIRST_INSTANCE = 1000
"""Values from here on are class * 1000 + number of the instance; below it they are classes alone."""


def open_cityscapes(
    split: str,
    size: tuple[int, int],
    root: str | Path | None = None,
    *,
    classes: str | int | Collection[str | int] = "car",
    **choice: Any,
) -> ListedScenes:
    """Streets with the instances of some classes, sorted by city and number.

    Layout: `leftImg8bit/<split>/<city>/<id>_leftImg8bit.png` and `gtFine/<split>/<city>/<id>_gtFine_instanceIds.png`,
    16-bit, class * 1000 + number of the instance. Scenes are named `<city>/<id>`.

    Pixels of one of the classes without a number, which are groups nobody has told apart, are ignored, and so are those
    that the official evaluation ignores (void, out of the region of interest, parking and others). Other classes are
    background. Label maps are read at opening, several at a time, to count instances.

    Args:
        split: "train" or "val"; the labels of the test images are not published.
        size: not used, as scenes keep their resolution; loaders of data sets get it.
        root: the folder; None for that in the environment variable ACIS_CITYSCAPES_ROOT.
        classes: names or ids of the classes that count, such as ("car", "person") or 26.
        choice: further options (see `SceneChoice`), and `largest`: so many instances of a scene are kept, those of the
            largest areas; others are ignored.

    Raises:
        FileNotFoundError: there is no such folder, split or file.
        ValueError: an option is out of range, or a file is damaged.
    """
    pictures = list_cityscapes(split, root, classes=classes)
    return ListedScenes(find_root("cityscapes", root, EXPECTED, SOURCE), pictures, **choice)


def list_cityscapes(
    split: str, root: str | Path | None = None, *, classes: str | int | Collection[str | int] = "car"
) -> list[Listed]:
    """All images of a split, by the names of files only; arguments and errors are those of `open_cityscapes`."""
    chosen = _choose(classes)
    folder = find_root("cityscapes", root, EXPECTED, SOURCE)
    place = folder / IMAGES / split
    if not place.is_dir() or split == WITHHELD:
        there = [name for name in names_in(folder / IMAGES, EXPECTED) if name != WITHHELD]
        raise MissingSplit(f"cityscapes: split {split!r} must be one of {named(there)}, the folders in {place.parent}")
    pictures = []
    for city in names_in(place, "a folder for each city"):
        for name in names_in(place / city, f"<id>{IMAGE_END}"):
            if name.endswith(IMAGE_END):
                scene_id = name.removesuffix(IMAGE_END)
                path = folder / LABELS / split / city / (scene_id + LABEL_END)
                pictures.append(
                    Listed(
                        name=f"{city}/{scene_id}",
                        image=place / city / name,
                        files=(path,),
                        labels=partial(_read, path, chosen),
                        variant=repr(chosen),
                        may_be_empty=True,
                        formats=PNG,
                    )
                )
    if not pictures:
        raise FileNotFoundError(f"cityscapes: {place} must hold <city>/<id>{IMAGE_END}, found none")
    return pictures


def recognise_cityscapes(root: Path) -> str | None:
    """What `root` is, if it has the layout of Cityscapes."""
    is_whole = (root / IMAGES).is_dir() and (root / LABELS).is_dir()
    return f"{IMAGES} and {LABELS}, with {LABEL_END.removeprefix('_')}" if is_whole else None


def _choose(classes: str | int | Collection[str | int]) -> tuple[int, ...]:
    chosen = set()
    for one in [classes] if isinstance(classes, str | int) else classes:
        if one not in CLASSES and one not in CLASSES.values():
            raise ValueError(f"classes must be things of Cityscapes: {unknown_name(str(one), CLASSES)}")
        chosen.add(CLASSES[one] if isinstance(one, str) else int(one))
    if not chosen:
        raise ValueError("classes must name at least one, got none")
    return tuple(sorted(chosen))


def _read(path: Path, classes: tuple[int, ...]) -> NDArray[np.int32]:
    """Label map `[H, W]`: instances keep their values, other pixels are background or ignored."""
    values = Reading().label_map(path, PNG).astype(np.int32)
    is_instance = (values >= FIRST_INSTANCE) & np.isin(values // FIRST_INSTANCE, classes)
    is_ignored = np.isin(values, (*VOID, *classes))
    return np.where(is_instance, values, np.where(is_ignored, IGNORED, 0)).astype(np.int32)
