"""Pairs `<id>_rgb.png`, `<id>_label.png` as a list of pictures, half of which may be missing or damaged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from acis_env.datasets.folder_files import IMAGE_SUFFIX, LABEL_SUFFIX, PNG, has_pairs, scan_pairs
from acis_env.datasets.listed import Listed
from acis_env.datasets.roots import MissingSplit
from acis_env.pictures import Reading


def list_folder(
    split: str,
    root: str | Path,
    *,
    labels: Literal["required", "optional"] = "required",
    ignore: int | Collection[int] = (),
    coloured_labels: bool = False,
    percentiles: Sequence[float] | None = None,
    page: int | None = None,
) -> list[Listed]:
    """Pictures in the subfolder `split` of `root`, or in `root` itself for "train" if it has no such subfolder.

    The other arguments are those of `FolderScenes`.

    Raises:
        FileNotFoundError: there is no such split, or nothing in it.
        ValueError: an argument is out of range, or two files would be the same part of a pair.
    """
    if labels not in ("required", "optional"):
        raise ValueError(f'labels must be "required" or "optional", got {labels!r}')
    folder = Path(root) / split
    place = Path(root) if split == "train" and not folder.is_dir() else folder
    if not has_pairs(place):
        raise MissingSplit(f"scenes {str(root)!r}: expected <id>{IMAGE_SUFFIX}, <id>{LABEL_SUFFIX} in {place}")
    return list_pairs(place, Reading(percentiles, page, ignore, coloured_labels), labels == "optional")


def recognise_folder(root: Path) -> str | None:
    """What `root` is, if it holds pairs."""
    if any(has_pairs(root / split) for split in ("train", "val", "test")):
        return f"pairs <split>/<id>{IMAGE_SUFFIX}, <id>{LABEL_SUFFIX}"
    return f"pairs <id>{IMAGE_SUFFIX}, <id>{LABEL_SUFFIX}" if has_pairs(root) else None


def list_pairs(root: Path, reading: Reading, labels_optional: bool = False) -> list[Listed]:
    """Pictures of `root` sorted by id; where half of a pair is missing, reading it is an error, or has no labels.

    Raises:
        ValueError: two files would be the same part of a pair.
    """
    pictures = []
    for scene_id, pair in sorted(scan_pairs(root).items()):
        image = pair.image or root / (scene_id + IMAGE_SUFFIX)
        label = pair.label or root / (scene_id + LABEL_SUFFIX)
        labels = partial(_read, image, label, reading, labels_optional)
        pictures.append(Listed(scene_id, image, (label,), labels, repr(reading), reading=reading, formats=PNG))
    return pictures


def _read(image: Path, label: Path, reading: Reading, is_optional: bool) -> NDArray[Any] | None:
    if label.is_file():
        return reading.label_map(label, PNG)
    if is_optional:
        return None
    raise FileNotFoundError(f"{image} has no label: {label} does not exist")
