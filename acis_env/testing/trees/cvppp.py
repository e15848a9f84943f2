"""Trees in the forms of the CVPPP Leaf Segmentation Challenge, with drawn plants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets.cvppp import A1_TEST, A1_TRAINING
from acis_env.datasets.leaves import Leaves
from acis_env.datasets.scene import Scene
from acis_env.testing.trees.files import coloured, new_tree, write_png

Parts = dict[str, dict[str, dict[str, Scene]]]
"""Scenes by part ("training", "testing"), subset and plant."""

OFFICIAL_SIZES = {"A1": (530, 500), "A2": (530, 565), "A3": (2048, 2448), "A4": (441, 441)}
LEAVES = {"A1": (11, 20), "A2": (5, 12), "A3": (3, 9), "A4": (8, 20)}
"""Fewest and most leaves of a plant."""
OTHERS = {"A2": ((1, 4), (2,)), "A3": ((1, 9), (2,)), "A4": ((862, 864), (863,))}
"""Numbers of training and test plants; those of A4 have four digits."""
SMALLEST_SIDE = 60
"""In smaller pictures 20 leaves cannot be told apart."""
PALETTE = np.random.default_rng(0).integers(30, 226, (256, 3)).astype(np.uint8)
PALETTE[0] = 0
# Read as grey, labels 2 and 3 are the same, and 4 and 5 are of one colour: only the index tells them apart.
PALETTE[2:6] = [[100, 0, 0], [0, 51, 0], [60, 140, 60], [60, 140, 60]]


def write_cvppp(
    folder: str | Path,
    form: Literal["png", "png-flat", "hdf5"] = "png",
    plants: int | None = None,
    size: tuple[int, int] = (133, 125),
    labels: Literal["palette", "rgb", "rgba", "16-bit"] = "palette",
    truth: bool = False,
    seed: int = 0,
) -> dict[str, Scene]:
    """Write subsets A1 to A5.

    Args:
        folder: new or empty.
        form: the PNG release with the level `training` or without, or the HDF5 release.
        plants: number of training plants of A1, from the first; by default all 128, as a loader expects.
        size: height and width of A1's pictures, (530, 500) in the original; the other subsets have their own.
        labels: how the PNG release holds label maps; official are palettes.
        truth: write the labels of test plants, which are not public.
        seed: another set of plants for every other number.

    Returns:
        All scenes by name; those of the test set have a label map if `truth` has been written.

    Raises:
        ValueError: the folder is not empty, an argument is none of those above, or a side is below 60 px.
    """
    if form not in ("png", "png-flat", "hdf5"):
        raise ValueError(f"form must be png, png-flat or hdf5, got {form!r}")
    if labels not in ("palette", "rgb", "rgba", "16-bit"):
        raise ValueError(f"labels must be palette, rgb, rgba or 16-bit, got {labels!r}")
    if min(size) < SMALLEST_SIDE:
        raise ValueError(f"size must be (height, width), each at least {SMALLEST_SIDE}, got {size}")
    root, parts = new_tree(folder), _draw(plants, size, seed)
    for part, subsets in parts.items():
        has_labels = part == "training" or truth
        if form == "hdf5":
            _write_hdf5(root, part, subsets, has_labels)
        else:
            place = root if form == "png-flat" and part == "training" else root / part
            _write_pngs(place, subsets, has_labels, labels, np.random.default_rng(seed))
    return {
        scene.name: scene if part == "training" or truth else replace(scene, label_map=None)
        for part, subsets in parts.items()
        for scenes in subsets.values()
        for scene in scenes.values()
    }


def _draw(plants: int | None, size: tuple[int, int], seed: int) -> Parts:
    parts: Parts = {"training": {}, "testing": {}}
    for number, subset in enumerate(OFFICIAL_SIZES):
        own = tuple(max(SMALLEST_SIDE, size[i] * OFFICIAL_SIZES[subset][i] // OFFICIAL_SIZES["A1"][i]) for i in (0, 1))
        training, test = (A1_TRAINING[:plants], A1_TEST) if subset == "A1" else OTHERS[subset]
        digits = 4 if subset == "A4" else 3
        for part, split, numbers in (("training", "train", training), ("testing", "test", test)):
            names = [f"plant{plant:0{digits}d}" for plant in numbers]
            few, many = LEAVES[subset]
            drawn = Leaves(split, (own[0], own[1]), few, many, len(names), seed=10 * seed + number)
            scenes = {name: _official(scene, f"{subset}/{name}") for name, scene in zip(names, drawn, strict=True)}
            first = names[0]
            scenes[first] = _cut_a_leaf(scenes[first])
            parts[part][subset] = scenes
    mixture = [next(iter(scenes.values())) for scenes in parts["testing"].values()]
    names = [f"plant{number:03d}" for number in range(1, len(mixture) + 1)]
    parts["testing"]["A5"] = {
        name: replace(scene, name=f"A5/{name}") for name, scene in zip(names, mixture, strict=True)
    }
    return parts


def _official(scene: Scene, name: str) -> Scene:
    return replace(scene, name=name, foreground=scene.require_label_map() > 0)


def _cut_a_leaf(scene: Scene) -> Scene:
    """Lay a stalk over the largest leaf, so that it consists of two pieces."""
    label_map, image = scene.require_label_map().copy(), scene.image.copy()
    areas = np.bincount(label_map.ravel())[1:]
    largest, smallest = 1 + int(areas.argmax()), 1 + int(areas.argmin())
    rows, columns = np.nonzero(label_map == largest)
    is_tall = np.ptp(rows) > np.ptp(columns)
    along = rows if is_tall else columns
    stalk = np.abs(along - np.median(along)) <= max(1, np.ptp(along) // 12)
    image[:, rows[stalk], columns[stalk]] = np.median(image[:, label_map == smallest], axis=1)[:, None].astype(np.uint8)
    label_map[rows[stalk], columns[stalk]] = smallest
    return replace(scene, image=image, label_map=label_map)


def _write_pngs(
    place: Path, subsets: dict[str, dict[str, Scene]], has_labels: bool, labels: str, generator: np.random.Generator
) -> None:
    for subset, scenes in subsets.items():
        for name, scene in scenes.items():
            start = place / subset / name
            label_map = scene.require_label_map()
            write_png(_with(start, "rgb"), _rgba(scene))
            write_png(_with(start, "fg"), _foreground(scene), PALETTE)
            if has_labels:
                _write_labels(_with(start, "label"), label_map, labels, generator)
                write_png(_with(start, "centers"), _centres(label_map), PALETTE)
        if has_labels:
            lines = [f"{name}_rgb.png, {scene.num_instances}\n" for name, scene in scenes.items()]
            (place / subset / f"{subset}.csv").write_text("".join(lines))
        (place / subset / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def _write_labels(path: Path, label_map: NDArray[np.int32], labels: str, generator: np.random.Generator) -> None:
    if labels == "palette":
        write_png(path, label_map.astype(np.uint8), PALETTE)
    elif labels == "16-bit":
        write_png(path, label_map.astype(np.uint16))
    else:
        pixels = coloured(label_map, generator)
        opaque = np.full_like(pixels[..., :1], 255)
        write_png(path, np.concatenate([pixels, opaque], axis=2) if labels == "rgba" else pixels)


def _write_hdf5(root: Path, part: str, subsets: dict[str, dict[str, Scene]], has_labels: bool) -> None:
    import h5py

    plants = [(f"{subset}/{name}", name, scene) for subset, scenes in subsets.items() for name, scene in scenes.items()]

    def add(file: Any, place: str, name: str, what: str, pixels: NDArray[np.uint8]) -> None:
        file.create_dataset(f"{place}/{what}", data=pixels, compression="gzip", compression_opts=1)
        file.create_dataset(f"{place}/{what}_filename", data=f"{name}_{what}.png")

    with h5py.File(root / f"CVPPP2017_{part}_images.h5", "w") as file:
        for place, name, scene in plants:
            add(file, place, name, "rgb", _rgba(scene))
            add(file, place, name, "fg", _foreground(scene))
            if part == "training":
                add(file, place, name, "centers", _centres(scene.require_label_map()))
    if not has_labels:
        return
    with h5py.File(root / f"CVPPP2017_{part}_truth.h5", "w") as file:
        for place, name, scene in plants:
            add(file, place, name, "label", scene.require_label_map().astype(np.uint8))
            file.create_dataset(f"{place}/count", data=scene.num_instances)


def _with(start: Path, what: str) -> Path:
    return start.with_name(f"{start.name}_{what}.png")


def _rgba(scene: Scene) -> NDArray[np.uint8]:
    opaque = np.full((1, *scene.image.shape[1:]), 255, np.uint8)
    return np.ascontiguousarray(np.concatenate([scene.image, opaque]).transpose(1, 2, 0))


def _foreground(scene: Scene) -> NDArray[np.uint8]:
    """1, not 255, where there is a leaf."""
    assert scene.foreground is not None
    return scene.foreground.astype(np.uint8)


def _centres(label_map: NDArray[np.int32]) -> NDArray[np.uint8]:
    """One pixel for each leaf, at the mean of its pixels, which need not be on it."""
    centres = np.zeros(label_map.shape, np.uint8)
    for label in range(1, int(label_map.max()) + 1):
        centre: Sequence[int] = [int(along.mean()) for along in np.nonzero(label_map == label)]
        centres[centre[0], centre[1]] = 1
    return centres
