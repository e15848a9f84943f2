"""Houses along a street."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.street.camera import WALL, Camera, Canvas, Floats, fill_all
from acis_env.datasets.street.layout import Layout
from acis_env.datasets.street.light import Light

WALLS: Floats = np.array(
    [[0.62, 0.58, 0.5], [0.72, 0.7, 0.64], [0.5, 0.3, 0.22], [0.58, 0.45, 0.3], [0.45, 0.44, 0.43],
     [0.66, 0.55, 0.42], [0.36, 0.2, 0.16], [0.74, 0.66, 0.48]], np.float32,
)  # fmt: skip
LEAST_WINDOW = 1.2  # columns of the canvas that a window needs to be drawn
ROOFS: Floats = np.array([[0.4, 0.2, 0.14], [0.24, 0.21, 0.2], [0.3, 0.17, 0.13]], np.float32)


@dataclass(frozen=True)
class House:
    """A house whose front faces the street."""

    side: int  # -1 left, 1 right of it
    wall: float  # metres to the right of the centre line, of the front
    start: float  # metres ahead
    end: float
    height: float  # of the eaves
    depth: float
    roof: float  # height of the roof; 0 is flat
    colour: Floats
    roof_colour: Floats
    storey: float  # height
    window: tuple[float, float, float]  # pitch, width, height in metres
    is_shop: bool

    def corners(self) -> Floats:
        """Corners of the walls' upper and lower ends, `[8, 3]`."""
        back = self.wall + self.side * self.depth
        points = [[x, y, z] for x in (self.wall, back) for y in (0, self.height) for z in (self.start, self.end)]
        return np.array(points, np.float32)


def draw_houses(rng: np.random.Generator, layout: Layout) -> list[House]:
    """Random houses on both sides, from the farthest to the nearest; a street may have few or none."""
    houses: list[House] = []
    for side, wall in zip((-1, 1), layout.walls, strict=True):
        density = rng.choice([0.0, 0.6, 0.95], p=[0.2, 0.35, 0.45])
        storeys = rng.uniform(1.5, 5.5)
        wall = wall + side * (rng.uniform(2, 8) if density < 0.9 else 0)
        z = rng.uniform(-12, 0)
        while z < 160:
            length = rng.uniform(8, 22)
            if rng.random() < density:
                storey, number = rng.uniform(2.8, 3.6), max(1, round(storeys + rng.normal(0, 0.7)))
                houses.append(House(
                    side, wall, z, z + length, number * storey + 0.6, rng.uniform(8, 12),
                    rng.choice([0.0, rng.uniform(2, 4)], p=[0.3, 0.7]),
                    _varied(rng, WALLS), _varied(rng, ROOFS), storey,
                    (rng.uniform(1.9, 3.2), rng.uniform(0.9, 1.4), rng.uniform(1.3, 1.9)), bool(rng.random() < 0.35),
                ))  # fmt: skip
            z += length + (rng.uniform(2, 7) if density < 0.9 else 0)
    return sorted(houses, key=lambda house: -house.start)


def _varied(rng: np.random.Generator, colours: Floats) -> Floats:
    colour = colours[rng.integers(len(colours))] * rng.uniform(0.75, 1.2) + rng.normal(0, 0.015, 3)
    return np.asarray(np.clip(colour, 0.03, 0.9), np.float32)


def paint_house(rng: np.random.Generator, canvas: Canvas, camera: Camera, light: Light, house: House) -> None:
    """Fill a house in place: the end wall, the roof, the front and what is on it."""
    brightness, sign = rng.uniform(0.12, 0.3), rng.uniform(0.1, 0.7, 3)
    columns = camera.project(house.corners())[:, 0]
    if columns.max() < 0 or columns.min() > camera.size[1]:
        return
    lit = light.on(np.ones(3), (-float(house.side), 0.0, 0.0))
    end_lit = light.on(house.colour, (0.0, 0.0, -1.0))
    roof_lit = light.on(house.roof_colour, (-house.side * 0.55, 0.83, 0.0))
    metres = max(house.start, 0.0) + 4
    start, end, wall, eaves, ridge = house.start, house.end, house.wall, house.height, house.height + house.roof
    back, over, middle = (wall + house.side * out for out in (house.depth, -0.4, house.depth / 2))
    faces = [
        (_front(back, wall, (start, start), (0, eaves)), end_lit),
        ([[wall, eaves, start], [middle, ridge, start], [back, eaves, start], [back, eaves, start]], end_lit),
        ([[over, eaves, start], [over, eaves, end], [middle, ridge, end], [middle, ridge, start]], roof_lit),
        (_front(wall, wall, (start, end), (0, eaves)), lit * house.colour),
        (_front(wall, wall, (start, end), (0, 0.7)), 0.72 * lit * house.colour),
        (_front(wall, wall, (start, end), (eaves - 0.35, eaves)), 0.7 * lit * house.colour),
    ]
    pane = light.ambient * light.sky * brightness
    if house.is_shop:
        low, high = 0.75 * house.storey, 0.95 * house.storey
        faces.append((_front(wall, wall, (start + 0.4, end - 0.4), (0.5, low)), pane))
        faces.append((_front(wall, wall, (start + 0.4, end - 0.4), (low, high)), lit * sign))
    polygons, colours = zip(*faces, strict=True)
    fill_all(canvas, camera.project(np.array(polygons)), light.through_air(np.array(colours), metres), WALL)
    window_columns = camera.focal * abs(wall - camera.x) * house.window[1] / metres**2
    if window_columns > LEAST_WINDOW:
        frames, panes = camera.project(_windows(house, 0.6 + house.storey * house.is_shop))
        fill_all(canvas, frames, light.through_air(0.75 * lit, metres), WALL)
        fill_all(canvas, panes, light.through_air(pane, metres), WALL)


def _front(first: float, second: float, along: tuple[float, float], up: tuple[float, float]) -> list[list[float]]:
    """An upright rectangle from `first` to `second` metres to the right, `along` metres ahead."""
    return [[first, up[0], along[0]], [first, up[1], along[0]], [second, up[1], along[1]], [second, up[0], along[1]]]


def _windows(house: House, lower: float) -> NDArray[Any]:
    """Corners of window frames and of their panes, `[2, W, 4, 3]`."""
    pitch, width, height = house.window
    number = int((house.end - house.start - 0.6) / pitch)
    middles = (house.start + house.end - (number - 1) * pitch) / 2 + pitch * np.arange(number)
    sills = np.arange(lower + 0.5, house.height - height - 0.3, house.storey)
    middles, sills = (part.ravel() for part in np.meshgrid(middles[middles > -1], sills))
    windows = np.empty((2, len(sills), 4, 3))
    for kind, border in enumerate((0.0, 0.12)):
        half, low, high = width / 2 - border, sills + border, sills + height - border
        windows[kind, ..., 0] = house.wall
        windows[kind, ..., 1] = np.stack([low, high, high, low], -1)
        windows[kind, ..., 2] = np.stack([middles - half, middles - half, middles + half, middles + half], -1)
    return windows
