"""Daylight: where the sun stands, how strong it is, and the colours of light and air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.street.camera import Floats


@dataclass(frozen=True)
class Light:
    """The light of a scene. Colours are `[3]`, RGB, about 1 for white under a clear sky."""

    sun: Floats  # [3], unit vector towards the sun
    direct: Floats  # colour of the sun's light; zero under clouds
    ambient: Floats  # colour of the sky's light
    sky: Floats  # colour of the sky overhead
    haze: Floats  # colour of the air at the horizon
    clearness: float  # metres after which a third of a colour is left

    @staticmethod
    def draw(rng: np.random.Generator) -> Light:
        """Random daylight: sunny, hazy or under clouds."""
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(22, 62))
        flat = np.cos(elevation)
        sun = np.array([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)], np.float32)
        clouds = rng.choice([0.0, 0.35, 1.0], p=[0.5, 0.2, 0.3])
        warmth = rng.uniform(-0.04, 0.08)
        direct = rng.uniform(1.1, 1.6) * (1 - clouds) * np.array([1 + warmth, 1.0, 0.95 - warmth])
        ambient = (rng.uniform(0.28, 0.45) + 0.45 * clouds) * np.array([0.94, 1.0, 1.07 - 0.05 * clouds])
        blue, grey = np.array([0.5, 0.7, 0.97]), np.array([0.83, 0.86, 0.9]) * rng.uniform(0.8, 1.1)
        sky = blue + max(clouds, rng.uniform(0, 0.5)) * (grey - blue)
        haze = 0.55 * sky + 0.45 * np.array([0.98, 0.98, 0.96])
        direct, ambient, sky, haze = (np.asarray(colour, np.float32) for colour in (direct, ambient, sky, haze))
        return Light(sun, direct, ambient, sky, haze, clearness=float(rng.choice([160.0, 350.0, 700.0])))

    @property
    def casts_shadows(self) -> bool:
        """Whether the sun shines."""
        return bool(self.direct.any())

    def on(self, albedo: NDArray[Any], normal: tuple[float, float, float], sunlit: float = 1.0) -> NDArray[Any]:
        """Colour of matt surfaces of `albedo` `[..., 3]` whose unit `normal` points there; `sunlit` in [0, 1]."""
        towards = sum(float(there) * along for there, along in zip(self.sun, normal, strict=True))
        sky = 0.72 + 0.28 * normal[1]
        lit: NDArray[Any] = albedo * (sky * self.ambient + (sunlit * max(towards, 0.0)) * self.direct)
        return lit

    def through_air(self, colours: NDArray[Any], metres: float | NDArray[Any]) -> NDArray[Any]:
        """The colours `[..., 3]` that are seen from distances in metres, a number or `[..., 1]`."""
        left: NDArray[Any] = np.exp(-np.asarray(metres, np.float32) / self.clearness)
        seen: NDArray[Any] = self.haze + (colours - self.haze) * left
        return seen
