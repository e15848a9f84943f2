"""Where a street has its lanes, its parked cars and its pavements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PARKING_WIDTHS = {"none": 0.3, "parallel": 2.3, "angled": 4.6, "square": 5.0}
"""Metres that cars take beside the lanes, by how they are parked."""


@dataclass(frozen=True)
class Layout:
    """A cross-section of a street, in metres to the right of the line between the directions; traffic keeps right."""

    lane_width: float
    lanes_ahead: int
    lanes_towards: int
    parking: tuple[str, str]
    """How cars are parked on the left and on the right, a key of `PARKING_WIDTHS`."""
    pavement: float
    """Width of the pavements."""
    front: float
    """From the pavement to the houses."""

    @staticmethod
    def draw(rng: np.random.Generator, crowding: float) -> Layout:
        """A random street, with the more room for cars the larger `crowding` in [0, 1] is."""
        wide = 0.1 + 0.5 * crowding**2
        lanes = [(1, 1), (2, 2), (2, 1), (1, 0)][rng.choice(4, p=[0.8 - wide, 0.6 * wide, 0.4 * wide, 0.2])]
        bare = 0.3 * (1 - crowding)
        kinds = rng.choice(4, 2, p=[bare, 0.7 * (1 - bare), 0.12 * (1 - bare), 0.18 * (1 - bare)])
        left, right = (tuple(PARKING_WIDTHS)[kind] for kind in kinds)
        return Layout(
            lane_width=rng.uniform(2.9, 3.6),
            lanes_ahead=lanes[0],
            lanes_towards=lanes[1],
            parking=(left, right),
            pavement=rng.uniform(1.8, 4.5),
            front=rng.choice([0.0, rng.uniform(1, 5)]),
        )

    @property
    def edges(self) -> tuple[float, float]:
        """Left and right end of the lanes."""
        return -self.lanes_towards * self.lane_width, self.lanes_ahead * self.lane_width

    @property
    def kerbs(self) -> tuple[float, float]:
        """Left and right end of the roadway with its parked cars."""
        left, right = self.edges
        return left - PARKING_WIDTHS[self.parking[0]], right + PARKING_WIDTHS[self.parking[1]]

    @property
    def walls(self) -> tuple[float, float]:
        """Left and right line of the houses."""
        left, right = self.kerbs
        return left - self.pavement - self.front, right + self.pavement + self.front

    def lane_centres(self) -> list[tuple[float, bool]]:
        """Middle of every lane, and whether its cars come towards the camera."""
        ahead = [((lane + 0.5) * self.lane_width, False) for lane in range(self.lanes_ahead)]
        return ahead + [(-(lane + 0.5) * self.lane_width, True) for lane in range(self.lanes_towards)]
