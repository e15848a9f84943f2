"""Nuclei in the two layouts of BBBC038."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from acis_env.datasets.bbbc038 import STAGE, split_ids
from acis_env.datasets.scene import Scene
from acis_env.testing.trees.blobs import draw_discs, paint, save

COUNTS = {"train": (3, 1, 21, 24), "val": (5, 2)}
"""Nuclei of the images of each split; one has more than the protocol of whole images takes."""
SIZES = ((48, 48), (48, 64))


def write_bbbc038(folder: Path, layout: Literal["native", "pairs"] = "native") -> dict[str, list[Scene]]:
    """Write the first images of each split, and return them, sorted by id.

    Natively images are RGBA, each nucleus has a file, two masks of the first image overlap by a row, and there is an
    image that no split has. Pairs have 16-bit labels.
    """
    written: dict[str, list[Scene]] = {}
    for split, counts in COUNTS.items():
        written[split] = []
        for place, (scene_id, count) in enumerate(zip(split_ids()[split], counts, strict=False)):
            label_map = draw_discs(count, SIZES[place % 2], place)
            scene = Scene(paint(label_map, place), label_map, scene_id)
            written[split].append(scene)
            if layout == "native":
                _write_native(folder / STAGE, scene, overlaps=place == 0)
            else:
                save(folder / split / f"{scene_id}_rgb.png", scene.image.transpose(1, 2, 0))
                save(folder / split / f"{scene_id}_label.png", label_map.astype(np.uint16))
    if layout == "native":
        label_map = draw_discs(4, (64, 96), 9)
        _write_native(folder / STAGE, Scene(paint(label_map, 9), label_map, "0" * 12), overlaps=False)
    return written


def _write_native(folder: Path, scene: Scene, overlaps: bool) -> None:
    label_map = scene.require_label_map()
    name = scene.name.ljust(64, "0")
    rgb = scene.image.transpose(1, 2, 0)
    rgba = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)
    save(folder / name / "images" / f"{name}.png", rgba)
    for label in range(1, scene.num_instances + 1):
        mask = label_map == label
        if overlaps and label == 2:  # with pixels that are of the first one
            lowest = np.flatnonzero((label_map == 1).any(axis=1))[-1]
            mask[lowest] |= label_map[lowest] == 1
        save(folder / name / "masks" / f"{label:04d}{name[:8]}.png", mask.astype(np.uint8) * np.uint8(255))
