"""Trees in the three layouts in which KITTI's cars are met, with drawn streets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.scene import IGNORED, Scene
from acis_env.testing.trees.files import coloured, new_tree, write_png
from acis_env.testing.trees.streets import Street, draw_street

SIZES = ((375, 1242), (370, 1224), (374, 1238))
"""Heights and widths of KITTI's pictures."""
CARS = (5, 20, 3, 0, 8, 2, 12, 6, 4, 10)
"""Number of cars in the scenes, over and over: one has none, one more than the published protocol takes."""
ROAD, VEGETATION, SKY, PERSON, TRUCK, CAR = (code * 256 for code in (7, 21, 23, 24, 27, 26))


def write_kitti(
    folder: str | Path,
    layout: Literal["a", "b", "c"] = "b",
    images: int = 10,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> dict[str, Scene]:
    """Write a few streets.

    Args:
        folder: new or empty.
        layout: "a" has lists and label maps in colours, coarse and manual ones; "b" is the semantics release; "c" has
            a folder per split, and manual label maps in another.
        images: number of images, at least 5. Of five, one is for validation and, in layouts "a" and "c", one for test;
            layout "b" has two further ones without labels.
        size: height and width of the largest pictures; by default KITTI's own, (375, 1242).
        seed: another set of streets for every other number.

    Returns:
        All scenes by name, with all their cars; unlabelled ones have no label map.

    Raises:
        ValueError: the folder is not empty, or an argument is none of those above.
    """
    if layout not in ("a", "b", "c") or images < 5:
        raise ValueError(f"layout must be a, b or c and images at least 5, got {layout!r} and {images}")
    root, generator = new_tree(folder), np.random.default_rng(seed)
    streets = [
        draw_street(_scaled(SIZES[number % len(SIZES)], size), CARS[number % len(CARS)], generator)
        for number in range(images)
    ]
    if layout == "b":
        return _write_semantics(root, streets, generator)
    ids = [f"{number:06d}" for number in range(images)]
    splits = {"test": ids[3::5], "val": ids[4::5], "train": [id for at, id in enumerate(ids) if at % 5 < 3]}
    by_id = dict(zip(ids, streets, strict=True))
    return (_write_coloured if layout == "a" else _write_split_folders)(root, splits, by_id, generator)


def _scaled(official: tuple[int, int], size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        return official
    return official[0] * size[0] // SIZES[0][0], official[1] * size[1] // SIZES[0][1]


def _scene(street: Street, label_map: NDArray[np.int32] | None, name: str) -> Scene:
    return Scene(np.ascontiguousarray(street.image.transpose(2, 0, 1)), label_map, name)


def _write_semantics(root: Path, streets: Sequence[Street], generator: np.random.Generator) -> dict[str, Scene]:
    scenes = {}
    for number, street in enumerate(streets):
        name = f"{number:06d}_10"
        codes = np.where(street.label_map > 0, CAR + street.label_map, _surroundings(street))
        write_png(root / "training" / "image_2" / f"{name}.png", street.image)
        write_png(root / "training" / "instance" / f"{name}.png", codes.astype(np.uint16))
        is_unknown = (codes == CAR) | (codes == 0)
        scenes[name] = _scene(street, np.where(is_unknown, IGNORED, street.label_map).astype(np.int32), name)
    for number in range(2):
        street, name = draw_street(streets[0].label_map.shape, 4, generator), f"{len(streets) + number:06d}_10"
        write_png(root / "testing" / "image_2" / f"{name}.png", street.image)
        scenes[name] = _scene(street, None, name)
    return scenes


def _surroundings(street: Street) -> NDArray[np.int64]:
    """Class * 256 + instance of what is no numbered car: there are cars that are not told apart, other instances, and
    pixels without a label."""
    height, width = street.label_map.shape
    codes: NDArray[np.int64] = np.where(street.is_road, ROAD, np.where(street.is_sky, SKY, VEGETATION))
    horizon = int(np.argmin(street.is_sky[:, 0]))
    codes[horizon : horizon + height // 25, : width // 20] = CAR
    codes[horizon - height // 12 : horizon + height // 12, width // 8 : width // 8 + width // 20] = TRUCK + 1
    for person in (1, 2):
        left = width - person * width // 15
        codes[horizon : horizon + height // 8, left : left + width // 60] = PERSON + person
    codes[-height // 40 :, :] = 0
    return codes


def _write_coloured(
    root: Path, splits: dict[str, list[str]], streets: dict[str, Street], generator: np.random.Generator
) -> dict[str, Scene]:
    scenes = {}
    for split, ids in splits.items():
        for id in ids:
            street, coarse = streets[id], _coarse(streets[id].label_map)
            write_png(root / "images" / f"{id}.png", street.image)
            write_png(root / "gt" / f"{id}.png", coloured(coarse, generator))
            if split != "train":
                write_png(root / "gt_man" / f"{id}.png", coloured(street.label_map, generator))
            scenes[id] = _scene(street, coarse if split == "train" else street.label_map, id)
        name = "train" if split == "train" else {"val": "valid", "test": "test"}[split] + "_man"
        (root / f"{name}.txt").write_text("".join(f"{int(id)}\n" for id in ids))
    return scenes


def _write_split_folders(
    root: Path, splits: dict[str, list[str]], streets: dict[str, Street], generator: np.random.Generator
) -> dict[str, Scene]:
    scenes = {}
    for split, ids in splits.items():
        for number, id in enumerate(ids):
            street, coarse = streets[id], _coarse(streets[id].label_map)
            write_png(root / split / f"{id}_rgb.png", street.image)
            write_png(root / split / f"{id}_labels.png", coarse.astype(np.uint8))
            is_manual = split != "train" or number == 0
            if is_manual:
                write_png(root / "AnnotMasksAll" / f"{id}.png", street.label_map.astype(np.uint8))
            scenes[id] = _scene(street, street.label_map if is_manual else coarse, id)
    return scenes


def _coarse(label_map: NDArray[np.int32]) -> NDArray[np.int32]:
    """A label map of blocks, in which small cars may be missing; labels 1..N."""
    height, width = label_map.shape
    small = cv2.resize(label_map, (max(1, width // 6), max(1, height // 6)), interpolation=cv2.INTER_NEAREST)
    large = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST))
    return np.unique(large, return_inverse=True)[1].reshape(label_map.shape).astype(np.int32)
