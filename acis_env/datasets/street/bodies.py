"""Car bodies as small meshes: a side profile drawn across the width, with wheels, windows, lights and plates.

A mesh stands at the origin, heads along `z` and is as wide as it is along `x`. All faces of a car are filled in one
order that suits every direction of view from above its waist, so that no depth has to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.street.camera import Floats


class Material(IntEnum):
    """What a face is made of; its place in the tables below."""

    PAINT = 0
    GLASS = 1
    TRIM = 2  # black plastic
    TYRE = 3
    RIM = 4
    HEADLIGHT = 5
    TAIL_LIGHT = 6
    PLATE = 7
    CHROME = 8


ALBEDO: Floats = np.array(
    [
        [0.5, 0.5, 0.5],
        [0.02, 0.024, 0.03],
        [0.05, 0.05, 0.055],
        [0.03, 0.03, 0.033],
        [0.36, 0.37, 0.38],
        [0.66, 0.68, 0.7],
        [0.42, 0.025, 0.025],
        [0.78, 0.78, 0.72],
        [0.5, 0.51, 0.53],
    ],
    np.float32,
)
GLOSS: Floats = np.array([0.28, 0.42, 0.06, 0.0, 0.15, 0.25, 0.15, 0.0, 0.35], np.float32)  # share of mirrored light

PROFILE_WIDTHS = np.array([0.9, 0.99, 0.98, 0.95, 0, 0, 0, 0.95, 0.95, 0.99, 0.88])  # of the half width; 0: the roof's
SHOULDER_DROPS = np.array([0, 0, 0.02, 0.04, 0.06, 0.06, 0.06, 0.04, 0.05, 0, 0])  # metres at the side of the body
CORNER_ROUNDING = np.array([0.1, 0.12, 0.1, 0.04, 0.03, 0, -0.03, -0.04, -0.17, -0.22, -0.2])  # metres, along the car
STATIONS = (-1.0, -0.84, 0.84, 1.0)  # across the width, where strips have corners
FINE_STATIONS = (-1.0, -0.95, -0.8, 0.0, 0.8, 0.95, 1.0)
ROUNDED = ([0, 0.8, 0.95, 1], [0, 0, 0.38, 1])  # share of drop and rounding that a body has there across the width
BEVEL = 0.1  # metres on both sides of an edge of the profile that a fine mesh cuts off
CIRCLE = np.linspace(0, 2 * np.pi, 14, endpoint=False)  # corners of wheels


@dataclass(frozen=True)
class Shape:
    """Measures of a kind of car, in metres; positions along it are shares of the length from the rear."""

    length: float
    width: float
    profile: tuple[tuple[float, float], ...]
    """(along, height) of 11 points from the rear's lower edge over the roof to the front's lower edge: 0 and 1
    rear bumper, 2 boot, 3 rear window, 4 to 6 roof, 7 windscreen, 8 bonnet, 9 and 10 front bumper."""
    windows: tuple[tuple[float, float], ...]
    """Where the windows of a side begin and end along the cabin."""
    axles: tuple[float, float]
    wheel: float
    """Radius."""
    roof_width: float = 0.76
    """Share of the width."""
    share: float = 1.0
    """How frequent it is, beside the others."""
    tall_lights: bool = False
    """Whether the tail lights stand upright."""


SHAPES = {
    "hatchback": Shape(
        3.95, 1.72,
        ((0.015, 0.28), (0, 0.52), (0.012, 0.84), (0.045, 0.96), (0.15, 1.39), (0.36, 1.48), (0.55, 1.43),
         (0.77, 0.98), (0.95, 0.8), (1, 0.58), (0.985, 0.26)),
        ((0.1, 0.38), (0.43, 0.92)), (0.175, 0.805), 0.31, share=1.3, tall_lights=True),
    "saloon": Shape(
        4.55, 1.8,
        ((0.015, 0.28), (0, 0.54), (0.012, 0.9), (0.15, 0.99), (0.3, 1.36), (0.44, 1.44), (0.57, 1.4),
         (0.735, 0.96), (0.95, 0.77), (1, 0.56), (0.985, 0.25)),
        ((0.1, 0.45), (0.5, 0.93)), (0.2, 0.8), 0.32, roof_width=0.72),
    "estate": Shape(
        4.6, 1.8,
        ((0.015, 0.28), (0, 0.54), (0.01, 0.86), (0.035, 0.98), (0.1, 1.39), (0.36, 1.47), (0.57, 1.42),
         (0.735, 0.96), (0.95, 0.78), (1, 0.56), (0.985, 0.25)),
        ((0.05, 0.27), (0.3, 0.58), (0.62, 0.94)), (0.2, 0.8), 0.32, tall_lights=True),
    "suv": Shape(
        4.45, 1.88,
        ((0.015, 0.4), (0, 0.7), (0.012, 1.0), (0.035, 1.12), (0.115, 1.6), (0.36, 1.71), (0.57, 1.66),
         (0.745, 1.14), (0.955, 1.0), (1, 0.74), (0.985, 0.38)),
        ((0.06, 0.26), (0.3, 0.58), (0.62, 0.93)), (0.19, 0.81), 0.37, share=0.8, tall_lights=True),
    "minibus": Shape(
        4.85, 1.92,
        ((0.01, 0.34), (0, 0.6), (0.004, 0.95), (0.01, 1.08), (0.045, 1.84), (0.4, 1.94), (0.7, 1.88),
         (0.87, 1.13), (0.97, 0.97), (1, 0.66), (0.985, 0.32)),
        ((0.05, 0.3), (0.34, 0.63), (0.69, 0.95)), (0.21, 0.81), 0.33, roof_width=0.84, share=0.4, tall_lights=True),
    "van": Shape(
        5.4, 2.0,
        ((0.01, 0.4), (0, 0.66), (0.002, 1.05), (0.004, 1.2), (0.018, 2.28), (0.4, 2.4), (0.68, 2.3),
         (0.865, 1.26), (0.97, 1.07), (1, 0.72), (0.985, 0.38)),
        ((0.74, 0.96),), (0.2, 0.8), 0.35, roof_width=0.88, share=0.35, tall_lights=True),
}  # fmt: skip
"""Kinds of cars by name."""


@dataclass(frozen=True)
class Mesh:
    """`F` faces of `V` points, in the order in which they are filled; short faces repeat their last point."""

    points: Floats  # [V, 3], metres
    faces: NDArray[np.int32]  # [F, K], clockwise as seen from outside
    normals: Floats  # [F, 3], outward unit vectors
    materials: NDArray[np.int32]  # [F]
    shades: Floats  # [F], further factor of the brightness
    both_sides: NDArray[np.bool_]  # [F], whether a face is seen from behind, too
    outline: Floats  # [2, P, 3], points whose convex hulls are roughly body and cabin


@lru_cache(maxsize=2 * len(SHAPES))
def mesh_of(kind: str, fine: bool) -> Mesh:
    """The mesh of a kind of `SHAPES`; a `fine` one has rounded edges."""
    builder = _Builder(SHAPES[kind], fine)
    _add_wheels_below(builder)
    _add_mirrors(builder)
    _add_body(builder)
    _add_ends(builder)
    _add_cabin(builder)
    _add_wheels(builder)
    return builder.finish()


class _Builder:
    """Collects the faces of a mesh."""

    def __init__(self, shape: Shape, fine: bool) -> None:
        self.shape, self.fine = shape, fine
        along, height = np.array(shape.profile).T
        self.half_widths = 0.5 * shape.width * np.where(PROFILE_WIDTHS > 0, PROFILE_WIDTHS, shape.roof_width)
        self._z = (along - 0.5) * shape.length
        self._y = height
        self.clearance = float(height[[0, -1]].min())
        self.axles = [(axle - 0.5) * shape.length for axle in shape.axles]
        self._points: list[Any] = []
        self._faces: list[tuple[list[int], Material, float, bool]] = []

    def on(self, along: float, across: float) -> NDArray[Any]:
        """The point `[3]` of the surface at `along` in [0, 10], by the profile's points, and at `across` in [-1, 1]."""
        tables = (self._z, self._y, self.half_widths, SHOULDER_DROPS, CORNER_ROUNDING)
        z, y, half_width, drop, rounding = (np.interp(along, np.arange(11), table) for table in tables)
        rounded = np.interp(abs(across), *ROUNDED)
        return np.array([across * half_width, y - rounded * drop, z + rounded * rounding])

    def add(
        self, points: Sequence[Any] | NDArray[Any], material: Material, shade: float = 1.0, both_sides: bool = False
    ) -> None:
        """Add a face of `points`, each `[3]`, around it in either direction."""
        start = len(self._points)
        self._points.extend(points)
        self._faces.append((list(range(start, start + len(points))), material, shade, both_sides))

    def patch(
        self, along: tuple[float, float], across: tuple[float, float], material: Material, shade: float = 1.0
    ) -> None:
        """Add a rectangle of the surface."""
        corners = ((along[0], across[0]), (along[0], across[1]), (along[1], across[1]), (along[1], across[0]))
        self.add([self.on(*corner) for corner in corners], material, shade)

    def pair(
        self, along: tuple[float, float], across: tuple[float, float], material: Material, shade: float = 1.0
    ) -> None:
        """Add the same rectangle to the right and to the left half."""
        self.patch(along, across, material, shade)
        self.patch(along, (-across[1], -across[0]), material, shade)

    def skin(self, start: int, end: int, shade: float = 1.0) -> None:
        """Add the painted surface between two points of the profile, across the whole width."""
        rows = [float(start), *range(start + 1, end), float(end)]
        if self.fine:
            lengths = np.hypot(np.diff(self._z), np.diff(self._y))
            cuts = [(k - min(BEVEL / lengths[k - 1], 0.35), k + min(BEVEL / lengths[k], 0.35)) for k in rows[1:-1]]
            rows = [rows[0], *(row for cut in cuts for row in cut), rows[-1]]
        stations = FINE_STATIONS if self.fine else STATIONS
        for along in pairwise(rows):
            for across in pairwise(stations):
                self.patch(along, across, Material.PAINT, shade)

    def finish(self) -> Mesh:
        """The mesh of all faces."""
        points = np.array(self._points)
        most = max(len(face) for face, *_ in self._faces)
        faces = np.array([face + face[-1:] * (most - len(face)) for face, *_ in self._faces], np.int32)
        corners = points[faces]
        normals = np.cross(corners, np.roll(corners, -1, 1)).sum(1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        inward = (normals * (corners.mean(1) - [0, 0.55, 0])).sum(1) < 0
        faces[inward] = faces[inward, ::-1]
        normals[inward] *= -1
        _, materials, shades, both_sides = zip(*self._faces, strict=True)
        feet = [np.array([side * 0.95 * self.half_widths[1], 0, axle]) for side in (-1, 1) for axle in self.axles]
        body = [self.on(along, side) for along in (0, 1, 2, 3, 7, 8, 9, 10) for side in (-1, 1)] + feet
        cabin = [self.on(along, across) for along in (3, 4, 5, 6, 7) for across in STATIONS]
        return Mesh(
            points=points.astype(np.float32),
            faces=faces,
            normals=normals.astype(np.float32),
            materials=np.array(materials, np.int32),
            shades=np.array(shades, np.float32),
            both_sides=np.array(both_sides),
            outline=np.array([body, cabin], np.float32),
        )


def _add_wheels_below(builder: _Builder) -> None:
    """Tyres as they are seen below the bumpers, and the dark underside."""
    radius, outside = builder.shape.wheel, 0.97 * builder.half_widths[1]
    for axle in builder.axles:
        for side in (-1, 1):
            inside, out = side * (outside - 0.21), side * outside
            for low, high, reach in ((0.0, 0.35, 0.55), (0.25, 1.4, 0.85)):
                for z in (axle - reach * radius, axle + reach * radius):
                    below, above = low * radius, high * radius
                    corners = [(inside, below, z), (out, below, z), (out, above, z), (inside, above, z)]
                    builder.add(corners, Material.TYRE, 0.8, both_sides=True)


def _add_mirrors(builder: _Builder) -> None:
    for side in (-1, 1):
        x, y, z = builder.on(7, side)
        z -= 0.2
        for out, face in ((0.21, Material.PAINT), (0.19, Material.TRIM)):
            shift = 0.02 if face is Material.TRIM else 0.0
            corners = [(x, y + shift), (x + side * out, y + 0.02 + shift), (x + side * out, y + 0.14 - shift),
                       (x, y + 0.12 - shift)]  # fmt: skip
            builder.add([(*corner, z) for corner in corners], face, 0.8, both_sides=face is Material.PAINT)


def _add_body(builder: _Builder) -> None:
    """Flanks in bands that are tilted differently, and the upper and end faces."""
    for side in (-1.0, 1.0):
        rear, front = ([builder.on(along, side) for along in end] for end in ((0, 1, 2, 3), (10, 9, 8, 7)))
        sill, crease = ([_at_height(end[:3], share) for end in (rear, front)] for share in (0.3, 0.66))
        tilt = np.array([side * 0.015, 0, 0])  # a flank bulges where it has its crease
        crease = [point + tilt for point in crease]
        builder.add([rear[0], sill[0], sill[1], front[0]], Material.PAINT, 0.6)
        builder.add([sill[0], crease[0], crease[1], sill[1]], Material.PAINT, 0.93)
        builder.add([crease[0], rear[2], rear[3], front[3], front[2], crease[1]], Material.PAINT)
    builder.skin(0, 3)
    builder.skin(7, 10)


def _at_height(end: Sequence[NDArray[Any]], share: float) -> NDArray[Any]:
    """The point of an end's contour, three points `[3]`, at a share of its height."""
    points = np.array(end)
    height = points[0, 1] + share * (points[2, 1] - points[0, 1])
    return np.array([np.interp(height, points[:, 1], points[:, axis]) for axis in range(3)])


def _add_ends(builder: _Builder) -> None:
    """Lights, plates, grille and bumpers of front and rear."""
    builder.patch((9.45, 10), (-0.8, 0.8), Material.TRIM)
    builder.patch((8.42, 8.92), (-0.45, 0.45), Material.TRIM)
    builder.patch((8.34, 8.45), (-0.45, 0.45), Material.CHROME)
    builder.pair((8.18, 8.86), (0.52, 0.99), Material.TRIM)
    builder.pair((8.24, 8.8), (0.55, 0.98), Material.HEADLIGHT)
    builder.pair((9.5, 9.75), (0.6, 0.78), Material.HEADLIGHT, 0.8)
    builder.patch((9.08, 9.42), (-0.29, 0.29), Material.PLATE)
    builder.patch((0, 0.4), (-0.86, 0.86), Material.TRIM)
    if builder.shape.tall_lights:
        builder.pair((1.35, 2.75), (0.8, 1), Material.TAIL_LIGHT)
        builder.pair((1.7, 1.95), (0.84, 0.96), Material.HEADLIGHT, 0.7)
    else:
        builder.pair((1.42, 1.97), (0.58, 1), Material.TAIL_LIGHT)
        builder.pair((1.6, 1.78), (0.66, 0.84), Material.HEADLIGHT, 0.6)
    builder.patch((1.12, 1.46), (-0.29, 0.29), Material.PLATE)


def _add_cabin(builder: _Builder) -> None:
    """Pillars, roof and windows."""
    for side in (-1.0, 1.0):
        contour = [builder.on(along, side) for along in (3, 4, 5, 6, 7)]
        builder.add(contour, Material.PAINT, 0.95)
        for start, end in builder.shape.windows:
            corners = []
            for along, up in ((start, 0.07), (end, 0.07), (end, 0.87), (start, 0.87)):
                below, above = (low + along * (high - low) for low, high in (contour[::4], contour[1::2]))
                corners.append(below + up * (above - below))
            builder.add(corners, Material.GLASS)
            middle = [(corners[0] + corners[3]) / 2, (corners[1] + corners[2]) / 2]
            builder.add([*middle, corners[2], corners[3]], Material.GLASS, 1.7)
            seam = contour[0] + (start - 0.02) * (contour[4] - contour[0])
            foot = np.array([seam[0], builder.clearance + 0.12, seam[2]])
            builder.add(np.add([seam, seam, foot, foot], [[0, 0, z] for z in (0, 0.02, 0.02, 0)]), Material.TRIM)
            handle = [[0, y, z] for y, z in ((-0.12, 0.06), (-0.12, 0.22), (-0.15, 0.22), (-0.15, 0.06))]
            builder.add(np.add(seam, handle), Material.TRIM)
    builder.skin(3, 7)
    builder.patch((3.1, 3.9), (-0.84, 0.84), Material.GLASS, 0.75)
    builder.patch((3.5, 3.9), (-0.84, 0.84), Material.GLASS, 1.1)
    builder.patch((6.06, 6.96), (-0.87, 0.87), Material.GLASS, 1.1)
    builder.patch((6.4, 6.96), (-0.87, 0.87), Material.GLASS, 0.8)
    builder.patch((6.9, 6.97), (-0.87, 0.87), Material.TRIM)


def _add_wheels(builder: _Builder) -> None:
    """Wheel arches, tyres and rims on the flanks."""
    radius, x = builder.shape.wheel, 0.985 * builder.half_widths[1]
    for axle in builder.axles:
        for side in (-1, 1):

            def disc(share: float, low: float = 0.0, middle: float = axle, x: float = side * x) -> list[Any]:
                y, z = radius * (1 + share * np.sin(CIRCLE)), middle + share * radius * np.cos(CIRCLE)
                return list(np.stack([np.full_like(y, x), np.maximum(y, low), z], -1))

            builder.add(disc(1.18, builder.clearance), Material.TRIM, 0.4)
            builder.add(disc(1.0), Material.TYRE)
            builder.add(disc(0.7), Material.RIM)
            if builder.fine:
                ring = np.array(disc(0.62))
                hub = np.array([side * x, radius, axle])
                for spoke in range(0, len(CIRCLE), 2):
                    corners = [hub + 0.4 * (ring[spoke] - hub), ring[spoke], ring[(spoke + 1) % len(CIRCLE)]]
                    builder.add(corners, Material.TYRE, 1.6)
            builder.add(disc(0.16), Material.TRIM)
