"""Objects in the form of COCO's instance annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acis_env.datasets.run_lengths import MORE, SIGN
from acis_env.datasets.scene import IGNORED, Scene
from acis_env.testing.trees.blobs import draw_discs, paint, save

CATEGORIES = {1: "person", 18: "dog"}
SIZE = (48, 64)
BOXES = ((4, 4, 40, 36), (10, 8, 20, 20), (30, 40, 44, 60))
"""Top, left, bottom and right of the objects of the first image; the second covers a part of the first."""


def write_coco(folder: Path) -> dict[str, list[Scene]]:
    """Write images and annotations, and return the scenes of all categories, in the order of the file.

    Of the two images of each split that have objects, the first has polygons, one of two parts, objects that overlap,
    and a crowd as a list of runs; the second has compressed runs. A third has nothing but a crowd, a fourth nothing.
    Images are JPEG, one of them grey.
    """
    written = {}
    for number, split in enumerate(("train", "val")):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        scenes = []
        for place, make in enumerate((_boxes, _discs, _crowd, _nothing)):
            label_map, objects = make(10 * number + place)
            file_name = f"{100 * number + place + 1:012d}.jpg"
            path = folder / f"{split}2017" / file_name
            picture = paint(label_map, place).transpose(1, 2, 0)
            save(path, picture[..., 0] if make is _discs else picture, quality=95)
            height, width = label_map.shape
            images.append({"id": place + 1, "file_name": file_name, "height": height, "width": width})
            for each in objects:
                annotations.append({"id": len(annotations) + 1, "image_id": place + 1, "iscrowd": 0, **each})
            with Image.open(path) as image:
                decoded = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            scenes.append(Scene(np.ascontiguousarray(decoded), label_map, path.stem))
        categories = [{"id": key, "name": name} for key, name in CATEGORIES.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = folder / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        written[split] = scenes
    return written


_Drawn = tuple[NDArray[np.int32], list[dict[str, Any]]]
"""A label map, and its annotations."""


def _boxes(seed: int) -> _Drawn:
    label_map = np.zeros(SIZE, np.int32)
    crowd = np.zeros(SIZE, bool)
    crowd[:, 30:48] = True
    label_map[crowd] = IGNORED
    objects: list[dict[str, Any]] = []
    for label, (top, left, bottom, right) in enumerate(BOXES, start=1):
        label_map[top:bottom, left:right] = label
        objects.append(
            {
                "category_id": 18 if label == 2 else 1,
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                "area": (bottom - top) * (right - left),
            }
        )
    label_map[44:47, 2:8] = 3  # a second part of the last one, behind something
    objects[2]["segmentation"].append([2, 44, 8, 44, 8, 47, 2, 47])
    objects[2]["area"] += 18
    objects.append({"category_id": 1, "segmentation": encode_runs(crowd, False), "area": 864, "iscrowd": 1})
    return label_map, objects


def _discs(seed: int) -> _Drawn:
    label_map = draw_discs(5, SIZE, seed)
    masks = [label_map == label for label in range(1, 6)]
    return label_map, [
        {"category_id": 1, "segmentation": encode_runs(mask), "area": float(mask.sum())} for mask in masks
    ]


def _crowd(seed: int) -> _Drawn:
    crowd = draw_discs(1, SIZE, seed) == 1
    annotation = {"category_id": 1, "segmentation": encode_runs(crowd, False), "area": int(crowd.sum()), "iscrowd": 1}
    return np.where(crowd, IGNORED, 0).astype(np.int32), [annotation]


def _nothing(seed: int) -> _Drawn:
    return np.zeros((32, 40), np.int32), []


def encode_runs(mask: NDArray[np.bool_], compressed: bool = True) -> dict[str, Any]:
    """The runs of a mask `[H, W]` as `acis_env.datasets.run_lengths` reads them, compressed or as a list of lengths."""
    pixels = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    lengths = np.diff(np.append(changes, mask.size), prepend=0).tolist()
    return {"size": list(mask.shape), "counts": _compressed(lengths) if compressed else lengths}


def _compressed(lengths: list[int]) -> str:
    text = ""
    for place, length in enumerate(lengths):
        number, is_open = length - (lengths[place - 2] if place > 2 else 0), True
        while is_open:
            bits, number = number & (MORE - 1), number >> 5
            is_open = number != (-1 if bits & SIGN else 0)
            text += chr(ord("0") + bits + MORE * is_open)
    return text
