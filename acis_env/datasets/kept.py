"""Packed scenes in memory: all of a data set in two tensors on one device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from acis_env.datasets.scene import PackedScene
from acis_env.threads import map_in_threads

TOGETHER = 64
"""Scenes that are packed before they are copied to the device."""


class KeptScenes:
    """All scenes on a device, each packed the first time it is asked for.

    Attributes:
        images: `[S, 3, H, W]` uint8; zero for scenes not asked for yet.
        label_maps: `[S, H, W]`; zero for scenes not asked for yet.
    """

    def __init__(
        self,
        pack: Callable[[int], PackedScene],
        num_scenes: int,
        size: tuple[int, int],
        label_dtype: torch.dtype,
        device: torch.device,
        in_threads: bool,
    ) -> None:
        """Reserve the memory; nothing is decoded yet.

        Args:
            pack: makes scene `i` in [0, S).
            num_scenes: `S`.
            size: height and width of the scenes.
            label_dtype: type of the label maps.
            device: where the tensors live.
            in_threads: whether several threads may call `pack` at once.
        """
        self._pack, self._in_threads = pack, in_threads
        self.images = torch.zeros(num_scenes, 3, *size, dtype=torch.uint8, device=device)
        self.label_maps = torch.zeros(num_scenes, *size, dtype=label_dtype, device=device)
        # The name of a scene is known once it is packed, so it also tells which scenes are.
        self._names: list[str | None] = [None] * num_scenes
        self._num_missing = num_scenes

    def names(self) -> tuple[str, ...]:
        """Names of all scenes; packs every scene."""
        self._fill(list(range(len(self._names))))
        return tuple(name for name in self._names if name is not None)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images `[B, 3, H, W]` and label maps `[B, H, W]` of the scenes `indices` `[B]`, copied on the device.

        Indices on another device than the host are brought to it only while scenes are missing.
        """
        if self._num_missing or indices.device.type == "cpu":
            self._fill(host_indices(indices, len(self._names)))
        indices = indices.to(self.images.device)
        return self.images[indices], self.label_maps[indices]

    def _fill(self, indices: list[int]) -> None:
        missing = [index for index in dict.fromkeys(indices) if self._names[index] is None]
        for first in range(0, len(missing), TOGETHER):
            part = missing[first : first + TOGETHER]
            scenes = map_in_threads(self._pack, part) if self._in_threads else map(self._pack, part)
            for index, scene in zip(part, scenes, strict=True):
                self.images[index] = torch.from_numpy(scene.image)
                self.label_maps[index] = torch.from_numpy(scene.label_map)
                self._names[index] = scene.name
                self._num_missing -= 1


def host_indices(indices: Tensor, num_scenes: int) -> list[int]:
    """Indices `[B]` as numbers.

    Raises:
        IndexError: one is outside of [0, num_scenes).
    """
    wanted: list[int] = indices.tolist()
    for index in wanted:
        if not 0 <= index < num_scenes:
            raise IndexError(f"scene index must be in [0, {num_scenes}), got {index}")
    return wanted
