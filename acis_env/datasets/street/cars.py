"""Cars in their places on a street."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.street.bodies import ALBEDO, GLOSS, SHAPES, Material, Mesh, mesh_of
from acis_env.datasets.street.camera import SHIFT, Camera, Canvas, Floats, fixed_point
from acis_env.datasets.street.light import Light

FINE = 60  # rows of the canvas from which on a car is drawn with rounded edges


@dataclass(frozen=True)
class Car:
    """A car in its place."""

    kind: str
    """A key of `SHAPES`."""
    colour: tuple[float, ...]  # red, green and blue in [0, 1]
    x: float
    """Metres to the right of the centre line, of its middle."""
    z: float
    """Metres ahead, of its middle."""
    heading: float
    """Radians to the right of the road's direction; pi: it comes towards the camera."""
    scale: tuple[float, float, float]  # of its width, height and length

    @property
    def height(self) -> float:
        """Metres from the ground to the roof."""
        return float(max(y for _, y in SHAPES[self.kind].profile) * self.scale[1])

    def draw(self, canvas: Canvas, camera: Camera, light: Light, sunlit: float, label: int) -> None:
        """Fill what is seen of it, in place, with its `label`; `sunlit` in [0, 1]: 0 stands in the shade."""
        mesh = mesh_of(self.kind, camera.focal * self.height / self.z >= FINE)
        corners = camera.project(_placed(mesh.points[None], [self], camera.bend)[0])[mesh.faces]  # [F, K, 2]
        sides = corners[:, 1:] - corners[:, :1]
        areas = (sides[:, :-1, 0] * sides[:, 1:, 1] - sides[:, :-1, 1] * sides[:, 1:, 0]).sum(1)
        is_seen = np.where(mesh.both_sides, np.abs(areas), areas) > 1.0
        colours = np.clip(255 * self._colours(mesh, camera, light, sunlit), 0, 255)[is_seen].tolist()
        for polygon, colour in zip(fixed_point(corners[is_seen]), colours, strict=True):
            cv2.fillConvexPoly(canvas, polygon, (*colour, label), cv2.LINE_8, SHIFT)

    def _colours(self, mesh: Mesh, camera: Camera, light: Light, sunlit: float) -> Floats:
        """Colours of all faces as seen from the camera, `[F, 3]`."""
        eye = np.array([camera.x - self.x, camera.height - 0.8, -self.z])
        halfway = light.sun + eye / np.linalg.norm(eye)
        sun, halfway = self._from_world(camera.bend, np.stack([light.sun, halfway / np.linalg.norm(halfway)]))
        up = mesh.normals[:, 1:2]
        towards = np.maximum(mesh.normals @ sun, 0)[:, None]
        glint = np.maximum(mesh.normals @ halfway, 0)[:, None] ** 24
        albedo = ALBEDO.copy()
        albedo[Material.PAINT] = self.colour
        shades, gloss = mesh.shades[:, None], GLOSS[mesh.materials][:, None]
        matt = albedo[mesh.materials] * (light.ambient * (0.72 + 0.28 * up) + sunlit * towards * light.direct)
        mirrored = (0.2 + 0.8 * np.clip(up, 0, 1)) * (0.5 + 0.5 * sunlit) * light.ambient.mean() * light.sky
        colours = shades * (matt + gloss * (mirrored + sunlit * glint * light.direct))
        return light.through_air(colours.astype(np.float32), self.z)

    def _from_world(self, bend: float, directions: NDArray[Any]) -> Floats:
        """Directions `[..., 3]` as the car has them."""
        heading = self.heading + float(np.arctan(2 * bend * self.z))
        cos, sin = np.cos(heading), np.sin(heading)
        x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
        return np.stack([x * cos - z * sin, y, z * cos + x * sin], -1).astype(np.float32)


def footprints(cars: Sequence[Car], bend: float, margin: float = 0.0, height: float | Floats = 0.0) -> Floats:
    """Corners of the rectangles that cars cover, `[N, 4, 3]`, `margin` metres larger and `height` metres up."""
    sides = np.array([[SHAPES[car.kind].width, SHAPES[car.kind].length] for car in cars]).reshape(-1, 2)
    scales = np.array([car.scale[::2] for car in cars]).reshape(-1, 2)
    half = 0.5 * sides + margin / scales
    x, z = (half[:, axis, None] * np.array(signs) for axis, signs in enumerate(([-1, 1, 1, -1], [-1, -1, 1, 1])))
    placed = _placed(np.stack([x, np.zeros_like(x), z], -1), cars, bend)
    placed[..., 1] = np.reshape(height, (-1, 1))
    return placed


def distances(cars: Sequence[Car], bend: float) -> Floats:
    """Metres ahead of the nearest corner of every car, `[N]`."""
    return np.asarray(footprints(cars, bend)[..., 2].min(1), np.float32)


def outlines(cars: Sequence[Car], bend: float) -> Floats:
    """Points around the bodies and the cabins of cars, `[N, 2, P, 3]`."""
    points = np.stack([mesh_of(car.kind, False).outline for car in cars])
    return _placed(points.reshape(len(cars), -1, 3), cars, bend).reshape(points.shape)


def _placed(points: NDArray[Any], cars: Sequence[Car], bend: float) -> Floats:
    """Points of meshes `[N, P, 3]`, one of every car, in the world."""
    where = np.array([[car.x, car.z, car.heading] for car in cars]).reshape(-1, 3)
    local = points * np.array([car.scale for car in cars]).reshape(-1, 1, 3)
    x, z, heading = where.T[..., None]
    heading = heading + np.arctan(2 * bend * z)
    cos, sin = np.cos(heading), np.sin(heading)
    ahead = local[..., 2] * cos - local[..., 0] * sin + z
    # The road's bend shifts what lies on it by distance; a car shifts as a whole.
    across = local[..., 0] * cos + local[..., 2] * sin + x + bend * (z**2 - ahead**2)
    placed = np.empty(local.shape, np.float32)
    placed[..., 0], placed[..., 1], placed[..., 2] = across, local[..., 1], ahead
    return placed
