"""COCO's instance annotations, or one's own in that form.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.configs import is_count, nearest_first
from acis_env.datasets.listed import Listed, ListedScenes
from acis_env.datasets.roots import MissingSplit, find_root, named
from acis_env.datasets.run_lengths import decode_runs
from acis_env.datasets.scene import IGNORED

ABOUT = "Everyday objects in photographs: COCO's polygons and runs, or your own in that form."
LICENCE = "annotations CC BY 4.0; photographs by the terms of Flickr, each with its own licence"
CITATION = "Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014"
SOURCE = "https://cocodataset.org/#download (2017 train/val images and annotations)"
EXPECTED = "annotations/instances_train2017.json and the images in train2017"
REACH = 4
"""Corners of polygons lie in the picture, or outside of it by so many of its longer side at most."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Annotation:
    """One object, or a crowd of them."""

    id: Any
    segmentation: Any
    """Polygons as arrays x, y, x, y, ... or runs, unchecked."""
    is_crowd: bool


def open_coco(
    split: str,
    size: tuple[int, int],
    root: str | Path | None = None,
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    categories: str | int | Collection[str | int] | None = None,
    **choice: Any,
) -> ListedScenes:
    """Photographs with their objects, in the order of the annotations' file.

    Layout: `annotations/instances_<split>2017.json` (or another year, or none), and images in `<split>2017`,
    `images/<split>2017`, `images`, `<split>` or beside that folder. Polygons are drawn by pycocotools.

    Where objects overlap, the smaller one is on top. Crowds are ignored where no object is. Objects of other
    categories are background. Instances are counted by the annotations, without decoding anything: an object that
    others cover entirely counts for `min_instances` and `max_instances`. With `min_area` above 1 the shapes are drawn
    and their pixels counted, since the field `area` is that of the whole shape in the original picture. Images that
    have fewer than `min_instances`, which is 1 by default, are left out.

    Args:
        split: "train" or "val", or whatever stands behind `instances_` in the name of the file.
        size: not used, as scenes keep their resolution; loaders of data sets get it.
        root: the folder; None for that in the environment variable ACIS_COCO_ROOT.
        annotations: the file, below `root` or anywhere; then `split` does not matter.
        images: folder of the images, below `root` or anywhere.
        categories: names or ids of the categories that count; all by default.
        choice: further options (see `SceneChoice`), and `largest`: so many instances of a scene are kept, those of the
            largest areas; others are ignored.

    Raises:
        FileNotFoundError: there is no such folder, split or image.
        ValueError: an option is out of range, or the file is damaged.
    """
    where, pictures = _list(split, root, annotations, images, categories)
    return ListedScenes(where, pictures, **choice)


def list_coco(
    split: str,
    root: str | Path | None = None,
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    categories: str | int | Collection[str | int] | None = None,
) -> list[Listed]:
    """All images of a split, without a look at any of them; arguments and errors are those of `open_coco`."""
    return _list(split, root, annotations, images, categories)[1]


def recognise_coco(root: Path) -> str | None:
    """What `root` is, if it has COCO's layout."""
    found = _annotation_files(root)
    return f"instance annotations, {named([path.name for path in found.values()])}" if found else None


def _list(
    split: str,
    root: str | Path | None,
    annotations: str | Path | None,
    images: str | Path | None,
    categories: str | int | Collection[str | int] | None,
) -> tuple[Path, list[Listed]]:
    folder = find_root("coco", root, EXPECTED, SOURCE)
    path = _find_annotations(folder, split) if annotations is None else folder / annotations
    content = _read(path)
    chosen = _choose(content["categories"], categories, path)
    objects = _by_image(content, chosen, path)
    names = [entry["file_name"] for entry in content["images"]]
    place = _find_images(folder, path, split, names) if images is None else folder / images
    variant = repr(sorted(chosen))
    return path, [_listed(place, path, entry, objects[entry["id"]], variant) for entry in content["images"]]


def _annotation_files(folder: Path) -> dict[str, Path]:
    """Files of annotations by what they are for, such as "train2017"."""
    found = sorted((folder / "annotations").glob("instances_*.json"))
    return {path.stem.removeprefix("instances_"): path for path in found if not path.name.startswith(".")}


def _find_annotations(folder: Path, split: str) -> Path:
    there = _annotation_files(folder)
    found = [path for name, path in there.items() if re.fullmatch(re.escape(split) + r"\d*", name)]
    if not found:
        expected = f"{folder / 'annotations'}/instances_{split}2017.json"
        raise MissingSplit(
            f"coco: split {split!r} must have {expected}, found {named(list(there))}; annotations= names another file"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"coco: {folder} has {names} for split {split!r}: choose one by annotations=")
    return found[0]


def _find_images(folder: Path, path: Path, split: str, names: Sequence[str]) -> Path:
    """The folder that has the first image; if there are no images, any."""
    stem = path.stem.removeprefix("instances_")
    places = (folder / stem, folder / "images" / stem, folder / "images", folder / split, folder, path.parent)
    for place in places:
        if not names or (place / names[0]).is_file():
            return place
    looked = ", ".join(dict.fromkeys(map(str, places)))
    raise FileNotFoundError(f"{path} names the image {names[0]}, which is in none of {looked}; images= says where")


