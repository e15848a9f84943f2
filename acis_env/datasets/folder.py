"""A folder of `<id>_rgb.png` and `<id>_label.png` pairs, the layout of CVPPP A1.

Minervini et al., "Finely-grained annotated datasets for image-based plant phenotyping", 2016."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.choice import SceneChoice
from acis_env.datasets.folder_files import PNG, Pair, find_pairs
from acis_env.datasets.folder_index import FolderIndex, known_or_found
from acis_env.datasets.preprocessing import resize_image, resize_label_map
from acis_env.datasets.roots import MissingSplit
from acis_env.datasets.scene import Scene
from acis_env.datasets.windows import Window
from acis_env.ops.labels import relabel
from acis_env.pictures import Reading
from acis_env.threads import map_in_threads

LARGEST_LABEL = 255
"""Label maps with none above are counted as they are, which takes half the time of renaming their instances first."""


class FolderScenes:
    """The scenes of a folder at their own resolution, sorted by id; a `SceneDataset`.

    Label maps are read once at construction, to count instances and to place crops, and are not kept. Images
    are decoded when a scene is asked for. A scene is named by its id, a crop `<id>@<y>,<x>,<side>`.
    With `labels="optional"`, an image without a label file is a scene whose `label_map` is None.

    Attributes:
        max_instances: instances in the fullest scene; not the limit given to the constructor.
        fingerprint: of names, times and lengths of all files, and of the options.
    """

    is_thread_safe = True
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
            ignore: labels of pixels that are neither background nor instance and count for nothing, such as 255, the
                void of Pascal VOC.
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
        self._choice = SceneChoice(
            crop, crop_size, crops_per_image, scale, min_instances, max_instances, min_area, seed
        )
        self.root = Path(root)
        self._labels_optional = labels == "optional"
        self._reading = Reading(percentiles, page, ignore, coloured_labels)
        self._pairs = find_pairs(self.root, ids, self._labels_optional)
        stamps = [sorted(pair.stamps) for pair in self._pairs.values()]
        parts = (str(self.root.resolve()), labels, self._choice, self._reading, stamps)
        self.fingerprint = hashlib.sha256(repr(parts).encode(errors="backslashreplace")).hexdigest()
        self._scenes, self.max_instances = known_or_found(self.fingerprint, len(self._pairs), self._find_scenes)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._scenes)

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, decoded anew; ValueError if its image is corrupt."""
        scene_id, window = self._scenes[index]
        pair = self._pairs[scene_id]
        image, label_map = self._read_image(pair), None
        if pair.label is not None:
            labels = self._scaled_labels(self._reading.label_map(pair.label, PNG))
            label_map = relabel(window.cut(labels), self._choice.min_area)
        suffix = "" if self._choice.crop is None else f"@{window.y},{window.x},{window.height}"
        return Scene(np.ascontiguousarray(window.cut(image)), label_map, scene_id + suffix)

    def __iter__(self) -> Iterator[Scene]:
        """All scenes in order."""
        return (self[index] for index in range(len(self)))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every scene; no image is decoded for it."""
        return [window.size for _, window in self._scenes]

    def _find_scenes(self) -> FolderIndex:
        scenes: list[tuple[str, Window]] = []
        counts_seen: set[int] = set()
        most = 0
        found = map_in_threads(self._look_at, list(self._pairs.items()))
        for scene_id, (windows, seen) in zip(self._pairs, found, strict=True):
            scenes += [(scene_id, window) for window in windows]
            counts_seen |= seen
            most = max(most, *windows.values(), 0)
        if not scenes:
            raise self._choice.nothing_left(self.root, counts_seen)
        return FolderIndex(scenes, most)

    def _look_at(self, item: tuple[str, Pair]) -> tuple[dict[Window, int], set[int]]:
        """Scenes of one pair with their numbers of instances, and the numbers of all parts that were looked at."""
        scene_id, pair = item
        assert pair.image is not None
        size = self._reading.size(pair.image, PNG)  # by its header, so that a wrong one is found before it is needed
        label_map = None
        if pair.label is not None:
            labels = self._reading.label_map(pair.label, PNG)
            if labels.shape != size:
                raise ValueError(
                    f"{pair.image} is {size[0]}x{size[1]} but its label map is "
                    f"{labels.shape[0]}x{labels.shape[1]} (height x width); they must be equal"
                )
            is_plain = self._choice.scale == 1 and labels.max(initial=0) <= LARGEST_LABEL
            label_map = labels if is_plain else self._scaled_labels(labels)
            if self._choice.min_instances > 0 and not (label_map > 0).any():
                found = "background (0) or ignored" if label_map.any() else "background (0)"
                raise ValueError(
                    f"{pair.label}: every pixel is {found}; pass min_instances=0 if scenes without instances are wanted"
                )
        seen: set[int] = set()
        return self._choice.windows(scene_id, self._choice.scaled(size), label_map, seen), seen

    def _read_image(self, pair: Pair) -> NDArray[np.uint8]:
        """Scaled image `[3, H, W]` uint8."""
        assert pair.image is not None
        image = np.ascontiguousarray(self._reading.picture(pair.image, PNG).transpose(2, 0, 1))
        return image if self._choice.scale == 1 else resize_image(image, self._choice.scaled(image.shape[1:]))

    def _scaled_labels(self, labels: NDArray[Any]) -> NDArray[np.int32]:
        """A label map at the size of scaled pictures `[H, W]`, labels 1..N without gaps, N of the whole picture."""
        return (
            relabel(labels) if self._choice.scale == 1 else resize_label_map(labels, self._choice.scaled(labels.shape))
        )


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
        raise MissingSplit(f"scenes {str(root)!r}: expected a subfolder {split!r} with the scenes of that split")
    return FolderScenes(root, **options)
