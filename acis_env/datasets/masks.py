"""Folders of images and masks, such as PennFudan's or those of the Data Science Bowl 2018, and one's own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.listed import Listed, ListedScenes
from acis_env.datasets.roots import MissingSplit, find_root, named, names_in
from acis_env.pictures import Reading

ABOUT = "Folders images/ and masks/: one mask per instance, or label maps; PennFudan, DSB 2018, or your own."
LICENCE = "that of the data"
SOURCE = (
    "your own files; PennFudan: https://www.cis.upenn.edu/~jshi/ped_html/ ; "
    "DSB 2018: https://bbbc.broadinstitute.org/BBBC038"
)
EXPECTED = "images/ and masks/, or <id>/images/ and <id>/masks/, or PNGImages/ and PedMasks/"
PLACES = (("images", "masks"), ("images", "labels"), ("PNGImages", "PedMasks"))
"""Names of the folders of images and of their masks."""
IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp")
"""Ends of the names of images, in lower case."""
LOSSY = (".jpg", ".jpeg", ".webp")
"""Those of files that may change values, and are no masks."""
LOSSLESS = ("PNG", "TIFF", "BMP")
SPLITS = ("train", "val", "test")
SPLIT_PREFIX = "stage1_"
"""Before the name of a split in the Data Science Bowl."""


def open_masks(
    split: str,
    size: tuple[int, int],
    root: str | Path | None = None,
    *,
    percentiles: Sequence[float] | None = None,
    page: int | None = None,
    ignore: int | Collection[int] = (),
    coloured_labels: bool = False,
    **choice: Any,
) -> ListedScenes:
    """Images with a mask for each instance, or with label maps, sorted by name.

    Layouts, all of them also below a folder `<split>` or `stage1_<split>`, or with folders `<split>` inside of `images`
    and `masks`; without any of these, all images are "train":

    - `images/<id>.png` and `masks/<id>/*.png`, or `masks/<id>_*.png`;
    - `images/<id>.png` and `masks/<id>.png`, or `masks/<id>_mask.png`;
    - `<id>/images/*.png` and `<id>/masks/*.png` (Data Science Bowl 2018);
    - `PNGImages/<id>.png` and `PedMasks/<id>_mask.png` (PennFudan).

    `labels` may be the name of `masks`. An image with one file has a label map, each value of which is an instance; of
    several files each is one instance, wherever it is not 0. Where these overlap, the one that comes first by name is
    on top. Images are PNG, TIFF, JPEG, BMP or WebP of any kind that `acis_env.pictures` describes, masks PNG, TIFF or
    BMP. Masks are counted by their number; label maps are read at opening, several at a time.

    Args:
        split: "train", "val", "test" or any other name.
        size: not used, as scenes keep their resolution; loaders of data sets get it.
        root: the folder; None for that in the environment variable ACIS_MASKS_ROOT.
        percentiles: two percentiles of an image's own values that become 0 and 255, such as (0.1, 99.9); by default
            the full range of the type. The log says what was done with 16 bits or floats.
        page: page of images that have several, from 0.
        ignore: values of label maps that are ignored, such as 255.
        coloured_labels: whether label maps may be in colours, one per instance, and black the background.
        choice: further options (see `SceneChoice`), and `largest`: so many instances of a scene are kept, those of the
            largest areas; others are ignored.

    Raises:
        FileNotFoundError: there is no such folder or split, or an image has no mask.
        ValueError: an option is out of range, or a file is damaged.
    """
    pictures = list_masks(
        split, root, percentiles=percentiles, page=page, ignore=ignore, coloured_labels=coloured_labels
    )
    return ListedScenes(find_root("masks", root, EXPECTED, SOURCE), pictures, **choice)


def list_masks(
    split: str,
    root: str | Path | None = None,
    *,
    percentiles: Sequence[float] | None = None,
    page: int | None = None,
    ignore: int | Collection[int] = (),
    coloured_labels: bool = False,
) -> list[Listed]:
    """All images of a split, by the names of files only; arguments and errors are those of `open_masks`."""
    reading = Reading(percentiles, page, ignore, coloured_labels)
    folder = find_root("masks", root, EXPECTED, SOURCE)
    found = _find_split(folder, split)
    if found is None:
        raise MissingSplit(
            f"masks: split {split!r} must be {EXPECTED} in {folder / split} or, for 'train', in {folder}; "
            f"found {named(names_in(folder, EXPECTED))}"
        )
    return [listed(files, reading) for files in found]


def recognise_masks(root: Path) -> str | None:
    """What `root` is, if it has one of the layouts."""
    for split in SPLITS:
        found = _find_split(root, split)
        if found:
            image, masks = found[0].image.relative_to(root), found[0].masks
            example = f"{masks[0].relative_to(root)}" if masks else "no mask"
            return f"images and masks, such as {image} with {example}"
    return None


@dataclass(frozen=True)
class MaskFiles:
    """An image and the files of its masks."""

    name: str
    image: Path
    masks: tuple[Path, ...] | None
    """None where there is neither a file nor a folder for them."""
    place: Path
    """Folder in which masks were looked for."""


def find_folders(root: Path) -> list[MaskFiles]:
    """Images of the layout `<id>/images/*.png` and `<id>/masks/*.png` in `root`, sorted by id; no id names a split.

    Raises:
        ValueError: a folder has not one image.
    """
    found = []
    for name in names_in(root, EXPECTED):
        folder, place = root / name / "images", root / name / "masks"
        if folder.is_dir() and name.removeprefix(SPLIT_PREFIX) not in SPLITS:
            images = _pictures(folder)
            if len(images) != 1:
                raise ValueError(f"{folder} must hold one image, found {named(images)}")
            masks = tuple(place / mask for mask in _pictures(place)) if place.is_dir() else None
            found.append(MaskFiles(name, folder / images[0], masks, place))
    return found


def listed(files: MaskFiles, reading: Reading) -> Listed:
    """The image with a way to read its masks; counted by their number if there are several."""
    masks = files.masks or ()
    is_counted = len(masks) > 1 and not any(path.suffix.lower() in LOSSY for path in masks)
    return Listed(
        name=files.name,
        image=files.image,
        files=masks or (files.place,),
        labels=partial(read_masks, files, reading),
        variant=repr(reading),
        count=len(masks) if is_counted else None,
        reading=reading,
    )


def read_masks(files: MaskFiles, reading: Reading) -> NDArray[Any]:
    """Label map `[H, W]` of one file with labels, or of several with an instance each, the first on top.

    Raises:
        FileNotFoundError: there is neither a file nor a folder for them.
        ValueError: a file is damaged or may be lossy, or one of several has several values or another size.
    """
    if files.masks is None:
        raise FileNotFoundError(f"{files.image} has no mask: expected {files.name} or {files.name}_* in {files.place}")
    for path in files.masks:
        if path.suffix.lower() in LOSSY:
            raise ValueError(f"{path} must be PNG, TIFF or BMP, got {path.suffix}: lossy formats change labels")
    if len(files.masks) == 1:
        return reading.label_map(files.masks[0], LOSSLESS)
    height, width = reading.size(files.image)
    label_map = np.zeros((height, width), np.int32)
    plain = replace(reading, ignore=())
    for label, path in enumerate(files.masks, start=1):
        mask = plain.label_map(path, LOSSLESS)
        if mask.shape != label_map.shape:
            raise ValueError(
                f"{files.image} is {height}x{width} but its mask {path} is {mask.shape[0]}x{mask.shape[1]} "
                "(height x width); they must be equal"
            )
        is_inside = mask != 0
        if is_inside.any() and (mask[is_inside] != mask.max()).any():
            raise ValueError(
                f"{path} must hold 0 and one other value, as the mask of one instance, got {_named_values(mask)}"
            )
        label_map[is_inside & (label_map == 0)] = label
    return label_map


def _find_split(root: Path, split: str) -> list[MaskFiles] | None:
    """Images of a split, None if there is no such."""
    for images, masks in PLACES:
        if (root / images / split).is_dir() and (root / masks / split).is_dir():
            return _find_flat(root / images / split, root / masks / split)
    bases = [root / split, root / (SPLIT_PREFIX + split)] + ([root] if split == "train" else [])
    for base in filter(Path.is_dir, bases):
        for images, masks in PLACES:
            if (base / images).is_dir() and (base / masks).is_dir():
                return _find_flat(base / images, base / masks) or None
        found = find_folders(base)
        if found:
            return found
    return None


def _find_flat(images: Path, masks: Path) -> list[MaskFiles]:
    """Images of a folder with the masks in another, sorted by name.

    Raises:
        ValueError: two images have one name.
    """
    found: dict[str, Path] = {}
    for name in _pictures(images):
        scene_id = Path(name).stem
        if scene_id in found:
            raise ValueError(f"{images} must hold one image {scene_id!r}, got {found[scene_id].name} and {name}")
        found[scene_id] = images / name
    files: dict[str, list[Path]] = {}
    folders = set()
    for name in names_in(masks, EXPECTED):
        if (masks / name).is_dir():
            folders.add(name)
        elif Path(name).suffix.lower() in IMAGES:
            owner = _owner(Path(name).stem, found)
            if owner is not None:
                files.setdefault(owner, []).append(masks / name)
    for name in folders & set(found):
        files[name] = [masks / name / mask for mask in _pictures(masks / name)]
    return [
        MaskFiles(name, image, tuple(files[name]) if name in files else None, masks) for name, image in found.items()
    ]


def _owner(stem: str, names: Collection[str]) -> str | None:
    """The longest of `names` that `stem` is, or that it begins with before a `_`."""
    while stem not in names and "_" in stem:
        stem = stem.rpartition("_")[0]
    return stem if stem in names else None


def _pictures(folder: Path) -> list[str]:
    return [name for name in names_in(folder, "pictures") if Path(name).suffix.lower() in IMAGES]


def _named_values(mask: NDArray[Any]) -> str:
    return named([str(value) for value in np.unique(mask)])
