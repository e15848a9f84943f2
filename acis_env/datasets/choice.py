"""Which parts of pictures are scenes: whole pictures, or squares of them, with limits on their instances."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acis_env.configs import is_count
from acis_env.datasets.windows import TRIES_PER_CROP, Window, centred
from acis_env.ops.labels import label_areas


@dataclass(frozen=True)
class SceneChoice:
    """Options of data sets of files that choose scenes.

    Args:
        crop: the whole picture (None), its central square ("centre"), or squares anywhere ("random").
        crop_size: side of the square in px; for random crops also the smallest and largest side, where sides beyond a
            picture's shorter one are cut to it.
        crops_per_image: random crops wanted of each image. They differ; an image has fewer if draws of suitable ones
            keep failing.
        scale: factor on both sides of the picture, before cropping.
        min_instances: scenes with fewer are left out.
        max_instances: scenes with more are left out.
        min_area: instances of fewer pixels in the scene become background and don't count.
        seed: seed of random crops. Those of an image depend on it and on the image's id alone.

    Raises:
        ValueError: a value is out of range.
    """

    crop: Literal["centre", "random"] | None = None
    crop_size: int | tuple[int, int] | None = None
    crops_per_image: int = 1
    scale: float = 1.0
    min_instances: int = 1
    max_instances: int | None = None
    min_area: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crop not in (None, "centre", "random"):
            raise ValueError(f'crop must be None, "centre" or "random", got {self.crop!r}')
        if self.crops_per_image < 1 or (self.crops_per_image > 1 and self.crop != "random"):
            raise ValueError(f'crops_per_image must be 1, or more with crop="random", got {self.crops_per_image}')
        if (self.crop is None) != (self.crop_size is None):
            raise ValueError(f"crop and crop_size go together, got crop={self.crop!r}, crop_size={self.crop_size}")
        if self.crop == "centre" and not isinstance(self.crop_size, int):
            raise ValueError(f'crop_size must be one side in px with crop="centre", got {self.crop_size}')
        if self.crop is not None and not self._has_sides():
            raise ValueError(f"crop_size must be a side >= 1 px or (smallest, largest) of them, got {self.crop_size}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale must be positive, got {self.scale}")
        if self.min_instances < 0:
            raise ValueError(f"min_instances must be at least 0, got {self.min_instances}")
        if self.max_instances is not None and self.max_instances < self.min_instances:
            raise ValueError(
                f"max_instances must be at least min_instances={self.min_instances}, got {self.max_instances}"
            )
        if self.min_area < 1:
            raise ValueError(f"min_area must be at least 1 px, got {self.min_area}")
        if not is_count(self.seed, least=0, most=2**63 - 1):
            raise ValueError(f"seed must be an int from 0 on, got {self.seed!r}")

    def _has_sides(self) -> bool:
        sides = self.crop_size if isinstance(self.crop_size, Sequence) else (self.crop_size, self.crop_size)
        return len(sides) == 2 and all(map(is_count, sides)) and self.sides[0] <= self.sides[1]

    @property
    def sides(self) -> tuple[int, int]:
        """Smallest and largest side of a crop in px; (0, 0) without crops."""
        if self.crop_size is None:
            return 0, 0
        smallest, largest = (self.crop_size, self.crop_size) if isinstance(self.crop_size, int) else self.crop_size
        return smallest, largest

    def scaled(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a picture of `shape` `(H, W)` after scaling."""
        height, width = (max(1, round(length * self.scale)) for length in shape)
        return height, width

    def windows(
        self, scene_id: str, size: tuple[int, int], label_map: NDArray[Any] | None, counts_seen: set[int]
    ) -> dict[Window, int]:
        """Windows of one picture within the limits, each with its number of instances, 0 where that is not known.

        Args:
            scene_id: the picture's; it names the picture in errors, too.
            size: `(H, W)` of the scaled picture.
            label_map: `[H, W]`, labels from 0 on, -1 = ignored; None: not known, and every window is within the limits.
            counts_seen: gets the number of instances of every window that was looked at.

        Raises:
            ValueError: the picture is smaller than the crop.
        """
        generator = np.random.default_rng([self.seed, zlib.crc32(scene_id.encode(errors="surrogatepass"))])
        chosen: dict[Window, int] = {}
        for _ in range(self.crops_per_image):
            for _ in range(TRIES_PER_CROP if self.crop == "random" else 1):
                window = self._place(scene_id, size, generator)
                if label_map is None:
                    count, wanted = 0, True
                else:
                    count = int((label_areas(window.cut(label_map))[1:] >= self.min_area).sum())
                    counts_seen.add(count)
                    wanted = self.wants(count)
                if wanted and window not in chosen:
                    chosen[window] = count
                    break
        return chosen

    def wants(self, count: int) -> bool:
        """Whether a scene of `count` instances is within the limits."""
        too_many = self.max_instances is not None and count > self.max_instances
        return count >= self.min_instances and not too_many

    def nothing_left(self, where: Path, counts_seen: Collection[int]) -> ValueError:
        """The error of a data set none of whose scenes is within the limits; of these there is at least one."""
        limit = "any number" if self.max_instances is None else self.max_instances
        return ValueError(
            f"{where}: no scene has {self.min_instances} to {limit} instances of at least {self.min_area} px; "
            f"seen were {min(counts_seen)} to {max(counts_seen)}"
        )

    def _place(self, scene_id: str, size: tuple[int, int], generator: np.random.Generator) -> Window:
        height, width = size
        if self.crop is None:
            return Window(0, 0, height, width)
        smallest, largest = self.sides
        if smallest > min(height, width):
            raise ValueError(
                f"{scene_id}: a crop of {smallest} px does not fit into the picture of {height}x{width} "
                f"(height x width, after scale={self.scale}); choose a smaller crop_size"
            )
        if self.crop == "centre":
            return centred(size, (smallest, smallest))
        side = int(generator.integers(smallest, min(largest, height, width) + 1))
        y, x = (int(generator.integers(length - side + 1)) for length in (height, width))
        return Window(y, x, side, side)
