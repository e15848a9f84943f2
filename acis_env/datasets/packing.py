"""How one scene of a data set is packed: checked, and brought to the size of the networks."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import cv2
import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from acis_env.augment import label_dtype
from acis_env.datasets.preprocessing import Preprocessing
from acis_env.datasets.scene import PackedScene, Scene, SceneDataset
from acis_env.metrics import check_ground_truth
from acis_env.ops.labels import relabel


@dataclass(frozen=True)
class ScenePacker:
    """Packs the scenes of a data set, one at a time and on the host."""

    dataset: SceneDataset
    num_scenes: int  # S
    preprocessing: Preprocessing
    min_area: int  # instances of fewer pixels become background, unless that would take the last one
    max_instances: int  # of a scene, at least 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width `(H, W)` of packed scenes."""
        return self.preprocessing.size

    @property
    def label_dtype(self) -> torch.dtype:
        """Type of packed label maps, the smallest that holds all labels."""
        return label_dtype(self.max_instances)

    @property
    def host_dtype(self) -> np.dtype[Any]:
        """`label_dtype`, as NumPy calls it."""
        return np.dtype(str(self.label_dtype).removeprefix("torch."))

    @property
    def scene_bytes(self) -> int:
        """Bytes of one packed scene."""
        return self.size[0] * self.size[1] * (3 + self.label_dtype.itemsize)

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may pack scenes at once, which the data set has to promise."""
        return getattr(self.dataset, "is_thread_safe", False) is True

    def scene(self, index: int) -> Scene:
        """Scene `index` of the data set, at its native resolution, with labels 1..N without gaps.

        Raises:
            ValueError: it is no scene, its labels are not integers from -1 on, or they are more than promised.
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

    def pack(self, index: int) -> PackedScene:
        """Scene `index` at `size`, its label map zero if it is not known; ValueError as `scene`."""
        scene = self.scene(index)
        try:
            image = self.preprocessing.image(scene.image)
        except ValueError as error:  # a picture too thin to be enlarged
            raise ValueError(f"{scene.name}: {error}") from error
        if scene.label_map is None:
            return PackedScene(image, np.zeros(self.size, self.host_dtype), scene.name)
        label_map = self.preprocessing.label_map(scene.label_map, self.min_area)
        return PackedScene(image, label_map.astype(self.host_dtype), scene.name)

    def identity(self) -> dict[str, Any] | None:
        """All that decides what packed scenes are, as JSON; None if data set or preprocessing do not say what they are.

        Other versions of the libraries may decode or round otherwise.
        """
        fingerprint = getattr(self.dataset, "fingerprint", None)
        if not isinstance(fingerprint, str) or not is_dataclass(self.preprocessing):
            return None
        return {
            "fingerprint": fingerprint,
            "preprocessing": repr(self.preprocessing),
            "min_area": self.min_area,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        }


def _consecutive(label_map: Any, name: str) -> NDArray[np.int32]:
    """`label_map` itself if its instances are 1..N, else renamed so.

    Raises:
        ValueError: it is no array of integers from -1 on.
    """
    if not isinstance(label_map, np.ndarray):
        raise ValueError(f"{name} must be a NumPy array of integers, got {type(label_map).__name__}")
    check_ground_truth(name, label_map)
    renamed = relabel(label_map)
    return label_map if label_map.dtype == np.int32 and np.array_equal(renamed, label_map) else renamed
