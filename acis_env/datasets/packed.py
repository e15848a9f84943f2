"""A data set as tensors of one size on one device, ready for batches without a trip to the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.augment import label_dtype
from acis_env.datasets.scene import Scene, SceneDataset, relabel
from acis_env.networks import parse_size


class PackedScenes:
    """All scenes of a data set, resized to one picture size and kept on a device.

    A scene is decoded, resized and copied the first time it is asked for. Once every scene has been,
    gathering a batch by indices that lie on the device makes the host wait for nothing.

    Attributes:
        dataset: the scenes at their native resolution.
        images: `[S, 3, H, W]` uint8; zero for scenes not asked for yet, so read it through `gather`.
        label_maps: `[S, H, W]`, of `label_dtype`, labels 1..N without gaps; also filled on demand.
        max_instances: that of `dataset`; small instances are lost in resizing, none are added.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        size: tuple[int, int],
        device: str | torch.device = "cpu",
        min_area: int = 4,
    ) -> None:
        """Reserve memory for `dataset`; nothing is decoded yet.

        Args:
            dataset: S scenes of any sizes.
            size: height and width of the packed pictures, multiples of 32.
            device: where the tensors live.
            min_area: instances of fewer pixels after resizing become background, unless that would take
                the last one: then the largest stays.

        Raises:
            ValueError: `size` is not two positive multiples of 32, or the data set is empty.
        """
        if len(dataset) == 0:
            raise ValueError("dataset must hold at least one scene, got none")
        self.dataset = dataset
        self.size = parse_size(size)
        self.device = torch.device(device)
        self.min_area = min_area
        self.max_instances = dataset.max_instances
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

    def scene(self, index: int) -> Scene:
        """Scene `index` of the data set, at its native resolution."""
        return self.dataset[index]

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
        scene = self.dataset[index]
        label_map = resize_label_map(scene.label_map, self.size, self.min_area)
        if label_map.max(initial=0) > self.max_instances:
            raise ValueError(
                f"{scene.name}: the data set promises at most {self.max_instances} instances, "
                f"this scene has {label_map.max()}; is max_instances of the data set right?"
            )
        self.images[index] = torch.from_numpy(resize_image(scene.image, self.size))
        self.label_maps[index] = torch.from_numpy(label_map)
        self._names[index] = scene.name
        self._num_missing -= 1


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize `image` `[3, h, w]` to `size`, `[3, H, W]` uint8: shrinking averages, growing interpolates."""
    if image.shape[1:] == size:
        return image.copy()
    shrinks = size[0] <= image.shape[1] and size[1] <= image.shape[2]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    resized = cv2.resize(pixels, (size[1], size[0]), interpolation=interpolation)
    return np.ascontiguousarray(resized.transpose(2, 0, 1), dtype=np.uint8)


def resize_label_map(label_map: NDArray[Any], size: tuple[int, int], min_area: int = 1) -> NDArray[np.int32]:
    """Resize `label_map` `[h, w]` to `size` by the nearest pixel centre and rename its instances to 1..N.

    Args:
        label_map: `[h, w]` integers, 0 = background.
        size: `(H, W)`.
        min_area: instances of fewer pixels at the new size become background.

    Returns:
        `[H, W]` int32. It has an instance if `label_map` has one: should none be large enough, every pixel
        that the largest touches is kept.
    """
    height, width = label_map.shape
    rows = (2 * np.arange(size[0]) + 1) * height // (2 * size[0])
    columns = (2 * np.arange(size[1]) + 1) * width // (2 * size[1])
    resized = relabel(label_map[rows[:, None], columns], min_area)
    if resized.any() or not label_map.any():
        return resized
    touched_rows, touched_columns = np.nonzero(label_map == _largest_label(label_map))
    resized[touched_rows * size[0] // height, touched_columns * size[1] // width] = 1
    return resized


def _largest_label(label_map: NDArray[Any]) -> int:
    labels, areas = np.unique(label_map[label_map != 0], return_counts=True)
    return int(labels[areas.argmax()])
