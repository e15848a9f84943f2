"""A folder of `<id>_rgb.png` and `<id>_label.png` pairs, the layout of CVPPP A1.

Minervini et al., "Finely-grained annotated datasets for image-based plant phenotyping", 2016."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acis_env.datasets.preprocessing import resize_image, resize_label_map
from acis_env.datasets.scene import Scene, relabel

IMAGE_SUFFIX = "_rgb.png"
LABEL_SUFFIX = "_label.png"
IMAGE_MODES = ("RGB", "RGBA", "L")
# OpenCV would expand a palette to colours; Pillow keeps its indices, which are the labels.
LABEL_MODES = ("P", "L", "I;16", "I")
TRIES_PER_CROP = 20
"""Windows drawn for one random crop before it is given up."""


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
    ) -> None:
        """Read the label maps below `root` and choose the scenes.

        Args:
            root: the folder. Labels are grey or palette PNG (the palette's index is the label), 8 or 16 bit,
                0 = background; images are 8-bit RGB, RGBA (alpha is dropped) or grey.
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
        self._scenes = self._choose_scenes(_find_ids(self.root, ids, self._labels_optional))

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._scenes)

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, decoded anew; ValueError if its image is corrupt."""
        scene_id, window = self._scenes[index]
        image, label_map = self._read_image(scene_id), self._read_label_map(scene_id)
        if label_map is not None:
            label_map = relabel(window.cut(label_map), self._min_area)
        suffix = "" if self._crop is None else f"@{window.y},{window.x},{window.height}"
        return Scene(np.ascontiguousarray(window.cut(image)), label_map, scene_id + suffix)

    def __iter__(self) -> Iterator[Scene]:
        """All scenes in order."""
        return (self[index] for index in range(len(self)))

    def _choose_scenes(self, ids: Sequence[str]) -> list[tuple[str, _Window]]:
        scenes: list[tuple[str, _Window]] = []
        counts_seen: set[int] = set()
        self.max_instances = 0
        for scene_id in ids:
            size = _check_headers(self.root / (scene_id + IMAGE_SUFFIX), self.root / (scene_id + LABEL_SUFFIX))
            label_map = self._read_label_map(scene_id)
            if label_map is not None and self._min_instances > 0 and not label_map.any():
                raise ValueError(
                    f"{self.root / (scene_id + LABEL_SUFFIX)}: every pixel is background (0); "
                    "pass min_instances=0 if scenes without instances are wanted"
                )
            windows = self._choose_windows(scene_id, self._scaled(size), label_map, counts_seen)
            scenes += [(scene_id, window) for window in windows]
            self.max_instances = max(self.max_instances, *windows.values(), 0)
        if not scenes:
            limit = "any number" if self._instance_limit is None else self._instance_limit
            raise ValueError(
                f"{self.root}: no scene has {self._min_instances} to {limit} instances of at least "
                f"{self._min_area} px; seen were {min(counts_seen)} to {max(counts_seen)}"
            )
        return scenes

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
                    count = int((np.bincount(window.cut(label_map).ravel())[1:] >= self._min_area).sum())
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

    def _read_image(self, scene_id: str) -> NDArray[np.uint8]:
        """Scaled image `[3, H, W]` uint8."""
        pixels = _read_png(self.root / (scene_id + IMAGE_SUFFIX), IMAGE_MODES)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        image: NDArray[np.uint8] = np.ascontiguousarray(pixels[..., :3].transpose(2, 0, 1), dtype=np.uint8)
        return image if self._scale == 1 else resize_image(image, self._scaled(image.shape[1:]))

    def _read_label_map(self, scene_id: str) -> NDArray[np.int32] | None:
        """Scaled label map `[H, W]`, labels 1..N without gaps, N of the whole picture; None if it has no file."""
        path = self.root / (scene_id + LABEL_SUFFIX)
        if self._labels_optional and not path.exists():
            return None
        labels = _read_png(path, LABEL_MODES)
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


def _find_ids(root: Path, ids: Collection[str] | None, labels_optional: bool) -> list[str]:
    """Sorted ids of all pairs in `root`, or `ids` if all of these have one; an image will do if labels are optional."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; root must hold <id>{IMAGE_SUFFIX}, <id>{LABEL_SUFFIX}")
    with_image = {path.name.removesuffix(IMAGE_SUFFIX) for path in root.glob(f"*{IMAGE_SUFFIX}")}
    with_label = {path.name.removesuffix(LABEL_SUFFIX) for path in root.glob(f"*{LABEL_SUFFIX}")}
    if not with_image | with_label:
        raise FileNotFoundError(f"{root} has no pair <id>{IMAGE_SUFFIX}, <id>{LABEL_SUFFIX}")
    wanted = sorted(with_image | with_label if ids is None else set(ids))
    if not wanted:
        raise ValueError("ids must name at least one image, got none")
    for scene_id in wanted:
        if scene_id not in with_label and not (labels_optional and scene_id in with_image):
            missing = "has no label" if scene_id in with_image else "has neither image nor label"
            raise FileNotFoundError(f"{scene_id} {missing}: {root / (scene_id + LABEL_SUFFIX)} does not exist")
        if scene_id not in with_image:
            raise FileNotFoundError(f"{scene_id} has no image: {root / (scene_id + IMAGE_SUFFIX)} does not exist")
    return wanted


def _check_headers(image_path: Path, label_path: Path) -> tuple[int, int]:
    """Height and width of an image by its header, so that a wrong one is found before it is needed."""
    with _open_png(image_path) as image:
        _check_mode(image_path, image.mode, IMAGE_MODES)
        size = (image.height, image.width)
    if label_path.exists():
        with _open_png(label_path) as labels:
            if (labels.height, labels.width) != size:
                raise ValueError(
                    f"{image_path} is {size[0]}x{size[1]} but its label map is "
                    f"{labels.height}x{labels.width} (height x width); they must be equal"
                )
    return size


def _read_png(path: Path, modes: Sequence[str]) -> NDArray[Any]:
    """Pixels `[H, W]` or `[H, W, C]` of `path` as stored."""
    with _open_png(path) as picture:
        _check_mode(path, picture.mode, modes)
        try:
            picture.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path} cannot be decoded as PNG, is it damaged? ({error})") from error
        return np.array(picture)


def _open_png(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=["PNG"])
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reports a broken chunk as a SyntaxError
        raise ValueError(f"{path} cannot be opened as PNG, is it damaged? ({error})") from error


def _check_mode(path: Path, mode: str, modes: Sequence[str]) -> None:
    if mode not in modes:
        kind = "an 8-bit RGB, RGBA or grey image" if modes is IMAGE_MODES else "one label per pixel, grey or palette"
        raise ValueError(f"{path} must be {kind} (Pillow's {', '.join(modes)}), got {mode}")


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
