"""The ground of a street: roadway, markings, kerbs and pavements, its grain, and the shadows on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.noise import noise_tile
from acis_env.datasets.street.camera import Camera, Canvas, Floats, fill, fill_all, paint
from acis_env.datasets.street.cars import Car, footprints
from acis_env.datasets.street.layout import Layout
from acis_env.datasets.street.light import Light

UP = (0.0, 1.0, 0.0)
ALONG = np.concatenate([np.linspace(-1, 20, 8), np.geomspace(24, 400, 16)])  # metres ahead where strips have corners


def draw_ground(rng: np.random.Generator, canvas: Canvas, camera: Camera, layout: Layout, light: Light) -> None:
    """Fill everything below the horizon, in place, as it looks in the sun without shadows."""
    verge = _grey(rng, 0.3) if rng.random() < 0.6 else np.array([0.2, 0.27, 0.1]) * rng.uniform(0.8, 1.2)
    asphalt, paving, stone = _grey(rng, rng.uniform(0.24, 0.36)), _grey(rng, rng.uniform(0.34, 0.5)), _grey(rng, 0.52)
    (left, right), (near_left, near_right) = layout.kerbs, layout.edges
    cv2.rectangle(canvas, (0, int(camera.horizon)), camera.size[::-1], paint(light.haze), -1)
    fill_strip(canvas, camera, light, (-900, 900), verge)
    for start, end in ((left - layout.pavement, left), (right, right + layout.pavement)):
        fill_strip(canvas, camera, light, (start, end), paving, height=0.1)
    fill_strip(canvas, camera, light, (left - 0.16, right + 0.16), stone)
    fill_strip(canvas, camera, light, (left, right), asphalt)
    if rng.random() < 0.5:  # parked cars stand on another surface
        bays = _grey(rng, rng.uniform(0.26, 0.42)) * np.array([1.03, 1.0, 0.96])
        fill_strip(canvas, camera, light, (left, near_left), bays)
        fill_strip(canvas, camera, light, (near_right, right), bays)
    mended = [(rng.uniform(left, right), rng.uniform(5, 40), *rng.uniform((0.6, 1), (2, 8))) for _ in range(3)]
    fill_patches(canvas, camera, light, [(x, x + width, z, z + length) for x, z, width, length in mended],
                 asphalt * rng.uniform(0.82, 1.1))  # fmt: skip
    _draw_markings(rng, canvas, camera, layout, light)


def fill_strip(
    canvas: Canvas, camera: Camera, light: Light, across: tuple[float, float], albedo: NDArray[Any], height: float = 0.0
) -> None:
    """Fill a strip along the whole road, `across` in metres."""
    corners = np.empty((2, len(ALONG), 3))
    corners[..., 0], corners[..., 1], corners[..., 2] = np.array(across)[:, None], height, ALONG
    left, right = camera.project(corners)
    quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], 1)
    fill_all(canvas, quads, light.through_air(light.on(albedo, UP), np.maximum(ALONG[:-1, None], 0)))


def fill_patches(
    canvas: Canvas, camera: Camera, light: Light, patches: Sequence[tuple[float, ...]], albedo: NDArray[Any]
) -> None:
    """Fill rectangles on the ground, (left, right, near, far) in metres."""
    left, right, near, far = np.array(patches).reshape(-1, 4).T
    x, z = np.stack([left, left, right, right], 1), np.stack([near, far, far, near], 1)
    corners = np.stack([x, np.zeros_like(x), z], -1)
    fill_all(canvas, camera.project(corners), light.through_air(light.on(albedo, UP), np.maximum(near[:, None], 0)))


def _draw_markings(rng: np.random.Generator, canvas: Canvas, camera: Camera, layout: Layout, light: Light) -> None:
    """Lines between lanes and at the edges, bays for parked cars, and perhaps a crossing."""
    white, half = np.array([0.72, 0.72, 0.7]) * rng.uniform(0.7, 1.1), rng.uniform(0.06, 0.09)
    dash, gap, phase = rng.uniform(2, 4), rng.uniform(3, 6), rng.uniform(0, 6)
    is_solid, has_edges, is_bare = rng.random() < 0.15, rng.random() < 0.5, rng.random() < 0.2
    patches = []
    inner = [lane * layout.lane_width for lane in range(1 - layout.lanes_towards, layout.lanes_ahead)]
    for x in [] if is_bare else inner:
        if is_solid and x == 0:
            fill_strip(canvas, camera, light, (x - half, x + half), white)
        else:
            patches += [(x - half, x + half, z, z + dash) for z in np.arange(phase - 4, 90, dash + gap)]
    for edge, kerb, kind, side in zip(layout.edges, layout.kerbs, layout.parking, (-1, 1), strict=True):
        if has_edges:
            fill_strip(canvas, camera, light, (edge - half, edge + half), white)
        if has_edges and kind == "square":
            patches += [(min(edge, kerb), max(edge, kerb), z, z + 0.1) for z in np.arange(0.5, 60, 2.7)]
        elif kind != "none" and not has_edges:
            gutter = edge + side * 0.1
            fill_strip(canvas, camera, light, (gutter - 0.12, gutter + 0.12), white * 0.55)
    if rng.random() < 0.12:
        z = rng.uniform(9, 30)
        patches += [(x, x + 0.5, z, z + 3) for x in np.arange(layout.edges[0] + 0.3, layout.edges[1] - 0.3, 1.0)]
    fill_patches(canvas, camera, light, patches, white)


@dataclass(frozen=True)
class Shade:
    """What keeps light from the ground, as pixels of the picture."""

    sun: NDArray[np.uint8]  # [H, W], 255 = no sun arrives
    sky: NDArray[np.uint8]  # [H, W], 255 = no light of the sky arrives


def cast_fixed_shadows(camera: Camera, light: Light, blocks: Iterable[NDArray[Any]]) -> NDArray[np.uint8]:
    """Shadow of everything but cars, `[H, W]`, 255 where no sun arrives; `blocks` are points around convex bodies."""
    shadow = np.zeros(camera.size, np.uint8)
    for points in blocks if light.casts_shadows else ():
        _fill_shadow(shadow, camera, light, points)
    return shadow


def add_car_shadows(camera: Camera, light: Light, cars: Sequence[Car], fixed: NDArray[np.uint8]) -> Shade:
    """All shadows: the `fixed` ones, and those of `cars`, which are soft."""
    sun, sky = fixed.copy(), np.zeros(camera.size, np.uint8)
    if light.casts_shadows:
        heights = np.array([car.height for car in cars], np.float32)
        blocks = [footprints(cars, camera.bend, -0.05, 0.25), footprints(cars, camera.bend, -0.25, 0.93 * heights)]
        for points in np.concatenate(blocks, 1):
            _fill_shadow(sun, camera, light, points)
    for margin, value in ((0.5, 50), (0.28, 110), (0.1, 185), (-0.1, 240)):
        for points in camera.project(footprints(cars, camera.bend, margin)):
            fill(sky, points, value)
    softness = camera.size[0] / 64
    sun = np.asarray(cv2.GaussianBlur(sun, (0, 0), 0.35 * softness), np.uint8)
    return Shade(sun, np.asarray(cv2.GaussianBlur(sky, (0, 0), 0.5 * softness), np.uint8))


def _fill_shadow(shadow: NDArray[np.uint8], camera: Camera, light: Light, points: NDArray[Any]) -> None:
    """Fill the shadow of a convex body on the ground, in place."""
    feet = points - points[:, 1:2] / light.sun[1] * light.sun
    feet[:, 2] = np.clip(feet[:, 2], -1, 400)
    hull = cv2.convexHull(camera.project(feet))
    fill(shadow, hull[:, 0], 255)


def shade_ground(rng: np.random.Generator, canvas: Canvas, camera: Camera, light: Light, shade: Shade) -> None:
    """Darken the ground of the canvas by shadows and roughen it by grain, in place."""
    height, width = camera.size
    top = min(max(int(np.ceil(camera.horizon)), 0), height - 1)
    zoom = canvas.shape[0] // height
    full = light.on(np.ones(3, np.float32), UP)
    share = light.on(np.ones(3, np.float32), UP, sunlit=0.0) / full  # of the light that is left in a shadow
    sun, sky = (part[top:].astype(np.float32)[..., None] / 255 for part in (shade.sun, shade.sky))
    factor = (1 - sun * (1 - share)) * (1 - 0.9 * sky) * (1 + _grain(rng, camera, top))
    shares = np.full((height - top, width, 4), 128, np.uint8)
    shares[..., :3] = np.minimum(128 * factor, 255)
    part = canvas[top * zoom :]
    cv2.multiply(part, cv2.resize(shares, part.shape[1::-1]), dst=part, scale=1 / 128)


def _grain(rng: np.random.Generator, camera: Camera, top: int) -> Floats:
    """Relative brightness of the ground from row `top` on: grain that lies on it in perspective, `[h, W, 1]`."""
    height, width = camera.size
    rows = np.arange(top, height, dtype=np.float32) + np.float32(0.5)
    z = (camera.focal * camera.height / np.maximum(rows - camera.horizon, 0.5))[:, None]
    x = (np.arange(width, dtype=np.float32) / width - 0.5) * (width / camera.focal * z) + (camera.x + camera.yaw * z)
    tile, shift = noise_tile().ravel(), rng.integers(0, 512, 2)
    fine, coarse = (
        tile.take(((along * z + there).astype(np.int32) & 511) * 512 + ((across * x + here).astype(np.int32) & 511))
        for along, across, there, here in ((30, 50, *shift), (4, 14, *shift[::-1]))
    )
    grain = rng.uniform(0.04, 0.1) * fine / (1 + z / 10) + rng.uniform(0.03, 0.08) * coarse / (1 + z / 40)
    return np.asarray(grain[..., None], np.float32)


def _grey(rng: np.random.Generator, level: float) -> NDArray[Any]:
    return level * rng.uniform(0.9, 1.1) + rng.normal(0, 0.008, 3)
