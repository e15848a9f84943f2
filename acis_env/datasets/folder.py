"""A folder of `<id>_rgb.png` and `<id>_label.png` pairs, the layout of CVPPP A1.

Minervini et al., "Finely-grained annotated datasets for image-based plant phenotyping", 2016."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.folder_files import Pair, find_pairs
from acis_env.datasets.preprocessing import resize_image, resize_label_map
from acis_env.datasets.scene import Scene
from acis_env.ops.labels import label_areas, relabel
from acis_env.pictures import Reading

TRIES_PER_CROP = 20
"""Windows drawn for one random crop before it is given up."""
MOST_INDICES = 16
"""Folders of which a process remembers the scenes, so that many environments read the label maps once."""
PNG = ("PNG",)


@dataclass(frozen=True)
class _Window:
    """The part of a (scaled) picture that is one scene."""

    y: int
    x: int
    height: int
    width: int

    def cut(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Pixels of `picture` `[..., H, W]` inside of the window."""
        return picture[..., self.y : self.y + self.height, self.x : self.x + self.width]


_Index = tuple[list[tuple[str, _Window]], int]
"""Scenes of a folder, and the number of instances in the fullest."""
_INDICES: dict[tuple[Any, ...], _Index] = {}


class FolderScenes:
    """The scenes of a folder at their own resolution, sorted by id; a `SceneDataset`.

    Label maps are read once at construction, to count instances and to place crops, and are not kept. Images
    are decoded when a scene is asked for. A scene is named by its id, a crop `<id>@<y>,<x>,<side>`.
    With `labels="optional"`, an image without a label file is a scene whose `label_map` is None.

    Attributes:
        max_instances: instances in the fullest scene; not the limit given to the constructor.
    """

    max_instances: int

    def __init__(
        self,
        root: str | Path,
        *,
        labels: Literal["required", "optional"] = "required",
        crop: Literal["centre", "random"] | None = None,
        crop_size: int | tuple[int, int] | None = None,
        crops_per_image: int = 1,
        scale: float = 1.0,
        min_instances: int = 1,
        max_instances: int | None = None,
        min_area: int = 1,
        seed: int = 0,
        ids: Collection[str] | None = None,
        ignore: int | Collection[int] = (),
        coloured_labels: bool = False,
        percentiles: Sequence[float] | None = None,
        page: int | None = None,
    ) -> None:
        """Read the label maps below `root` and choose the scenes.

        Args:
            root: the folder. Labels are grey or palette PNG (the palette's index is the label), 0 = background; images
                are PNG of any kind that `acis_env.pictures` describes.
            labels: whether an image without a label file is an error, or a scene without a label map. Such a scene is
                never left out for its number of instances, which nobody knows.
            crop: the whole picture, its central square, or squares anywhere.
            crop_size: side of the square in px; for random crops also the smallest and largest side, where
                sides beyond a picture's shorter one are cut to it.
            crops_per_image: random crops wanted of each image. They differ; an image has fewer if draws of
                suitable ones keep failing.
            scale: factor on both sides of the picture, before cropping.
            min_instances: scenes with fewer are left out.
            max_instances: scenes with more are left out.
            min_area: instances of fewer pixels in the scene become background and don't count.
            seed: seed of random crops. Those of an image depend on it and on the image's id alone.
            ids: the images to use; other files are not looked at. All by default.
            ignore: labels that become background, such as 255, the void of Pascal VOC.
            coloured_labels: whether label maps may be in colours, one per instance, and black the background.
            percentiles: two percentiles of an image's own values that become 0 and 255, such as (0.1, 99.9).
            page: page of images that have several, from 0.

        Raises:
            FileNotFoundError: no such folder, no pair in it, or half a pair (but see `labels`).
            ValueError: an option is out of range; a file is no PNG of the kind above, or image and label
                differ in size; a picture is smaller than its crop; a label map has no instance although
                `min_instances` is not 0; or no scene is left.
        """
        if labels not in ("required", "optional"):
            raise ValueError(f'labels must be "required" or "optional", got {labels!r}')
        self._sides = _check_crop(crop, crop_size, crops_per_image)
        _check_limits(scale, min_instances, max_instances, min_area)
        self.root = Path(root)
        self._crop = crop
        self._crops_per_image = crops_per_image
        self._scale = scale
        self._min_instances = min_instances
        self._instance_limit = max_instances
        self._min_area = min_area
        self._seed = seed
        self._labels_optional = labels == "optional"
        self._reading = Reading(percentiles, page, ignore, coloured_labels)
        self._pairs = find_pairs(self.root, ids, self._labels_optional)
        stamps = hashlib.sha256(repr([pair.stamps for pair in self._pairs.values()]).encode()).digest()
        options = (crop, self._sides, crops_per_image, scale, min_instances, max_instances, min_area, seed, labels)
        key = (self.root.resolve(), *options, repr(self._reading), stamps)
        self._scenes, self.max_instances = _known_or_chosen(key, self._choose_scenes)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._scenes)

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, decoded anew; ValueError if its image is corrupt."""
        scene_id, window = self._scenes[index]
        pair = self._pairs[scene_id]
        image, label_map = self._read_image(pair), self._read_label_map(pair)
        if label_map is not None:
            label_map = relabel(window.cut(label_map), self._min_area)
        suffix = "" if self._crop is None else f"@{window.y},{window.x},{window.height}"
        return Scene(np.ascontiguousarray(window.cut(image)), label_map, scene_id + suffix)

    def __iter__(self) -> Iterator[Scene]:
        """All scenes in order."""
        return (self[index] for index in range(len(self)))

    def _choose_scenes(self) -> _Index:
        scenes: list[tuple[str, _Window]] = []
        counts_seen: set[int] = set()
        most = 0
        for scene_id, pair in self._pairs.items():
            size = self._check_sizes(pair)
            label_map = self._read_label_map(pair)
            if label_map is not None and self._min_instances > 0 and not label_map.any():
                raise ValueError(
                    f"{pair.label}: every pixel is background (0); "
                    "pass min_instances=0 if scenes without instances are wanted"
                )
            windows = self._choose_windows(scene_id, self._scaled(size), label_map, counts_seen)
            scenes += [(scene_id, window) for window in windows]
            most = max(most, *windows.values(), 0)
        if not scenes:
            limit = "any number" if self._instance_limit is None else self._instance_limit
            raise ValueError(
                f"{self.root}: no scene has {self._min_instances} to {limit} instances of at least "
                f"{self._min_area} px; seen were {min(counts_seen)} to {max(counts_seen)}"
            )
        return scenes, most

    def _check_sizes(self, pair: Pair) -> tuple[int, int]:
        """Height and width of an image by its header, so that a wrong one is found before it is needed."""
        assert pair.image is not None
        size = self._reading.size(pair.image, PNG)
        if pair.label is not None and (label_size := Reading().size(pair.label, PNG)) != size:
            raise ValueError(
                f"{pair.image} is {size[0]}x{size[1]} but its label map is "
                f"{label_size[0]}x{label_size[1]} (height x width); they must be equal"
            )
        return size

    def _choose_windows(
        self, scene_id: str, size: tuple[int, int], label_map: NDArray[np.int32] | None, counts_seen: set[int]
    ) -> dict[_Window, int]:
        """Windows of one picture within the limits, each with its number of instances, 0 where that is not known."""
        generator = np.random.default_rng([self._seed, zlib.crc32(scene_id.encode())])
        chosen: dict[_Window, int] = {}
        for _ in range(self._crops_per_image):
            for _ in range(TRIES_PER_CROP if self._crop == "random" else 1):
                window = self._place_window(scene_id, size, generator)
                if label_map is None:
                    count, wanted = 0, True
                else:
                    count = int((label_areas(window.cut(label_map))[1:] >= self._min_area).sum())
                    counts_seen.add(count)
                    wanted = self._is_wanted(count)
                if wanted and window not in chosen:
                    chosen[window] = count
                    break
        return chosen

    def _is_wanted(self, count: int) -> bool:
        too_many = self._instance_limit is not None and count > self._instance_limit
        return count >= self._min_instances and not too_many

    def _place_window(self, scene_id: str, shape: tuple[int, ...], generator: np.random.Generator) -> _Window:
        height, width = shape
        if self._crop is None:
            return _Window(0, 0, height, width)
        smallest, largest = self._sides
        if smallest > min(height, width):
            raise ValueError(
                f"{scene_id}: a crop of {smallest} px does not fit into the picture of {height}x{width} "
                f"(height x width, after scale={self._scale}); choose a smaller crop_size"
            )
        if self._crop == "centre":
            return _Window((height - smallest) // 2, (width - smallest) // 2, smallest, smallest)
        side = int(generator.integers(smallest, min(largest, height, width) + 1))
        y, x = (int(generator.integers(length - side + 1)) for length in (height, width))
        return _Window(y, x, side, side)

    def _read_image(self, pair: Pair) -> NDArray[np.uint8]:
        """Scaled image `[3, H, W]` uint8."""
        assert pair.image is not None
        image = np.ascontiguousarray(self._reading.picture(pair.image, PNG).transpose(2, 0, 1))
        return image if self._scale == 1 else resize_image(image, self._scaled(image.shape[1:]))

    def _read_label_map(self, pair: Pair) -> NDArray[np.int32] | None:
        """Scaled label map `[H, W]`, labels 1..N without gaps, N of the whole picture; None if it has no file."""
        if pair.label is None:
            return None
        labels = self._reading.label_map(pair.label, PNG)
        return relabel(labels) if self._scale == 1 else resize_label_map(labels, self._scaled(labels.shape))

    def _scaled(self, shape: tuple[int, ...]) -> tuple[int, int]:
        height, width = (max(1, round(length * self._scale)) for length in shape)
        return height, width


def open_folder(split: str, size: tuple[int, int], root: str | Path, **options: Any) -> FolderScenes:
    """Open the subfolder `split` of `root`, or `root` itself for "train" if it has no such subfolder.

    Args:
        split: "train", "val" or "test".
        size: not used, as scenes keep their resolution; loaders of data sets get it.
        root: the folder.
        options: keyword arguments of `FolderScenes`.

    Raises:
        FileNotFoundError: there is no such split.
    """
    root = Path(root)
    if (root / split).is_dir():
        return FolderScenes(root / split, **options)
    if root.is_dir() and split != "train":
        raise FileNotFoundError(f"scenes {str(root)!r}: expected a subfolder {split!r} with the scenes of that split")
    return FolderScenes(root, **options)


def _known_or_chosen(key: tuple[Any, ...], choose: Callable[[], _Index]) -> _Index:
    """What `choose` finds in the label maps of a folder, from memory if nothing has changed since it was last asked."""
    if key not in _INDICES:
        if len(_INDICES) >= MOST_INDICES:
            del _INDICES[next(iter(_INDICES))]
        _INDICES[key] = choose()
    return _INDICES[key]


def _check_crop(crop: str | None, crop_size: int | tuple[int, int] | None, crops_per_image: int) -> tuple[int, int]:
    """Smallest and largest side of a crop; (0, 0) without crops."""
    if crop not in (None, "centre", "random"):
        raise ValueError(f'crop must be None, "centre" or "random", got {crop!r}')
    if crops_per_image < 1 or (crops_per_image > 1 and crop != "random"):
        raise ValueError(f'crops_per_image must be 1, or more with crop="random", got {crops_per_image}')
    if (crop is None) != (crop_size is None):
        raise ValueError(f"crop and crop_size go together, got crop={crop!r}, crop_size={crop_size}")
    if crop_size is None:
        return 0, 0
    if crop == "centre" and not isinstance(crop_size, int):
        raise ValueError(f'crop_size must be one side in px with crop="centre", got {crop_size}')
    smallest, largest = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    if not 1 <= smallest <= largest:
        raise ValueError(f"crop_size must be a side >= 1 px or (smallest, largest) of them, got {crop_size}")
    return smallest, largest


def _check_limits(scale: float, min_instances: int, max_instances: int | None, min_area: int) -> None:
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be positive, got {scale}")
    if min_instances < 0:
        raise ValueError(f"min_instances must be at least 0, got {min_instances}")
    if max_instances is not None and max_instances < min_instances:
        raise ValueError(f"max_instances must be at least min_instances={min_instances}, got {max_instances}")
    if min_area < 1:
        raise ValueError(f"min_area must be at least 1 px, got {min_area}")
