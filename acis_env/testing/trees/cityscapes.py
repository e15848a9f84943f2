"""Streets in the layout of Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.cityscapes import CLASSES, FIRST_INSTANCE, IMAGE_END, IMAGES, LABEL_END, LABELS
from acis_env.datasets.scene import IGNORED, Scene
from acis_env.testing.trees.blobs import draw_discs, paint, save

STREETS = {"train": (("aachen", 3), ("aachen", 0), ("zurich", 2)), "val": (("lindau", 4),)}
"""City and number of cars of each street."""
SIZE = (64, 128)
ROAD, SKY, OUT_OF_ROI, PARKING = 7, 23, 3, 9
HOOD = 6
"""Rows at the bottom that are out of the region of interest."""


def write_cityscapes(folder: Path) -> dict[str, list[Scene]]:
    """Write streets, and return them with their cars, sorted by city and number; one has none.

    Every street has a person, whose number is that of a car, too; pixels that are a group of cars, out of the region
    of interest, or a parking space; and the files that a download has besides. Labels of the test split are empty.
    """
    written: dict[str, list[Scene]] = {}
    for split, streets in STREETS.items():
        written[split] = []
        for place, (city, cars) in enumerate(streets):
            discs = draw_discs(cars + 2, SIZE, place)
            name = f"{city}_{place:06d}_000019"
            values, label_map = _values(discs, cars)
            scene = Scene(paint(discs, place), label_map, f"{city}/{name}")
            _write(folder, split, city, name, scene.image, values)
            written[split].append(scene)
    image = paint(draw_discs(2, SIZE, 9), 9)
    _write(folder, "test", "berlin", "berlin_000000_000019", image, np.full(SIZE, OUT_OF_ROI, np.uint16))
    return written


def _values(discs: NDArray[np.int32], cars: int) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """What the file holds, and the label map: the discs are cars, then a person, then a group of cars."""
    values = np.full(SIZE, ROAD, np.uint16)
    values[:8] = SKY
    label_map = np.zeros(SIZE, np.int32)
    for number in range(cars):
        values[discs == number + 1] = CLASSES["car"] * FIRST_INSTANCE + number
        label_map[discs == number + 1] = number + 1
    values[discs == cars + 1] = CLASSES["person"] * FIRST_INSTANCE
    values[discs == cars + 2] = CLASSES["car"]
    label_map[discs == cars + 2] = IGNORED
    values[-HOOD:], label_map[-HOOD:] = OUT_OF_ROI, IGNORED
    values[8, :5], label_map[8, :5] = PARKING, IGNORED
    return values, label_map


def _write(
    folder: Path, split: str, city: str, name: str, image: NDArray[np.uint8], values: NDArray[np.uint16]
) -> None:
    save(folder / IMAGES / split / city / (name + IMAGE_END), image.transpose(1, 2, 0))
    labels = folder / LABELS / split / city
    save(labels / (name + LABEL_END), values)
    classes = np.where(values >= FIRST_INSTANCE, values // FIRST_INSTANCE, values)
    save(labels / f"{name}_gtFine_labelIds.png", classes.astype(np.uint8))
