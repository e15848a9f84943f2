"""Drawn streets with cars: a data set that stands in for KITTI's, to learn on without a download.

The pictures imitate those of a camera behind a windscreen (Geiger et al., "Are we ready for autonomous driving? The
KITTI vision benchmark suite", 2012): a road in perspective, cars ahead, oncoming and parked, which hide each other,
and the shadows of cars, houses and trees."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.configs import is_count
from acis_env.datasets.leaves import SPLITS
from acis_env.datasets.noise import noise_tile
from acis_env.datasets.scene import Scene
from acis_env.datasets.street.buildings import House, draw_houses, paint_house
from acis_env.datasets.street.camera import FOLIAGE, WALL, Camera, Canvas, focal_unit
from acis_env.datasets.street.cars import Car, distances
from acis_env.datasets.street.ground import add_car_shadows, cast_fixed_shadows, draw_ground, shade_ground
from acis_env.datasets.street.layout import Layout
from acis_env.datasets.street.light import Light
from acis_env.datasets.street.scenery import (
    Post,
    Tree,
    draw_posts,
    draw_trees,
    paint_post,
    paint_sky,
    paint_tree,
)
from acis_env.datasets.street.traffic import MOST_CARS, place_cars

STREAM = 1  # of random numbers, beside that of the plants
SMALLEST_SIZE, LARGEST_SIDE = (32, 64), 2048
LEAST_AREA = 32 / 64**2  # visible part of a car by default, as a share of the square over the focal unit
ATTEMPTS = 200
ROUGHNESS = np.zeros(256, np.float32)  # of what a pixel of a canvas shows, in 128ths
ROUGHNESS[[FOLIAGE, WALL]] = 38, 6


class Cars:
    """Streets drawn on demand; scene `i` depends on `seed`, `split`, `i` and the other arguments alone.

    The number of cars is uniform from `min_cars` to `max_cars`. Labels run from the farthest to the nearest car: `N`
    is the one closest to the camera, and a car never hides a part of one with a larger label. Cars that are hidden
    altogether are not drawn; an instance may consist of several pieces.

    Args:
        split: "train", "val" or "test"; they share no scene.
        size: `(H, W)` of the pictures, at least 32 and 64, at most 2048.
        min_cars: fewest cars of a street, at least 1.
        max_cars: most cars of a street, at most 16.
        min_area: fewest visible pixels of a car, at most the default. That is 32 where the picture is 64 high and at
            least 192 wide, and grows and shrinks with the scale of the picture. Every car also shows at least about a
            seventh of what would be seen of it alone.
        length: number of scenes; by default 4000 for "train" and 200 for "val" and "test".
        seed: a second set of streets for every other number.

    Raises:
        ValueError: an argument is outside of these ranges.
    """

    is_thread_safe = True

    def __init__(
        self,
        split: str = "train",
        size: tuple[int, int] = (64, 192),
        min_cars: int = 1,
        max_cars: int = MOST_CARS,
        min_area: int | None = None,
        length: int | None = None,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if len(size) != 2 or not all(
            is_count(side, least, LARGEST_SIDE) for side, least in zip(size, SMALLEST_SIZE, strict=True)
        ):
            raise ValueError(
                f"size must be (height, width) from {SMALLEST_SIZE} to {(LARGEST_SIDE,) * 2}, whole numbers, got {size}"
            )
        usual = max(round(LEAST_AREA * focal_unit(size) ** 2), 4)
        counts = {
            "min_cars": (min_cars, 1, max_cars),
            "max_cars": (max_cars, 1, MOST_CARS),
            "min_area": (usual if min_area is None else min_area, 1, usual),
            "length": (1 if length is None else length, 1, 2**63 - 1),
            "seed": (seed, 0, 2**63 - 1),
        }
        for name, (count, least, most) in counts.items():
            if not is_count(count, least=least, most=most):
                raise ValueError(f"{name} must be an int from {least} to {most}, got {count!r}")
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self.min_cars = min_cars
        self.max_instances = max_cars
        self.min_area = usual if min_area is None else min_area
        self.seed = seed
        self._stream, default_length = SPLITS[split]
        self._length = default_length if length is None else length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Scene:
        """Draw scene `index`; negative indices count from the end.

        Raises:
            IndexError: the index is out of range.
        """
        if not -self._length <= index < self._length:
            raise IndexError(f"index {index} is out of range for {self._length} scenes")
        index = int(index) % self._length
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self._stream, index], spawn_key=(STREAM,)))
        number = int(rng.integers(self.min_cars, self.max_instances + 1))
        image, label_map = _draw_scene(rng, self.size, number, self.min_area)
        return Scene(image, label_map, f"cars-{self.split}-{index:05d}")

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))


def _draw_scene(
    rng: np.random.Generator, size: tuple[int, int], number: int, least_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Image `[3, H, W]` and label map `[H, W]` of a street with that many cars, each of `least_pixels` or more."""
    for _ in range(ATTEMPTS):
        layout = Layout.draw(rng, number / MOST_CARS)
        lane = (rng.integers(layout.lanes_ahead) + 0.5) * layout.lane_width
        camera = Camera.draw(rng, size, lane + rng.normal(0, 0.25))
        cars = place_cars(rng, layout, camera, number, least_pixels)
        if cars is None:
            continue
        canvas = _paint(rng, layout, camera, cars)
        zoom = canvas.shape[0] // size[0]
        things = canvas[zoom // 2 :: zoom, zoom // 2 :: zoom, 3]
        label_map = np.where(things <= number, things, 0).astype(np.int32)
        if np.bincount(label_map.ravel(), minlength=number + 1)[1:].min() >= least_pixels:
            return _expose(rng, canvas, things), label_map
    raise RuntimeError(f"found no street with {number} cars in sight at {size} in {ATTEMPTS} attempts")


def _paint(rng: np.random.Generator, layout: Layout, camera: Camera, cars: list[Car]) -> Canvas:
    """The street on a canvas of some times the camera's picture, from the farthest to the nearest."""
    zoom = 3 if min(camera.size) < 100 else 2  # a large picture has smooth edges with fewer
    light = Light.draw(rng)
    houses = draw_houses(rng, layout)
    trees, posts = draw_trees(rng, layout, houses), draw_posts(rng, layout)
    wide = camera.scaled(zoom)
    canvas: Canvas = np.zeros((*wide.size, 4), np.uint8)
    paint_sky(rng, canvas, wide, light)
    draw_ground(rng, canvas, wide, layout, light)
    fixed = cast_fixed_shadows(
        camera, light, [*(house.corners() for house in houses), *(tree.corners() for tree in trees)]
    )
    shade_ground(rng, canvas, camera, light, add_car_shadows(camera, light, cars, fixed))
    standing: list[tuple[float, House | Tree | Post | int]] = [
        *((house.end, house) for house in houses),
        *((tree.z, tree) for tree in trees),
        *((post.z, post) for post in posts),
        *((distance, index) for index, distance in enumerate(distances(cars, camera.bend).tolist())),
    ]
    for _, thing in sorted(standing, key=lambda pair: -pair[0]):
        if isinstance(thing, House):
            paint_house(rng, canvas, wide, light, thing)
        elif isinstance(thing, Tree):
            paint_tree(canvas, wide, light, thing)
        elif isinstance(thing, Post):
            paint_post(canvas, wide, light, thing)
        else:
            car = cars[thing]
            column, row = camera.project([car.x, 0, car.z]).tolist()
            place = (min(max(int(row), 0), camera.size[0] - 1), min(max(int(column), 0), camera.size[1] - 1))
            car.draw(canvas, wide, light, 1 - float(fixed[place]) / 255, thing + 1)
    return canvas


def _expose(rng: np.random.Generator, canvas: Canvas, things: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lens and sensor of the camera: the canvas to `[3, H, W]` in [0, 255]; `things` `[H, W]` are what pixels show."""
    height, width = things.shape
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    image = np.ascontiguousarray(small[..., :3])
    start, stride = rng.integers(0, 512, 2), max(1, 128 // height)
    rows, columns = ((start[i] + stride * np.arange(things.shape[i])) % 512 for i in (0, 1))
    texture = np.clip(128 + ROUGHNESS[things] * noise_tile()[rows][:, columns], 20, 255).astype(np.uint8)
    image = np.asarray(cv2.multiply(image, cv2.merge([texture] * 3), scale=1 / 128), np.uint8)
    blur = rng.uniform(0.2, 0.5) * max(1.0, min(height, width) / 200)
    if blur > 0.28:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
    exposure = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3) * (107 / max(float(image.mean()), 13)) ** 0.6
    levels = np.linspace(0, 1, 256)[:, None] * exposure
    levels = (levels / np.sqrt(1 + 0.4 * levels**2)) ** rng.uniform(0.75, 1.05)  # bright parts are compressed
    exposed = cv2.LUT(image, (255 * np.minimum(levels, 1) + 0.5).astype(np.uint8)[:, None])
    noise, strength = rng.integers(0, 256, image.shape, np.uint8), rng.uniform(0.015, 0.055)
    pixels = cv2.addWeighted(exposed, 1, noise, strength, -127.5 * strength)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