def _read(path: Path) -> dict[str, Any]:
    """The lists of images, annotations and categories, each with what is needed of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has not that form.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected COCO's instance annotations")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected COCO's instance annotations, got what is not JSON ({error})") from error
    lists = {
        "images": {"id": _is_id, "file_name": _is_name, "height": is_count, "width": is_count},
        "annotations": {"image_id": _is_id, "category_id": _is_id},
        "categories": {"id": _is_id, "name": _is_name},
    }
    for key, fields in lists.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{path}: expected COCO's instance annotations with a list {key!r}, got none")
        for place, entry in enumerate(entries):
            for field, is_valid in fields.items():
                if not isinstance(entry, dict) or not is_valid(entry.get(field)):
                    found = repr(entry.get(field) if isinstance(entry, dict) else entry)[:40]
                    raise ValueError(f"{path}: {key}[{place}] must have a valid {field}, got {found}")
    ids = [entry["id"] for entry in content["images"]]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{path}: ids of images must differ, got one twice")
    return dict(content)


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _choose(
    known: Sequence[Mapping[str, Any]], wanted: str | int | Collection[str | int] | None, path: Path
) -> set[str | int]:
    """Ids of the wanted categories."""
    if wanted is None:
        return {category["id"] for category in known}
    chosen = set()
    for one in [wanted] if isinstance(wanted, str | int) else wanted:
        ids = {category["id"] for category in known if one in (category["id"], category["name"])}
        if not ids:
            names = nearest_first(str(one), [category["name"] for category in known])
            raise ValueError(f"categories must be names or ids of {path}, got {one!r}; there are {named(names)}")
        chosen |= ids
    if not chosen:
        raise ValueError("categories must name at least one, got none")
    return chosen


def _by_image(content: Mapping[str, Any], chosen: set[str | int], path: Path) -> dict[Any, list[dict[str, Any]]]:
    """Annotations of the chosen categories that have a shape, by the id of their image."""
    objects: dict[Any, list[dict[str, Any]]] = {entry["id"]: [] for entry in content["images"]}
    without_shape = 0
    for place, entry in enumerate(content["annotations"]):
        if entry["image_id"] not in objects:
            raise ValueError(f"{path}: annotations[{place}] must be of an image in the list, got {entry['image_id']!r}")
        if entry["category_id"] in chosen:
            if entry.get("segmentation"):
                objects[entry["image_id"]].append(entry)
            else:
                without_shape += 1
    if without_shape:
        _log.warning("%s: %d annotations have no segmentation and are left out", path, without_shape)
    return objects


def _listed(
    place: Path, path: Path, image: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], variant: str
) -> Listed:
    singles = [entry for entry in objects if not entry.get("iscrowd")]
    annotations = tuple(
        _Annotation(entry.get("id"), _compact(entry["segmentation"]), bool(entry.get("iscrowd"))) for entry in objects
    )
    return Listed(
        name=Path(image["file_name"]).with_suffix("").as_posix(),
        image=place / image["file_name"],
        files=(path,),
        labels=partial(_paint, path, (image["height"], image["width"]), annotations),
        variant=variant,
        count=len(singles),
        may_be_empty=True,
    )


def _compact(segmentation: Any) -> Any:
    """Polygons as arrays, which take a tenth of the memory of lists; what cannot be one stays as it is."""
    if not isinstance(segmentation, list):
        return segmentation
    try:
        return [np.array(polygon, np.float64) for polygon in segmentation]
    except (TypeError, ValueError):
        return segmentation


def _paint(path: Path, size: tuple[int, int], annotations: Sequence[_Annotation]) -> NDArray[np.int32]:
    """Label map `[H, W]`: instances are numbered in the order of the file, the smaller one is on top.

    Raises:
        ValueError: an annotation is no shape.
    """
    label_map = np.zeros(size, np.int32)
    instances = []
    for annotation in annotations:
        try:
            mask = _mask(annotation.segmentation, size)
        except ValueError as error:
            raise ValueError(f"{path}: annotation {annotation.id}: {error}") from error
        if annotation.is_crowd:
            label_map[mask] = IGNORED
        else:
            instances.append(mask)
    areas = [int(mask.sum()) for mask in instances]
    for place in sorted(range(len(instances)), key=lambda place: -areas[place]):
        label_map[instances[place]] = place + 1
    return label_map


def _mask(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels `[H, W]` of polygons or runs."""
    if isinstance(segmentation, dict):
        return decode_runs(segmentation, size)
    try:
        from pycocotools import mask as pycocotools_mask
    except ImportError as error:
        raise ValueError("polygons need pycocotools: pip install 'acis-env[data]'") from error
    if not isinstance(segmentation, list) or not all(_is_polygon(polygon, size) for polygon in segmentation):
        raise ValueError(
            "segmentation must be runs, or polygons [x, y, x, y, ...] of at least 3 corners at the image of "
            f"{size[0]}x{size[1]} (height x width), got {str(segmentation)[:60]!r}"
        )
    runs = pycocotools_mask.merge(pycocotools_mask.frPyObjects(segmentation, *size))
    return np.asarray(pycocotools_mask.decode(runs)) > 0


def _is_polygon(polygon: Any, size: tuple[int, int]) -> bool:
    if not isinstance(polygon, np.ndarray) or polygon.ndim != 1 or len(polygon) < 6 or len(polygon) % 2:
        return False
    # Also false for not-a-number. A polygon that reaches far would take memory for every pixel of its outline.
    return bool((np.abs(polygon) <= REACH * max(size)).all())
