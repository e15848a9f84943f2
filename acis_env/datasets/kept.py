"""Packed scenes in memory: all of a data set in two tensors on one device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from acis_env.datasets.packing import ScenePacker
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

    def __init__(self, packer: ScenePacker, device: torch.device) -> None:
        """Reserve the memory of the `S` scenes that `packer` makes; nothing is decoded yet."""
        self._packer = packer
        number, size = packer.num_scenes, packer.size
        self.images = torch.zeros(number, 3, *size, dtype=torch.uint8, device=device)
        self.label_maps = torch.zeros(number, *size, dtype=packer.label_dtype, device=device)
        # The name of a scene is known once it is packed, so it also tells which scenes are.
        self._names: list[str | None] = [None] * number
        self._num_missing = number

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
        pack = self._packer.pack
        missing = [index for index in dict.fromkeys(indices) if self._names[index] is None]
        for first in range(0, len(missing), TOGETHER):
            part = missing[first : first + TOGETHER]
            scenes: Iterable[PackedScene]
            scenes = map_in_threads(pack, part) if self._packer.is_thread_safe else map(pack, part)
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
