"""What is around a street: sky and horizon, trees, lamps and signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.noise import noise_tile
from acis_env.datasets.street.buildings import House
from acis_env.datasets.street.camera import FOLIAGE, SHIFT, Camera, Canvas, Floats, fill, fixed_point, paint
from acis_env.datasets.street.layout import Layout
from acis_env.datasets.street.light import Light

LEAVES: Floats = np.array(
    [[0.16, 0.24, 0.08], [0.22, 0.3, 0.1], [0.12, 0.2, 0.09], [0.36, 0.24, 0.08], [0.3, 0.3, 0.1]], np.float32
)
PUFFS = 36  # of the crown of a tree


def paint_sky(rng: np.random.Generator, canvas: Canvas, camera: Camera, light: Light) -> None:
    """Fill all above the horizon, in place: sky, clouds, and far trees or hills. `camera` is that of the canvas."""
    height, width = camera.size
    bottom = int(min(max(camera.horizon + 2, 1), height))
    small = (max(bottom // 4, 2), max(width // 4, 2))  # clouds are soft
    up = np.linspace(1, 0, small[0], dtype=np.float32)[:, None, None]
    sky = light.haze + np.minimum(1.6 * up, 1) * (light.sky - light.haze)
    row, column = rng.integers(0, 512, 2)
    rows = (row + np.linspace(0, 90, small[0]).astype(np.int32)) % 512
    columns = (column + np.linspace(0, 160, small[1]).astype(np.int32)) % 512
    clouds = np.clip(0.35 * noise_tile()[rows][:, columns] + rng.uniform(-0.5, 0.4), 0, 0.8)[..., None]
    sky = sky + clouds * (light.ambient.mean() * np.float32(1.25) - sky) * 0.7
    pixels = np.zeros((*small, 4), np.uint8)
    pixels[..., :3] = np.clip(255 * sky, 0, 255)
    canvas[:bottom] = cv2.resize(pixels, (width, bottom))
    green = LEAVES[rng.integers(len(LEAVES))]
    columns = np.linspace(0, width, 65)
    for metres, share in ((400.0, 0.05), (150.0, 0.03)):
        waves = np.sin(np.outer(columns / width, rng.uniform(4, 40, 5)) + rng.uniform(0, 6, 5)) @ (0.5 ** np.arange(5))
        tops = camera.horizon - camera.focal * share * np.maximum(1 + waves, 0.1) * rng.uniform(0.3, 0.8)
        colour = paint(light.through_air(light.on(green, (0.0, 0.5, -0.8)), metres))
        hill = np.concatenate([np.stack([columns, tops], -1), [[width, camera.horizon + 2], [0, camera.horizon + 2]]])
        cv2.fillPoly(canvas, [fixed_point(hill)], colour, cv2.LINE_8, SHIFT)


@dataclass(frozen=True)
class Tree:
    """A tree, or a shrub without a trunk."""

    x: float
    z: float
    trunk: float  # metres from the ground to the crown
    radius: float  # of the crown, metres
    colour: Floats
    crown: Floats  # [PUFFS, 3]: (x, y) and radius of its puffs as shares of the crown's radius, the lowest first

    def corners(self) -> NDArray[Any]:
        """Points around its crown, `[8, 3]`."""
        reach, low, high = 0.8 * self.radius, self.trunk + 0.25 * self.radius, self.trunk + 1.5 * self.radius
        around = ((-reach, 0), (reach, 0), (0, reach), (0, -reach))
        return np.array([[self.x + x, y, self.z + z] for x, z in around for y in (low, high)])


@dataclass(frozen=True)
class Post:
    """A lamp post, or a traffic sign."""

    x: float
    z: float
    height: float
    sign: int  # -1 none, 0 round, 1 square, 2 triangular
    arm: float  # metres that a lamp reaches over the street


def draw_trees(rng: np.random.Generator, layout: Layout, houses: Sequence[House]) -> list[Tree]:
    """Random trees on the pavements, and trees and shrubs between the `houses`."""
    trees = []
    green = LEAVES[rng.choice(len(LEAVES), p=[0.3, 0.3, 0.2, 0.1, 0.1])]
    for side, kerb, wall in zip((-1, 1), layout.kerbs, layout.walls, strict=True):
        if rng.random() < 0.55:
            pitch, size = rng.uniform(6, 14), rng.uniform(1.6, 3.2)
            for z in np.arange(rng.uniform(5, 14), 110, pitch):
                if rng.random() < 0.8:
                    x = kerb + side * rng.uniform(0.7, 1.1)
                    trees.append(_tree(rng, x, z, rng.uniform(1.9, 3.0), size * rng.uniform(0.8, 1.2), green))
        for z in rng.uniform(3, 100, rng.integers(0, 14)):
            trunk, radius = (0.0, rng.uniform(0.5, 1.1)) if rng.random() < 0.4 else (1.5, rng.uniform(2, 4))
            tree = _tree(rng, wall + side * rng.uniform(2, 12), z, trunk, radius, green)
            if not any(house.side == side and house.start < z < house.end for house in houses):
                trees.append(tree)
    return trees


def _tree(rng: np.random.Generator, x: float, z: float, trunk: float, radius: float, green: Floats) -> Tree:
    numbers = np.clip(rng.standard_normal((PUFFS, 2), np.float32) * np.float32(0.37), -0.65, 0.65)
    numbers = numbers[np.argsort(numbers[:, 1])] * [1, 0.8]
    crown = np.column_stack([numbers[:, 0], 0.75 + numbers[:, 1], rng.uniform(0.18, 0.42, PUFFS)])
    colour = np.maximum(green * rng.uniform(0.8, 1.25) + rng.normal(0, 0.015, 3), 0.02)
    return Tree(x, z, trunk, radius, colour.astype(np.float32), crown.astype(np.float32))


def draw_posts(rng: np.random.Generator, layout: Layout) -> list[Post]:
    """Random lamps and signs beside the kerbs."""
    posts = []
    for side, kerb in zip((-1, 1), layout.kerbs, strict=True):
        if rng.random() < 0.4:
            for z in np.arange(rng.uniform(6, 25), 90, rng.uniform(18, 30)):
                posts.append(Post(kerb + side * 0.5, z, rng.uniform(5, 7), -1, -side * 1.3))
        for z in rng.uniform(7, 50, rng.integers(0, 3)):
            posts.append(Post(kerb + side * 0.45, z, rng.uniform(2.2, 2.9), int(rng.integers(0, 3)), 0.0))
    return posts


def paint_tree(canvas: Canvas, camera: Camera, light: Light, tree: Tree) -> None:
    """Fill a tree in place."""
    column, row = camera.project([tree.x, tree.trunk, tree.z]).tolist()
    radius = tree.radius * camera.focal / max(tree.z, 1.2)
    if not -1.5 * radius < column < camera.size[1] + 1.5 * radius:
        return
    if tree.trunk:
        half, top = 0.05 * tree.radius + 0.04, tree.trunk + 0.5 * tree.radius
        bark = light.through_air(light.on(np.array([0.17, 0.13, 0.1]), (0.3, 0.0, -0.95)), tree.z)
        corners = [[tree.x - half, 0, tree.z], [tree.x + half, 0, tree.z], [tree.x + 0.7 * half, top, tree.z],
                   [tree.x - 0.7 * half, top, tree.z]]  # fmt: skip
        fill(canvas, camera.project(corners), paint(bark))
    crown = tree.crown[:: 1 if radius > 30 else 3]  # the crown of a far tree is a few pixels
    places = np.stack([column + radius * crown[:, 0], row - radius * crown[:, 1]], -1)
    radii = np.rint(crown[:, 2] * (radius if len(crown) > 15 else 1.4 * radius) * (1 << SHIFT)).astype(np.int32)
    tones = np.linspace(0.5, 1.05, len(crown)) + 0.35 * crown[:, 0] * light.sun[0] * light.casts_shadows
    lit = light.on(tree.colour, (0.0, 0.7, -0.7)) * np.maximum(tones, 0.3)[:, None]
    colours = 255 * np.minimum(light.through_air(lit, tree.z), 1)
    for place, size, (red, green, blue) in zip(fixed_point(places).tolist(), radii.tolist(), colours.tolist(),
                                               strict=True):  # fmt: skip
        cv2.circle(canvas, place, size, (red, green, blue, FOLIAGE), -1, cv2.LINE_8, SHIFT)


def paint_post(canvas: Canvas, camera: Camera, light: Light, post: Post) -> None:
    """Fill a post in place."""

    def polygon(points: list[list[float]], albedo: tuple[float, float, float]) -> None:
        lit = light.on(np.array(albedo), (0.0, 0.2, -0.98), 0.7)
        fill(canvas, camera.project(points), paint(light.through_air(lit, post.z)))

    x, z, top = post.x, post.z, post.height
    polygon([[x - 0.05, 0, z], [x + 0.05, 0, z], [x + 0.05, top, z], [x - 0.05, top, z]], (0.3, 0.31, 0.32))
    if post.sign < 0:
        end = x + post.arm
        polygon([[x, top, z], [end, top + 0.15, z], [end, top + 0.25, z], [x, top + 0.1, z]], (0.3, 0.31, 0.32))
        return
    rim, face = [((0.6, 0.06, 0.05), (0.85, 0.85, 0.82)), ((0.85, 0.85, 0.82), (0.05, 0.16, 0.5))][post.sign == 1]
    steps = {0: 14, 1: 4, 2: 3}[post.sign]
    angles = 2 * np.pi * np.arange(steps) / steps + (np.pi / 4 if post.sign == 1 else -np.pi / 2)
    for radius, albedo in ((0.36, rim), (0.26, face)):
        points = [[x + radius * np.cos(a), top - 0.2 - radius * np.sin(a), z] for a in angles]
        polygon(points, albedo)
