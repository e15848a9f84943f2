"""A data set as tensors of one size on one device, ready for batches without a trip to the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.augment import label_dtype
from acis_env.datasets.preprocessing import Preprocessing, parse_preprocessing
from acis_env.datasets.scene import Scene, SceneDataset
from acis_env.datasets.tiles import windowed
from acis_env.metrics import check_label_map
from acis_env.networks import parse_size
from acis_env.ops.labels import relabel
from acis_env.surroundings import unaffected


class PackedScenes:
    """All scenes of a data set, resized to one picture size and kept on a device.

    A scene is decoded, resized and copied the first time it is asked for. Once every scene has been,
    gathering a batch by indices that lie on the device makes the host wait for nothing.

    Attributes:
        dataset: the scenes at their native resolution; the windows of these (`TiledScenes`) where they are tiled.
        preprocessing: how scenes become pictures of that size, and masks return to theirs.
        images: `[S, 3, H, W]` uint8; zero for scenes not asked for yet, so read it through `gather`.
        label_maps: `[S, H, W]`, of `label_dtype`, labels 1..N without gaps; zero for scenes without a label map; also
            filled on demand.
        max_instances: that of `dataset`, at least 1; small instances are lost in resizing, none are added.
    """

    @unaffected
    def __init__(
        self,
        dataset: SceneDataset,
        size: tuple[int, int],
        device: str | torch.device = "cpu",
        min_area: int = 4,
        preprocessing: str | Preprocessing = "squeeze",
    ) -> None:
        """Reserve memory for `dataset`; nothing is decoded yet.

        Args:
            dataset: S scenes of any sizes.
            size: height and width of the packed pictures, multiples of 32.
            device: where the tensors live.
            min_area: instances of fewer pixels after resizing become background, unless that would take
                the last one: then the largest stays.
            preprocessing: how scenes become pictures of that size (see `parse_preprocessing`).

        Raises:
            ValueError: `size` is not two positive multiples of 32, or the data set is empty, or promises no count, or
                `preprocessing` is unknown or for another size.
        """
        if len(dataset) == 0:
            raise ValueError("dataset must hold at least one scene, got none")
        promised: Any = dataset.max_instances
        if not isinstance(promised, Integral) or int(promised) < 0:
            raise ValueError(f"max_instances of the data set must be an int from 0 on, got {promised!r}")
        self.size = parse_size(size)
        dataset, self.preprocessing = windowed(dataset, parse_preprocessing(preprocessing, self.size))
        self.dataset = dataset
        self.device = torch.device(device)
        self.min_area = min_area
        self.max_instances = max(int(promised), 1)
        self.images = torch.zeros(len(dataset), 3, *self.size, dtype=torch.uint8, device=self.device)
        self.label_maps = torch.zeros(
            len(dataset), *self.size, dtype=label_dtype(self.max_instances), device=self.device
        )
        # The name of a scene is known once it is packed, so it also tells which scenes are.
        self._names: list[str | None] = [None] * len(dataset)
        self._num_missing = len(dataset)

    def __len__(self) -> int:
        """Number of scenes `S`."""
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scenes; the first use packs every scene."""
        self._fill(range(len(self)))
        return tuple(name for name in self._names if name is not None)

    @property
    def num_instances(self) -> Tensor:
        """Instances of every scene, `[S]` int64 on the host; the first use packs every scene."""
        self._fill(range(len(self)))
        counts: Tensor = self.label_maps.flatten(1).amax(1).cpu().long()
        return counts

    def scene(self, index: int) -> Scene:
        """Scene `index` of the data set, at its native resolution, with labels 1..N without gaps.

        Raises:
            ValueError: it is no scene, its labels are not integers from 0 on, or they are more than promised.
        """
        scene = self.dataset[index]
        if not isinstance(scene, Scene):
            raise ValueError(f"dataset[{index}] must be a Scene, got {type(scene).__name__}")
        if scene.label_map is None:
            return scene
        label_map = _consecutive(scene.label_map, f"{scene.name}: label_map")
        if label_map.max(initial=0) > self.max_instances:
            raise ValueError(
                f"{scene.name}: the data set promises at most {self.dataset.max_instances} instances, "
                f"this scene has {label_map.max()}; is max_instances of the data set right?"
            )
        return scene if label_map is scene.label_map else replace(scene, label_map=label_map)

    def gather(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Batch of the scenes `indices`, which may repeat.

        Args:
            indices: `[B]` in [0, S), int64 if a tensor. Indices on another device than the host are
                brought to it only while scenes are missing, and their range is not checked afterwards.

        Returns:
            images `[B, 3, H, W]` uint8 and label maps `[B, H, W]` int64, both copies on the device.

        Raises:
            IndexError: an index is outside [0, S).
            ValueError: a scene has more instances than its data set promised.
        """
        wanted = torch.as_tensor(indices, dtype=torch.int64)
        if self._num_missing or wanted.device.type == "cpu":
            self._fill(wanted.tolist())
        wanted = wanted.to(self.device)
        return self.images[wanted], self.label_maps[wanted].long()

    def _fill(self, indices: Sequence[int]) -> None:
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"scene index must be in [0, {len(self)}), got {index}")
            if self._names[index] is None:
                self._pack(index)

    def _pack(self, index: int) -> None:
        scene = self.scene(index)
        self.images[index] = torch.from_numpy(self.preprocessing.image(scene.image))
        if scene.label_map is not None:
            self.label_maps[index] = torch.from_numpy(self.preprocessing.label_map(scene.label_map, self.min_area))
        self._names[index] = scene.name
        self._num_missing -= 1


def _consecutive(label_map: Any, name: str) -> NDArray[np.int32]:
    """`label_map` itself if its instances are 1..N, else renamed so.

    Raises:
        ValueError: it is no array of integers from 0 on.
    """
    if not isinstance(label_map, np.ndarray):
        raise ValueError(f"{name} must be a NumPy array of integers, got {type(label_map).__name__}")
    check_label_map(name, label_map)
    renamed = relabel(label_map)
    return label_map if label_map.dtype == np.int32 and np.array_equal(renamed, label_map) else renamed
