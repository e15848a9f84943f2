"""Folders of images and masks in the layouts that are met."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from acis_env.datasets.scene import Scene
from acis_env.testing.trees.blobs import draw_discs, paint, save

Layout = Literal["folders", "files", "label-maps", "dsb", "pennfudan"]
COUNTS = {"train": (3, 1, 5), "val": (2, 4)}
"""Instances of the images of each split; an image with one instance has a single file in every layout."""
SIZE = (40, 56)


def write_masks(
    folder: Path, layout: Layout = "folders", image_end: str = ".png", mask_end: str = ".png"
) -> dict[str, list[Scene]]:
    """Write images and masks, and return the scenes, sorted by name.

    Args:
        folder: of the splits; PennFudan has none, and all its scenes are "train".
        layout: "folders" is `masks/<id>/*`, "files" `masks/<id>_*`, "label-maps" `masks/<id>`, "dsb" and "pennfudan"
            are as published.
        image_end: ".png", ".jpg", ".tif" or such; TIFF has 16 bits.
        mask_end: ".png" or ".tif".
    """
    written: dict[str, list[Scene]] = {}
    for split, counts in COUNTS.items():
        written[split] = []
        root = folder if layout == "pennfudan" else folder / (f"stage1_{split}" if layout == "dsb" else split)
        for place, count in enumerate(counts):
            label_map = draw_discs(count, SIZE, place)
            # The second name begins with the first.
            name = "FudanPed" + f"{place:05d}" if layout == "pennfudan" else "cell" + "_1" * place
            image = _write_image(_image_path(root, layout, name, image_end), label_map, place)
            scene = Scene(image, label_map, name)
            _write_masks(root, layout, scene, mask_end)
            written[split].append(scene)
        if layout == "pennfudan":
            break
    return written


def _image_path(root: Path, layout: Layout, name: str, end: str) -> Path:
    if layout == "dsb":
        return root / name / "images" / (name + end)
    return root / ("PNGImages" if layout == "pennfudan" else "images") / (name + end)


def _write_image(path: Path, label_map: np.ndarray, seed: int) -> np.ndarray:
    """Write a picture; returns what is read, `[3, H, W]` uint8."""
    picture = paint(label_map, seed).transpose(1, 2, 0)
    if path.suffix == ".tif":
        grey = picture[..., 0]
        save(path, grey.astype(np.uint16) * 257)
        return np.stack([grey] * 3)
    save(path, picture)
    with Image.open(path) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def _write_masks(root: Path, layout: Layout, scene: Scene, end: str) -> None:
    label_map, name = scene.require_label_map(), scene.name
    if layout == "label-maps":
        save(root / "masks" / (name + end), label_map.astype(np.uint16))
    elif layout == "pennfudan":
        save(root / "PedMasks" / f"{name}_mask{end}", label_map.astype(np.uint8))
    else:
        for label in range(1, scene.num_instances + 1):
            place = {"dsb": root / name / "masks", "folders": root / "masks" / name}.get(layout, root / "masks")
            file = f"{name}_mask{label}{end}" if layout == "files" else f"{label:03d}{end}"
            save(place / file, (label_map == label).astype(np.uint8) * np.uint8(255))
