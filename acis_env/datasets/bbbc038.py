"""Nuclei of BBBC038, the images of the Data Science Bowl 2018.

Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl", Nature Methods 2019."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from acis_env.datasets.folder_files import has_pairs
from acis_env.datasets.listed import Listed, ListedScenes
from acis_env.datasets.masks import find_folders, listed
from acis_env.datasets.pairs import list_pairs
from acis_env.datasets.roots import MissingSplit, find_root, named
from acis_env.pictures import Reading

ABOUT = "Nuclei in microscopy images of many kinds: 433 for training, 52 for validation."
LICENCE = "CC0"
CITATION = (
    "Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. Nature Methods 16, "
    "2019; image set BBBC038v1 of the Broad Bioimage Benchmark Collection, Ljosa et al., Nature Methods 9, 2012"
)
SOURCE = "https://bbbc.broadinstitute.org/BBBC038 (stage1_train.zip, without a form)"
EXPECTED = "stage1_train/<id>/images and masks, or train/<id>_rgb.png and train/<id>_label.png"
STAGE = "stage1_train"
SPLITS = ("train", "val")
DIGITS = 12
"""Digits of an id that name an image; they differ for all of them."""
WHOLE = {"max_instances": 21}
"""Options of the protocol "whole"."""
CROPS = {"crop": "random", "crop_size": [64, 160], "min_instances": 2, "max_instances": 10, "min_area": 30}
"""Options of the protocol "crops"."""
LARGE_CROPS = {**CROPS, "crop_size": [128, 256], "max_instances": 21}
"""Options of crops for networks of 224x224."""
CROPS_PER_IMAGE = {"train": 8, "val": 4}

_log = logging.getLogger(__name__)


def open_bbbc038(
    split: str,
    size: tuple[int, int],
    root: str | Path | None = None,
    *,
    protocol: Literal["whole", "crops"] = "whole",
    **choice: Any,
) -> ListedScenes:
    """Microscopy images with their nuclei, sorted by id.

    Layouts: `stage1_train/<id>/images/<id>.png` with `masks/*.png`, one per nucleus, as published; or pairs
    `<split>/<id>_rgb.png`, `<id>_label.png`. An image is named by the first 12 digits of its id, a crop
    `<id>@<y>,<x>,<side>`. Where masks overlap, by a pixel or two, the one that comes first by name is on top.

    The split is a list in the package (`bbbc038.txt`): 485 images of at most 360 px a side. Others of stage1_train are
    left out; where some of the list are missing, a warning says how many. There is no test split.

    Args:
        split: "train" or "val".
        size: not used, as scenes keep their resolution; loaders of data sets get it.
        root: the folder; None for that in the environment variable ACIS_BBBC038_ROOT.
        protocol: "whole": whole images with at most 21 nuclei. "crops": random squares of 64 to 160 px with 2 to 10
            nuclei of at least 30 px, 8 per training image and 4 per validation image.
        choice: options that take the place of the protocol's (see `SceneChoice`), and `largest`: so many instances of a
            scene are kept, those of the largest areas; others are ignored.

    Raises:
        FileNotFoundError: there is no such folder, split or file.
        ValueError: an option is out of range, or a file that has to be read is damaged.
    """
    if protocol not in ("whole", "crops"):
        raise ValueError(f'protocol must be "whole" or "crops", got {protocol!r}')
    pictures = list_bbbc038(split, root)
    options = WHOLE if protocol == "whole" else {**CROPS, "crops_per_image": CROPS_PER_IMAGE[split]}
    return ListedScenes(find_root("bbbc038", root, EXPECTED, SOURCE), pictures, **{**options, **choice})


def list_bbbc038(split: str, root: str | Path | None = None) -> list[Listed]:
    """All images of a split, by the names of files only; arguments and errors are those of `open_bbbc038`."""
    if split not in SPLITS:
        raise MissingSplit(f"bbbc038: split must be one of {', '.join(SPLITS)}, got {split!r}")
    folder = find_root("bbbc038", root, EXPECTED, SOURCE)
    ids = split_ids()[split]
    if _is_pairs(folder, split):
        found = {picture.name: picture for picture in list_pairs(folder / split, Reading())}
        pictures = list(found.values())
    else:
        found = {picture.name: picture for picture in _list_native(folder)}
        pictures = [found[name] for name in ids if name in found]
    absent = [name for name in ids if name not in found]
    if len(absent) == len(ids):
        raise MissingSplit(
            f"bbbc038: {folder} must hold {EXPECTED}, with ids such as {named(ids, 2)}, found {named(list(found), 2)}; "
            "scenes 'masks' and 'folder' take any ids"
        )
    if absent:
        _log.warning("%s: %d of %d images of %r are missing: %s", folder, len(absent), len(ids), split, named(absent))
    return pictures


def recognise_bbbc038(root: Path) -> str | None:
    """What `root` is, if it has one of the layouts and ids of the split in it."""
    known = {name for ids in split_ids().values() for name in ids}
    for split in SPLITS:
        if _is_pairs(root, split) and any(p.name in known for p in list_pairs(root / split, Reading())):
            return "pairs <split>/<id>_rgb.png, <id>_label.png"
    place = _native_place(root)
    if place.is_dir() and any(path.name[:DIGITS] in known for path in place.iterdir()):
        return f"{STAGE}/<id>/images and masks, as published"
    return None


@cache
def split_ids() -> dict[str, tuple[str, ...]]:
    """Images of each split, sorted, by the first digits of their ids."""
    ids: dict[str, tuple[str, ...]] = {}
    split = ""
    for line in Path(__file__).with_name("bbbc038.txt").read_text().splitlines():
        if line.endswith(":"):
            split = line.removesuffix(":")
        elif not line.startswith("#"):
            ids[split] = (*ids.get(split, ()), *line.split())
    return ids


def _is_pairs(folder: Path, split: str) -> bool:
    return has_pairs(folder / split)


def _native_place(folder: Path) -> Path:
    return folder / STAGE if (folder / STAGE).is_dir() else folder


def _list_native(folder: Path) -> list[Listed]:
    files = find_folders(_native_place(folder))
    return [listed(replace(found, name=found.name[:DIGITS]), Reading()) for found in files]
