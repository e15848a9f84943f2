"""A scene: one image and its instances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from acis_env.ops.labels import IGNORED, relabel

__all__ = ["IGNORED", "PackedScene", "Scene", "SceneDataset", "relabel"]


@dataclass(frozen=True)
class Scene:
    """One RGB image with the label map of its instances, where that is known."""

    image: NDArray[np.uint8]  # [3, H, W] in [0, 255], RGB
    label_map: NDArray[np.int32] | None  # [H, W], -1 = ignored, 0 = background, instances 1..N; None: not known
    name: str
    foreground: NDArray[np.bool_] | None = None  # [H, W], the official one, given for test images, too; None: not given

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[0] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"{self.name}: image must be uint8 [3, H, W], got {self.image.dtype} {list(self.image.shape)}"
            )
        if self.label_map is not None and self.label_map.shape != self.image.shape[1:]:
            raise ValueError(
                f"{self.name}: image is {list(self.image.shape[1:])} but label map is "
                f"{list(self.label_map.shape)} (height, width); they must be equal"
            )
        if self.foreground is not None and self.foreground.shape != self.image.shape[1:]:
            raise ValueError(
                f"{self.name}: image is {list(self.image.shape[1:])} but foreground is "
                f"{list(self.foreground.shape)} (height, width); they must be equal"
            )

    def require_label_map(self) -> NDArray[np.int32]:
        """The label map `[H, W]`, for whatever cannot do without it.

        Raises:
            ValueError: it is not known.
        """
        if self.label_map is None:
            raise ValueError(f"{self.name}: expected a scene with a label map, which evaluation and training need")
        return self.label_map

    @property
    def num_instances(self) -> int:
        """Number of instances `N`.

        Raises:
            ValueError: the label map is not known.
        """
        return int(self.require_label_map().max(initial=0))


class PackedScene(NamedTuple):
    """A scene as it is packed: at the size of the networks, its labels in the smallest type for the data set."""

    image: NDArray[np.uint8]  # [3, H, W] in [0, 255], RGB
    label_map: NDArray[Any]  # [H, W], -1 = ignored, 0 = background or not known, instances 1..N
    name: str


class SceneDataset(Protocol):
    """A sized, indexable collection of scenes. `dataset[i]` is the same scene at every call.

    A data set may promise more, by two further attributes, and is then faster where scenes are streamed:

    - `is_thread_safe = True`: several threads may ask for scenes at once, so they are decoded ahead of need.
    - `fingerprint`, a str: data sets with the same one have the same scenes, in every process, so scenes that were
      packed are kept on disk. It has to change with the files and options that scenes are made of.
    """

    @property
    def max_instances(self) -> int:
        """Instances in the fullest scene, or a bound on them: the length `N` to which scenes are padded.

        Zero if no scene has a label map.
        """
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene: ...

    def __iter__(self) -> Iterator[Scene]: ...
