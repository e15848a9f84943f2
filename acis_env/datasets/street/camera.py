"""The camera of a drawn street, and the canvas that it sees.

Points of the world are `(x, y, z)` in metres: `x` to the right of the road's centre line, `y` above the ground, `z`
ahead along the road. The road may bend: a point lies `bend * z ** 2` to the right of where a straight road would have
it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Canvas = NDArray[np.uint8]
"""`[H, W, 4]`: red, green and blue in [0, 255], and the number of the car that a pixel shows, 0 = none."""

FOLIAGE, WALL = 255, 254
"""In place of the number of a car: what is rough."""
NEAR = 1.2  # metres ahead: what is nearer is outside of the picture, and divisions stay finite
SHIFT = 4  # bits after the point in the coordinates that OpenCV fills


def focal_unit(size: tuple[int, int]) -> float:
    """Pixels by which focal lengths are measured: the height of a picture, or a third of its width if that is less."""
    return min(size[0], size[1] / 3)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in a car, looking along the road."""

    size: tuple[int, int]  # (H, W) of its picture in pixels
    focal: float  # focal length in pixels
    horizon: float  # row of the horizon
    height: float  # metres above the ground
    x: float  # metres to the right of the road's centre line
    yaw: float  # radians, positive to the right
    bend: float  # of the road, per metre

    @staticmethod
    def draw(rng: np.random.Generator, size: tuple[int, int], x: float) -> Camera:
        """A camera at a random height and angle, `x` metres to the right of the centre line."""
        return Camera(
            size=size,
            focal=rng.uniform(2.3, 3.3) * focal_unit(size),
            horizon=rng.uniform(0.4, 0.5) * size[0],
            height=rng.uniform(1.5, 1.9),
            x=x,
            yaw=rng.normal(0, 0.04),
            bend=rng.normal(0, 0.0012) if rng.random() < 0.5 else 0.0,
        )

    def scaled(self, factor: float) -> Camera:
        """The same camera with `factor` times as many pixels along each side, rounded."""
        size = (max(round(self.size[0] * factor), 1), max(round(self.size[1] * factor), 1))
        return replace(self, size=size, focal=self.focal * factor, horizon=self.horizon * factor)

    def project(self, points: ArrayLike) -> Floats:
        """Where world points `[..., 3]` lie in the picture, `[..., 2]` as (column, row) in pixels."""
        points = np.asarray(points, np.float32)
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        x = x - self.x if self.bend == 0 else x - self.x + np.float32(self.bend) * z * z
        cos, sin = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        scale = self.focal / np.maximum(z * cos + x * sin, NEAR)
        places = np.empty((*points.shape[:-1], 2), np.float32)
        places[..., 0] = (x * cos - z * sin) * scale + 0.5 * self.size[1]
        places[..., 1] = (self.height - y) * scale + self.horizon
        return places


def paint(colour: NDArray[Any], label: int = 0) -> tuple[float, float, float, int]:
    """A colour of `[3]` in [0, 1], beyond is clipped, as pixels of a canvas have it."""
    red, green, blue = (255 * min(max(value, 0.0), 1.0) for value in colour.tolist())
    return red, green, blue, label


def fixed_point(points: NDArray[Any]) -> NDArray[np.int32]:
    """Coordinates in pixels, of corners of pixels, as OpenCV's fills take them with `SHIFT`."""
    limited = np.minimum(np.maximum(points, -20000), 20000)
    limited *= 1 << SHIFT
    return np.asarray(np.rint(limited - (1 << SHIFT) / 2), np.int32)


def fill(canvas: NDArray[np.uint8], points: NDArray[Any], colour: tuple[float, ...] | float) -> None:
    """Fill the convex polygon of `points` `[P, 2]`, (column, row), in place."""
    cv2.fillConvexPoly(canvas, fixed_point(points), colour, cv2.LINE_8, SHIFT)


def fill_all(canvas: Canvas, polygons: NDArray[Any], colours: NDArray[Any], label: int = 0) -> None:
    """Fill convex polygons `[N, P, 2]` in colours `[N, 3]`, or `[3]` for all, one after the other, in place."""
    shown = np.broadcast_to(255 * np.minimum(np.maximum(colours, 0), 1), (len(polygons), 3)).tolist()
    for points, (red, green, blue) in zip(fixed_point(polygons), shown, strict=True):
        cv2.fillConvexPoly(canvas, points, (red, green, blue, label), cv2.LINE_8, SHIFT)
