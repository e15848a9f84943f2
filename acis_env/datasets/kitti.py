"""Cars of KITTI, from any of the three layouts in which they are met (`kitti_layouts`).

Geiger et al., "Are we ready for autonomous driving? The KITTI Vision Benchmark Suite", CVPR 2012. The protocol is that
of Ren and Zemel, CVPR 2017, and Araslanov et al., CVPR 2019: training on crops, evaluation on whole images."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from acis_env.configs import is_count
from acis_env.datasets.folder_files import PNG, check_same_size
from acis_env.datasets.kitti_layouts import EXPECTED, CarFiles, find_layout
from acis_env.datasets.listed import Listed, keep_largest, stamp_of
from acis_env.datasets.roots import find_root
from acis_env.datasets.scene import Scene
from acis_env.datasets.windows import TRIES_PER_CROP, Window, anywhere
from acis_env.ops.labels import relabel
from acis_env.pictures import Reading
from acis_env.threads import map_in_threads

SPLITS = ("train", "val", "trainval", "test")
MOST_CARS = 16
"""Cars per scene in the published protocol."""
LICENCE = "CC BY-NC-SA 3.0: attribution, non-commercial, share alike"
CITATION = (
    "Geiger, Lenz, Urtasun: Are we ready for autonomous driving? The KITTI Vision Benchmark Suite. CVPR 2012; "
    "instances of the semantics release: Abu Alhaija et al., IJCV 2018"
)
SOURCE = (
    "https://www.cvlibs.net/datasets/kitti/eval_instance_seg.php?benchmark=instanceSeg2015 (200 images), or the "
    "archive with the published split that the authors of https://github.com/visinf/acis offer"
)


class KittiScenes:
    """Streets and their cars, at their own resolution, sorted by id; a `SceneDataset`.

    A scene is named by its id, a crop `<id>@<y>,<x>,<height>x<width>`. Pixels of cars whose instances nobody has told
    apart, and those that have no label, are `IGNORED`.

    Attributes:
        max_instances: the limit on cars.
        label_suffix: what follows the id in the names of label maps of this layout.
    """

    is_thread_safe = True

    def __init__(
        self,
        split: Literal["train", "val", "trainval", "test"] = "train",
        size: tuple[int, int] = (256, 768),
        root: str | Path | None = None,
        ids: Mapping[str, str | Sequence[str]] | None = None,
        crop: Sequence[int] | None = None,
        crops_per_image: int = 1,
        max_cars: int = MOST_CARS,
        min_cars: int | None = None,
        seed: int = 0,
    ) -> None:
        """Find the images of a split.

        Args:
            split: "train", "val", both ("trainval"), or "test".
            size: not used, as scenes keep their resolution; loaders of data sets get it.
            root: folder of the data; None for the folder in the environment variable ACIS_KITTI_ROOT.
            ids: the images of each split, by its name: ids, or a text file with one a line, whose path may be relative
                to `root`. By default the lists of the layout, or its rule.
            crop: height and width of windows that training scenes ("train" and "trainval") are cut to, at native scale;
                (256, 768) in the published protocol. The other splits show whole images.
            crops_per_image: number of windows of each training image. A window has a car, if its image has.
            max_cars: largest number of cars in a scene; where there are more, the largest stay and the others become
                `IGNORED`.
            min_cars: whole images with fewer are left out, for which their label maps are read once. None: 1 where no
                list says which images belong to the split; a list is taken at its word.
            seed: seed of the windows; those of an image depend on it and on the image's id alone.

        Raises:
            FileNotFoundError: there is no such folder, it has no layout that is known, or files are missing.
            ValueError: an argument is none of those above, a file is no PNG or of another kind than the layout has, an
                image and its label map differ in size, or an image is smaller than its crop.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        is_training = split in ("train", "trainval")
        self._crop = _check_crop(crop) if crop is not None and is_training else None
        if crops_per_image < 1 or (crops_per_image > 1 and crop is None):
            raise ValueError(f"crops_per_image must be 1, or more with a crop, got {crops_per_image}")
        if max_cars < 1:
            raise ValueError(f"max_cars must be at least 1, got {max_cars}")
        if not is_count(seed, least=0, most=2**63 - 1):
            raise ValueError(f"seed must be an int from 0 on, got {seed!r}")
        self.split, self.max_instances, self._seed = split, max_cars, seed
        layout = find_layout(find_root("kitti", root, EXPECTED, SOURCE), ids or {})
        self.label_suffix = layout.label_suffix
        files = layout.files(split)
        if min_cars is None:
            min_cars = 0 if split == "test" or layout.is_listed(split) else 1
        if min_cars > 0:
            counts = map_in_threads(self._count, files)
            files = [file for file, count in zip(files, counts, strict=True) if count is None or count >= min_cars]
        if not files:
            raise ValueError(f"{layout.root}: split {split!r} has no image with at least {min_cars} cars")
        self._files = [file for file in files for _ in range(crops_per_image if self._crop else 1)]
        self._crops_per_image = crops_per_image
        for file in files:
            self._check(file)

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every scene; no image is decoded for it."""
        if self._crop is not None:
            return [self._crop] * len(self)
        return map_in_threads(lambda file: Reading().size(file.image, PNG), self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`, decoded anew; ValueError if a file of it is corrupt."""
        file = self._files[index]
        image = Reading().picture(file.image, PNG).transpose(2, 0, 1)
        label_map = None if file.label is None else file.read(file.label)
        name = file.id
        if self._crop is not None:
            window = self._place(file, image.shape[1:], label_map, index % self._crops_per_image)
            image, label_map = window.cut(image), None if label_map is None else window.cut(label_map)
            name = f"{name}@{window.y},{window.x},{window.height}x{window.width}"
        if label_map is not None:
            label_map = keep_largest(relabel(label_map), self.max_instances)
        return Scene(np.ascontiguousarray(image), label_map, name)

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """Of names, times and lengths of all files, and of the options."""
        files = [
            (file.id, file.read.__name__, stamp_of(file.image), file.label and stamp_of(file.label))
            for file in self._files
        ]
        options = (self._crop, self._crops_per_image, self.max_instances, self._seed)
        return hashlib.sha256(repr((options, files)).encode(errors="backslashreplace")).hexdigest()

    def _count(self, file: CarFiles) -> int | None:
        """Number of cars of a whole image; None if it has no label map."""
        if file.label is None:
            return None
        label_map = file.read(file.label)
        return len(np.unique(label_map[label_map > 0]))

    def _check(self, file: CarFiles) -> None:
        height, width = check_same_size(file.image, file.label)
        if self._crop is not None and (height < self._crop[0] or width < self._crop[1]):
            raise ValueError(
                f"{file.image} is {height}x{width}, smaller than the crop of {self._crop[0]}x{self._crop[1]} (height x "
                "width); choose a smaller crop"
            )

    def _place(self, file: CarFiles, size: tuple[int, int], label_map: NDArray[np.int32] | None, number: int) -> Window:
        """Window `number` of an image: anywhere that has a car; else where the largest car is, if there is one."""
        assert self._crop is not None
        generator = np.random.default_rng([self._seed, zlib.crc32(file.id.encode(errors="surrogatepass")), number])
        for _ in range(TRIES_PER_CROP):
            window = anywhere(size, self._crop, generator)
            if label_map is None or (window.cut(label_map) > 0).any():
                return window
        assert label_map is not None
        if not (label_map > 0).any():
            return window
        pixels = np.argwhere(keep_largest(relabel(label_map), 1) == 1)
        middle = pixels[len(pixels) // 2]
        y, x = (int(np.clip(middle[i] - self._crop[i] // 2, 0, size[i] - self._crop[i])) for i in (0, 1))
        return Window(y, x, *self._crop)


def list_kitti(
    split: str, root: str | Path | None = None, *, ids: Mapping[str, str | Sequence[str]] | None = None
) -> list[Listed]:
    """All images of a split, by the names of files only; arguments and errors are those of `KittiScenes`."""
    layout = find_layout(find_root("kitti", root, EXPECTED, SOURCE), ids or {})
    return [
        Listed(
            name=file.id,
            image=file.image,
            files=(file.label or file.image,),
            labels=partial(_read_labels, file),
            variant=layout.about,
            may_be_empty=True,
            formats=PNG,
        )
        for file in layout.files(split)
    ]


def _read_labels(file: CarFiles) -> NDArray[np.int32] | None:
    return None if file.label is None else file.read(file.label)


def recognise_kitti(root: Path) -> str | None:
    """Which layout `root` has, if it has one."""
    try:
        return find_layout(root, {}).about
    except OSError:
        return None


def _check_crop(crop: Sequence[int]) -> tuple[int, int]:
    if isinstance(crop, str) or len(crop) != 2 or not all(isinstance(side, int) and side > 0 for side in crop):
        raise ValueError(f"crop must be (height, width), two positive numbers of pixels, got {crop!r}")
    return crop[0], crop[1]
