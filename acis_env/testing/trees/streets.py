"""Drawn streets with cars: boxes with a cabin, windows and wheels on a road, the far ones behind the near ones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

HORIZON = 0.42
"""Height of the horizon, as a share of the picture's."""
NEAREST, FARTHEST = 6.0, 185.0
"""Distances of cars in metres."""
SMALLEST = 20 / (375 * 1242)
"""Visible part of a car, as a share of the picture."""
ATTEMPTS = 200


@dataclass(frozen=True)
class Street:
    """A picture and the label map of its cars, the far ones first."""

    image: NDArray[np.uint8]  # [H, W, 3], RGB
    label_map: NDArray[np.int32]  # [H, W], 1..N
    is_road: NDArray[np.bool_]  # [H, W]
    is_sky: NDArray[np.bool_]  # [H, W]


def draw_street(size: tuple[int, int], num_cars: int, generator: np.random.Generator) -> Street:
    """Draw a street of `size` `(H, W)` with `num_cars` cars, each of which can be seen.

    Raises:
        ValueError: so many do not fit into the picture.
    """
    height, width = size
    horizon = int(HORIZON * height)
    rows, columns = np.mgrid[:height, :width]
    is_sky = rows < horizon
    is_road = ~is_sky & (np.abs(columns - width / 2) < (rows - horizon) * 1.6 + 0.02 * width)
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = generator.integers((60, 90, 40), (90, 120, 70))
    image[is_sky] = generator.integers((150, 180, 210), (190, 215, 245))
    image[is_road] = generator.integers(80, 110)
    label_map = np.zeros(size, np.int32)
    # Even in perspective, so that near and far cars are about equally many.
    distances = 1 / np.linspace(1 / FARTHEST, 1 / NEAREST, max(num_cars, 3))[:num_cars]
    for distance in distances:
        image, label_map = _with_car(image, label_map, distance, generator)
    noise = generator.normal(0, 5, image.shape)
    return Street(np.clip(image + noise, 0, 255).astype(np.uint8), label_map, is_road, is_sky)


def _with_car(
    image: NDArray[np.uint8], label_map: NDArray[np.int32], distance: float, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Copies with one more car, anywhere that it hides no other."""
    label, smallest = int(label_map.max()) + 1, max(4.0, SMALLEST * label_map.size)
    for _ in range(ATTEMPTS):
        with_car, labels = image.copy(), label_map.copy()
        _draw_car(with_car, labels, label, distance * generator.uniform(0.85, 1.15), generator)
        if (np.bincount(labels.ravel(), minlength=label + 1)[1:] > smallest).all():
            return with_car, labels
    raise ValueError(f"size must be large enough for {label} cars that can be seen, got {label_map.shape}")


def _draw_car(
    image: NDArray[np.uint8],
    label_map: NDArray[np.int32],
    label: int,
    distance: float,
    generator: np.random.Generator,
) -> None:
    height, width = label_map.shape
    metre = 1.6 * height / distance  # pixels
    x = generator.uniform(0.02, 0.98) * width
    bottom = HORIZON * height + 1.5 * metre
    colour = generator.integers(20, 236, 3)

    def polygon(*corners: tuple[float, float], value: NDArray[np.int64] | None) -> None:
        """Fill corners (sideways, up) in metres; None paints the label."""
        points = np.rint([(x + across * metre, bottom - up * metre) for across, up in corners]).astype(np.int32)
        if value is None:
            cv2.fillPoly(label_map, [points], label)
        else:
            cv2.fillPoly(image, [points], tuple(int(channel) for channel in value))

    body = ((-0.9, 0.25), (0.9, 0.25), (0.9, 0.9), (0.6, 1.5), (-0.6, 1.5), (-0.9, 0.9))
    wheels = [((at - 0.15, 0.0), (at + 0.15, 0.0), (at + 0.15, 0.35), (at - 0.15, 0.35)) for at in (-0.7, 0.7)]
    for part, value in ((body, colour), *((wheel, np.full(3, 15)) for wheel in wheels)):
        polygon(*part, value=value)
        polygon(*part, value=None)
    polygon((-0.7, 0.95), (0.7, 0.95), (0.52, 1.4), (-0.52, 1.4), value=colour // 4 + 20)
    for at in (-0.72, 0.72):
        polygon((at - 0.12, 0.6), (at + 0.12, 0.6), (at + 0.12, 0.75), (at - 0.12, 0.75), value=np.array([200, 40, 30]))
