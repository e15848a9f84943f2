"""Which cars are on a street: driving and parked ones, no two in one place, each of them in sight."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.street.bodies import SHAPES
from acis_env.datasets.street.camera import SHIFT, Camera, fixed_point
from acis_env.datasets.street.cars import Car, distances, footprints, outlines
from acis_env.datasets.street.layout import Layout

MOST_CARS = 16  # on a street
NEAREST, FARTHEST = 4.5, 60.0  # metres between which cars stand
LEAST_SHARE = 0.15  # of a car's outline within the picture that has to be in sight
ROUNDS = 2  # in which a street is filled up
NEARNESS = 2.0  # how much sooner near cars are chosen than far ones, most of which would be dots on the horizon
SKETCH_SIDE = 128  # shorter side of the pictures in which places are tried out

COLOURS = (
    (20, (0.86, 0.86, 0.86)),
    (20, (0.55, 0.56, 0.58)),
    (17, (0.3, 0.31, 0.33)),
    (18, (0.04, 0.04, 0.045)),
    (9, (0.07, 0.12, 0.32)),
    (9, (0.48, 0.04, 0.04)),
    (3, (0.06, 0.18, 0.12)),
    (4, (0.52, 0.47, 0.37)),
    (4, (0.16, 0.32, 0.58)),
    (1.5, (0.72, 0.32, 0.05)),
    (1.5, (0.78, 0.64, 0.1)),
)
"""Colours of cars, with how frequent they are beside each other."""


def _running(shares: Sequence[float]) -> list[float]:
    """Sums up to every share but the last, as parts of the sum of all."""
    return [float(part) for part in np.cumsum(shares)[:-1] / sum(shares)]


_NAMES = tuple(SHAPES)
_KINDS_UP_TO = _running([shape.share for shape in SHAPES.values()])
_COLOURS_UP_TO = _running([share for share, _ in COLOURS])


def place_cars(
    rng: np.random.Generator, layout: Layout, camera: Camera, number: int, least_pixels: float
) -> list[Car] | None:
    """Cars on a street, from the farthest to the nearest; None: so many were not to be placed.

    A nearer car is never hidden by a farther one, and of each are seen about `least_pixels` of the camera's picture or
    more and a seventh of what would be seen of it alone.
    """
    scale = SKETCH_SIDE / min(camera.size)
    sketch, least = camera.scaled(scale), 1.3 * least_pixels * scale**2
    cars: list[Car] = []
    for _ in range(ROUNDS):
        more = list(_candidates(rng, layout, number / MOST_CARS))
        order = np.argsort(rng.exponential(size=len(more)) * np.array([car.z for car in more]) ** NEARNESS)
        cars = _choose([*cars, *(more[index] for index in order)], sketch, number, least)
        if len(cars) == number:
            return cars
    return None


def _candidates(rng: np.random.Generator, layout: Layout, crowding: float) -> Iterator[Car]:
    """Cars that might be there, some of them in the same place; the more, the larger `crowding` in [0, 1] is."""
    for centre, towards in layout.lane_centres():
        z = rng.uniform(NEAREST, 18)
        while z < FARTHEST:
            heading = np.pi * towards + rng.normal(0, 0.025) + (rng.random() < 0.1) * rng.normal(0, 0.15)
            yield _car(rng, centre + rng.normal(0, 0.2), z, heading)
            z += 5.5 + rng.exponential(16 - 10 * crowding)
    for side, kind, edge, kerb in zip((-1, 1), layout.parking, layout.edges, layout.kerbs, strict=True):
        if kind != "none":
            yield from _parked(rng, side, kind, (edge + kerb) / 2, rng.uniform(0.3 + 0.5 * crowding, 1))


def _parked(rng: np.random.Generator, side: int, kind: str, middle: float, occupied: float) -> Iterator[Car]:
    """Cars parked on one side, -1 left or 1 right, on an `occupied` share of the places along the line `middle`."""
    pitch = {"parallel": 5.6, "angled": 3.3, "square": 2.7}[kind]
    turn = {"parallel": 0.0, "angled": np.radians(rng.uniform(35, 60)), "square": np.pi / 2}[kind]
    for z in np.arange(rng.uniform(2, 2 + pitch), FARTHEST, pitch):
        if rng.random() > occupied:
            continue
        heading = side * turn + rng.normal(0, 0.03) + np.pi * (side < 0 and kind == "parallel")
        if rng.random() < (0.15 if kind == "parallel" else 0.35):
            heading += np.pi
        x = middle + side * 0.15 * (kind == "parallel") + rng.normal(0, 0.07)
        yield _car(rng, x, z + rng.normal(0, 0.12), heading)


def _car(rng: np.random.Generator, x: float, z: float, heading: float) -> Car:
    which, paint, is_white, tone, red, green, blue, breadth, size = rng.random(9).tolist()
    kind = _NAMES[bisect(_KINDS_UP_TO, which)]
    colour = COLOURS[0 if kind == "van" and is_white < 0.7 else bisect(_COLOURS_UP_TO, paint)][1]
    shifts = (0.04 * (red - 0.5), 0.04 * (green - 0.5), 0.04 * (blue - 0.5))
    shade = 0.8 + 0.35 * tone
    shown = tuple(min(max(value * shade + shift, 0.02), 0.92) for value, shift in zip(colour, shifts, strict=True))
    scale = (0.975 + 0.05 * breadth, 0.96 + 0.08 * size, 0.94 + 0.12 * size)
    return Car(kind, shown, x, z, heading, scale)


def _choose(cars: Sequence[Car], camera: Camera, number: int, least_pixels: float) -> list[Car]:
    """At most `number` cars, the first ones that leave enough of each other in sight, from far to near."""
    nearest, clashes = _compare(cars, camera)
    hulls = fixed_point(camera.project(outlines(cars, camera.bend)))  # [N, 2, P, 2], of body and cabin
    chosen: list[int] = []
    owners = np.zeros(camera.size, np.uint8)  # which of the chosen cars a pixel shows, from 1; 0 = none
    depths = np.full(number + 1, np.inf)  # of the owners
    seen, needed = np.zeros(number + 1), np.zeros(number + 1)  # pixels of the owners
    low = np.clip(hulls.min((1, 2)) >> SHIFT, 0, np.array(camera.size[::-1]) - 1)
    high = np.clip((hulls.max((1, 2)) >> SHIFT) + 2, low + 1, camera.size[::-1])
    is_possible = (nearest > NEAREST) & ((high - low - 1).prod(1) >= least_pixels)
    for index in np.flatnonzero(is_possible).tolist():
        if len(chosen) == number:
            break
        if clashes[index, chosen].any():
            continue
        (left, top), (right, bottom) = low[index].tolist(), high[index].tolist()
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for hull in hulls[index] - (low[index] << SHIFT):
            cv2.fillConvexPoly(mask, cv2.convexHull(hull), 1, cv2.LINE_8, SHIFT)
        owner, mask = owners[top:bottom, left:right], mask.view(bool)
        wins = mask & (depths[owner] > nearest[index])
        own, least = np.count_nonzero(wins), max(least_pixels, LEAST_SHARE * np.count_nonzero(mask))
        if own < least:
            continue
        still = seen - np.bincount(owner[wins], minlength=number + 1)
        if (still[1:] >= needed[1:]).all():
            chosen.append(index)
            seen, new = still, len(chosen)
            owner[wins], depths[new], seen[new], needed[new] = new, nearest[index], own, least
    return [cars[index] for index in sorted(chosen, key=lambda index: -nearest[index])]


def _compare(cars: Sequence[Car], camera: Camera) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Distance of every car's nearest corner, `[N]`, and which cars cannot both be there, `[N, N]`.

    Those are in the same place, or the one that hides the other is not the nearer one.
    """
    nearest = distances(cars, camera.bend)
    feet = footprints(cars, camera.bend, margin=0.12)
    feet = np.stack([feet[..., 0] + camera.bend * feet[..., 2] ** 2, feet[..., 2]], -1)
    edges = np.roll(feet, -1, 1) - feet
    normals = np.stack([edges[..., 1], -edges[..., 0]], -1)  # [N, 4, 2], outward
    offsets = (normals * feet).sum(-1)
    # An edge of car i parts it from car j when all of j is beyond. If the camera is beyond, too, i does not hide j;
    # otherwise j does not hide i.
    is_beyond = (np.einsum("ikc,jpc->ikjp", normals, feet) > offsets[:, :, None, None]).all(-1)
    camera_beyond = normals @ np.array([camera.x, 0.0]) > offsets
    apart = is_beyond.any(1)
    hides_not = (is_beyond & camera_beyond[:, :, None]).any(1)
    hidden_not = (is_beyond & ~camera_beyond[:, :, None]).any(1)
    may_hide = ~(hides_not | hidden_not.T)
    is_odd = may_hide & ~may_hide.T & (nearest[:, None] > nearest)
    return nearest, ~(apart | apart.T) | is_odd | is_odd.T
