"""The scale that an agent was trained at, and the scale at which a picture shows objects of that size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from acis_env.configs import check_positive
from acis_env.datasets.preprocessing import MOST_PIXELS, Tile
from acis_env.ops.labels import label_areas

NUM_WINDOWS = 16
"""Windows of a picture from which its scale is estimated, spread evenly over all of them."""
ROUNDS = 6
"""Largest number of scales that are looked at."""
CLOSE = 1.1
"""Factor between two estimates that are as good as the same."""
FARTHEST = 2.0
"""Factor between the size of a picture's objects and that of training beyond which an agent is out of its depth."""

Foreground = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
"""Predicts where the objects are: from images `[K, 3, H, W]` uint8 to `[K, H, W]` bool."""


@dataclass(frozen=True)
class TrainingScale:
    """Typical instances of training scenes, in pixels at the size of the networks."""

    width: float
    """Median over instances of the side of the square that has their area."""
    depth: float
    """Mean distance of foreground pixels to the background, which needs no instances to be told apart."""

    def __post_init__(self) -> None:
        check_positive(self, "width", "depth")


def measure_scale(label_maps: Iterable[NDArray[np.integer]]) -> TrainingScale | None:
    """The scale of label maps `[H, W]` of training scenes; None if there is no instance, or nothing else."""
    widths: list[float] = []
    foregrounds = []
    for label_map in label_maps:
        areas = label_areas(label_map.astype(np.int64))[1:]
        widths += np.sqrt(areas[areas > 0]).tolist()
        foregrounds.append(label_map > 0)
    depth = foreground_depth(foregrounds)
    return None if depth is None or not widths else TrainingScale(float(np.median(widths)), depth)


def foreground_depth(foregrounds: Iterable[NDArray[np.bool_]]) -> float | None:
    """Mean distance of foreground pixels to the background, over all `[H, W]` that have both; None without any."""
    depths = [distance_transform_edt(found)[found] for found in foregrounds if found.any() and not found.all()]
    return float(np.concatenate(depths).mean()) if depths else None


def estimate_scale(image: NDArray[np.uint8], size: tuple[int, int], depth: float, predict: Foreground) -> float:
    """Factor on a picture at which its foreground is as deep as that of training scenes.

    The foreground is predicted in windows at one scale, from which the next follows, until two agree.

    Args:
        image: `[3, h, w]` uint8.
        size: `(H, W)` of the networks.
        depth: `TrainingScale.depth`.
        predict: the foreground, as the agent sees it.

    Raises:
        ValueError: there is no foreground at any of the scales.
    """
    height, width = image.shape[1:]
    least = min(1.0, max(size[0] / height, size[1] / width))  # all of it in one window
    most = max(1.0, min(8.0, math.sqrt(MOST_PIXELS / (height * width))))
    scale, found = 1.0, False
    for _ in range(ROUNDS):
        windows = Tile(size, scale).images(image)
        chosen = np.unique(np.linspace(0, len(windows) - 1, min(NUM_WINDOWS, len(windows))).round().astype(int))
        seen = foreground_depth(predict(windows[chosen]))
        found |= seen is not None
        factor = 0.5 if seen is None else depth / seen
        before, scale = scale, min(max(scale * factor, least), most)
        if seen is not None and 1 / CLOSE < scale / before < CLOSE:
            break
    if not found:
        raise ValueError(f"no objects were found in a picture of {height}x{width} at any scale: give its scale")
    return scale
