"""The files of a folder of `<id>_rgb.png` and `<id>_label.png` pairs, from one look at the folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from acis_env.pictures import Reading

PNG = ("PNG",)
IMAGE_SUFFIX = "_rgb.png"
LABEL_SUFFIX = "_label.png"
OTHER_FILES = ("_rgb", "_label")

_log = logging.getLogger(__name__)


@dataclass
class Pair:
    """The two files of one id, as far as they are there."""

    image: Path | None = None
    label: Path | None = None
    stamps: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, time of the last change in ns and length of each file: they change when the file does."""


def find_pairs(root: Path, ids: Collection[str] | None = None, labels_optional: bool = False) -> dict[str, Pair]:
    """Pairs of `root` sorted by id: all of them, or those of `ids`; an image will do if labels are optional.

    Upper and lower case of suffixes are the same; hidden files, such as the `._*` that a Mac leaves, are none.

    Raises:
        FileNotFoundError: no such folder, no pair in it, or half a pair.
        ValueError: `ids` is empty, or two files would be the same part of a pair.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; root must hold <id>{IMAGE_SUFFIX}, <id>{LABEL_SUFFIX}")
    chosen = None if ids is None else set(ids)
    if chosen is not None and not chosen:
        raise ValueError("ids must name at least one image, got none")
    found = scan_pairs(root, chosen)
    if not found and chosen is None:
        raise FileNotFoundError(f"{root} has no pair <id>{IMAGE_SUFFIX}, <id>{LABEL_SUFFIX}")
    wanted = sorted(found if chosen is None else chosen)
    return {scene_id: _whole(root, scene_id, found.get(scene_id, Pair()), labels_optional) for scene_id in wanted}


def check_same_size(
    image: Path, other: Path | None, what: str = "label map", reading: Reading | None = None
) -> tuple[int, int]:
    """Height and width of an image by the headers of the files, so that a wrong one is found before it is needed.

    Args:
        image: PNG file.
        other: PNG file of the same size; None if there is none.
        what: what it holds, for the error.
        reading: of the image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no PNG, or the sizes differ.
    """
    size = (reading or Reading()).size(image, PNG)
    if other is not None and (other_size := Reading().size(other, PNG)) != size:
        raise ValueError(
            f"{image} is {size[0]}x{size[1]} but its {what} is {other_size[0]}x{other_size[1]} (height x width), by "
            f"{other}; they must be equal"
        )
    return size


def scan_pairs(root: Path, ids: set[str] | None = None) -> dict[str, Pair]:
    """Files of `root` by id, all of them or those of `ids`, whether or not pairs are whole.

    Raises:
        ValueError: two files would be the same part of a pair.
    """
    found: dict[str, Pair] = {}
    strangers: list[str] = []
    with os.scandir(root) as entries:
        for entry in entries:
            part = _part(entry.name)
            if part is None:
                if not entry.name.startswith(".") and Path(entry.name).stem.lower().endswith(OTHER_FILES):
                    strangers.append(entry.name)
                continue
            scene_id, name = part
            if ids is not None and scene_id not in ids:
                continue
            pair, status = found.setdefault(scene_id, Pair()), entry.stat()
            if (other := getattr(pair, name)) is not None:
                raise ValueError(f"{root}: {scene_id!r} must have one {name}, got {other.name} and {entry.name}")
            setattr(pair, name, root / entry.name)
            pair.stamps.append((entry.name, status.st_mtime_ns, status.st_size))
    if strangers:
        _log.warning("%s: %d files are no PNG and left out, such as %s", root, len(strangers), min(strangers))
    return found


def has_pairs(root: Path) -> bool:
    """Whether `root` is a folder with a file of a pair in it."""
    if not root.is_dir():
        return False
    with os.scandir(root) as entries:
        return any(_part(entry.name) is not None for entry in entries)


def _part(name: str) -> tuple[str, str] | None:
    """Id of a file and what it is of the pair; None if it is nothing."""
    if name.startswith("."):
        return None
    for part, suffix in (("image", IMAGE_SUFFIX), ("label", LABEL_SUFFIX)):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], part
    return None


def _whole(root: Path, scene_id: str, pair: Pair, labels_optional: bool) -> Pair:
    if pair.label is None and not (labels_optional and pair.image is not None):
        missing = "has no label" if pair.image is not None else "has neither image nor label"
        raise FileNotFoundError(f"{scene_id} {missing}: {root / (scene_id + LABEL_SUFFIX)} does not exist")
    if pair.image is None:
        raise FileNotFoundError(f"{scene_id} has no image: {root / (scene_id + IMAGE_SUFFIX)} does not exist")
    return pair
