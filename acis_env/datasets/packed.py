"""A data set as pictures of one size, in batches on one device."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from acis_env.configs import is_count
from acis_env.datasets.cache import open_cache
from acis_env.datasets.kept import KeptScenes
from acis_env.datasets.packing import ScenePacker
from acis_env.datasets.preprocessing import Preprocessing, parse_preprocessing
from acis_env.datasets.scene import Scene, SceneDataset
from acis_env.datasets.streamed import StreamedScenes
from acis_env.datasets.tiles import windowed
from acis_env.networks import parse_size
from acis_env.ops.labels import count_instances
from acis_env.surroundings import unaffected

MEMORY_BUDGET = 2**31
"""Bytes of packed scenes that are kept on the device, unless told otherwise."""
PART = 64
"""Scenes that are looked at together where all are."""


class PackedScenes:
    """All scenes of a data set, resized to one picture size.

    Scenes that fit the budget are kept on the device: one is decoded, resized and copied the first time it is asked
    for, and once every scene has been, gathering a batch by indices that lie on the device makes the host wait for
    nothing. Those of a larger data set are streamed: see `StreamedScenes`. Both give the same batches.

    Attributes:
        dataset: the scenes at their native resolution; the windows of these (`TiledScenes`) where they are tiled.
        preprocessing: how scenes become pictures of that size, and masks return to theirs.
        max_instances: that of `dataset`, at least 1; small instances are lost in resizing, none are added.
        is_streamed: whether the scenes do not fit the budget.
    """

    @unaffected
    def __init__(
        self,
        dataset: SceneDataset,
        size: tuple[int, int],
        device: str | torch.device = "cpu",
        min_area: int = 4,
        preprocessing: str | Preprocessing = "squeeze",
        *,
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        """Reserve memory for `dataset`, or open its cache; nothing is decoded yet.

        Args:
            dataset: S scenes of any sizes.
            size: height and width of the packed pictures, multiples of 32.
            device: where batches are, and all scenes if they fit the budget.
            min_area: instances of fewer pixels after resizing become background, unless that would take
                the last one: then the largest stays.
            preprocessing: how scenes become pictures of that size (see `parse_preprocessing`).
            memory_budget: bytes that all packed scenes may take on the device; if they take more, they are streamed.

        Raises:
            ValueError: `size` is not two positive multiples of 32, or the data set is empty, or promises no count, or
                `preprocessing` is unknown or for another size, or the budget is no number of bytes.
        """
        if len(dataset) == 0:
            raise ValueError("dataset must hold at least one scene, got none")
        promised: Any = dataset.max_instances
        if not isinstance(promised, Integral) or int(promised) < 0:
            raise ValueError(f"max_instances of the data set must be an int from 0 on, got {promised!r}")
        if not is_count(memory_budget, least=0, most=sys.maxsize):
            raise ValueError(f"memory_budget must be a number of bytes from 0 on, got {memory_budget!r}")
        self.size = parse_size(size)
        dataset, self.preprocessing = windowed(dataset, parse_preprocessing(preprocessing, self.size))
        self.dataset = dataset
        self.device = torch.device(device)
        self.min_area = min_area
        self.max_instances = max(int(promised), 1)
        self._packer = ScenePacker(dataset, len(dataset), self.preprocessing, min_area, self.max_instances)
        self.is_streamed = self.nbytes > memory_budget
        self._store: KeptScenes | StreamedScenes
        if self.is_streamed:
            self._store = StreamedScenes(self._packer, self.device, open_cache(self._packer))
        else:
            self._store = KeptScenes(self._packer, self.device)

    def __len__(self) -> int:
        """Number of scenes `S`."""
        return self._packer.num_scenes

    @property
    def label_dtype(self) -> torch.dtype:
        """Type in which label maps are kept."""
        return self._packer.label_dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all packed scenes."""
        return len(self) * self._packer.scene_bytes

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scenes; the first use packs every scene."""
        return self._store.names()

    @property
    def num_instances(self) -> Tensor:
        """Instances of every scene, `[S]` int64 on the host; the first use packs every scene."""
        counts = []
        for first in range(0, len(self), PART):
            self.expect(range(first, min(first + 2 * PART, len(self))))
            _, label_maps = self._store.gather(torch.arange(first, min(first + PART, len(self)), device="cpu"))
            counts.append(count_instances(label_maps).cpu().long())
        return torch.cat(counts)

    def scene(self, index: int) -> Scene:
        """Scene `index` of the data set, at its native resolution, with labels 1..N without gaps.

        Raises:
            ValueError: it is no scene, its labels are not integers from -1 on, or they are more than promised.
        """
        return self._packer.scene(index)

    def expect(self, indices: Iterable[int]) -> None:
        """Have the scenes `indices` made ahead of need, where they are streamed; otherwise they are not looked at."""
        if isinstance(self._store, StreamedScenes):
            self._store.expect(indices)

    def gather(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Batch of the scenes `indices`, which may repeat.

        Args:
            indices: `[B]` in [0, S), int64 if a tensor. Indices on another device than the host are
                brought to it only while scenes are missing, and their range is not checked afterwards.

        Returns:
            images `[B, 3, H, W]` uint8 and label maps `[B, H, W]` int64, -1 = ignored, both copies on the device.

        Raises:
            IndexError: an index is outside [0, S).
            ValueError: a scene has more instances than its data set promised.
        """
        images, label_maps = self._store.gather(torch.as_tensor(indices, dtype=torch.int64))
        return images, label_maps.long()

    def close(self) -> None:
        """End the threads that make scenes ahead of need; they begin again if scenes are asked for."""
        if isinstance(self._store, StreamedScenes):
            self._store.close()
