"""Predictions in the files that a benchmark takes, written whole or not at all, and read back before they count."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acis_env.datasets.cvppp import SUBSETS
from acis_env.datasets.cvppp_files import import_h5py
from acis_env.files import replacing
from acis_env.folders import appearing
from acis_env.ops.labels import relabel
from acis_env.pictures import Reading

MOST_LABELS = 255
"""Instances that 8 bits can tell apart."""
Predictions = Iterable[tuple[str, NDArray[Any]]]
"""Names of scenes, and label maps `[H, W]` at the size of their images, 0 = background."""


def write_cvppp_submission(path: Path, predictions: Predictions) -> dict[str, int]:
    """Write the HDF5 file that the server of the Leaf Segmentation Challenge took.

    It has a group for each subset, A1 to A5, even if that is empty, and in it `plantNNN/label`, uint8 `[H, W]` with
    labels 1..N, and `plantNNN/label_filename`.

    Args:
        path: file to write.
        predictions: of scenes named "A1/plant003".

    Returns:
        Number of leaves of each scene.

    Raises:
        ValueError: a label map has more than 255 instances, or what was written reads otherwise; there is no file then.
            Or h5py is not installed.
        OSError: the system refuses.
    """
    h5py = import_h5py(path)
    written: dict[str, _Mark] = {}
    with replacing(path, "submission") as unfinished:
        with h5py.File(unfinished, "w") as file:
            for subset in SUBSETS:
                file.create_group(subset)
            for name, label_map in predictions:
                labels = eight_bits(name, label_map)
                file.create_dataset(f"{name}/label", data=labels, compression="gzip", compression_opts=4)
                file.create_dataset(f"{name}/label_filename", data=f"{name.split('/')[1]}_label.png")
                written[name] = _mark(labels)
        with h5py.File(unfinished, "r") as file:
            found = {f"{subset}/{plant}": file[subset][plant]["label"][()] for subset in file for plant in file[subset]}
        _check_same(path, written, found)
    return {name: mark[2] for name, mark in written.items()}


def write_label_pngs(folder: Path, predictions: Predictions, suffix: str = ".png") -> dict[str, int]:
    """Write one 8-bit PNG for each scene, named as the scene and `suffix`, whose grey values are the labels 1..N.

    Args:
        folder: to make; it is new or empty.
        predictions: of scenes.
        suffix: end of the names.

    Returns:
        Number of instances of each scene.

    Raises:
        ValueError: a label map has more than 255 instances, the folder holds something, or what was written reads
            otherwise; there are no files then.
        OSError: the system refuses.
    """
    written: dict[str, _Mark] = {}
    with appearing(folder) as unfinished:
        for name, label_map in predictions:
            labels = eight_bits(name, label_map)
            Image.fromarray(labels).save(unfinished / f"{name}{suffix}", format="PNG")
            written[name] = _mark(labels)
        found = {path.name.removesuffix(suffix): Reading().label_map(path, ("PNG",)) for path in unfinished.iterdir()}
        _check_same(folder, written, found)
    return {name: mark[2] for name, mark in written.items()}


def eight_bits(name: str, label_map: NDArray[Any]) -> NDArray[np.uint8]:
    """`label_map` `[H, W]` with labels 1..N in the same order, as uint8.

    Raises:
        ValueError: it has too many; names the scene.
    """
    labels = relabel(label_map)
    if labels.max(initial=0) > MOST_LABELS:
        raise ValueError(f"{name} must have at most {MOST_LABELS} instances, as labels have 8 bits, got {labels.max()}")
    return labels.astype(np.uint8)


_Mark = tuple[tuple[int, ...], int, int]
"""Shape, checksum and number of instances of a label map."""


def _mark(labels: NDArray[Any]) -> _Mark:
    return labels.shape, zlib.crc32(labels.astype(np.uint8).tobytes()), int(labels.max(initial=0))


def _check_same(path: Path, written: Mapping[str, _Mark], found: Mapping[str, NDArray[Any]]) -> None:
    """Make sure that what is in a file is what was written into it."""
    if not written:
        raise ValueError(f"{path}: there are no predictions to submit")
    for name in sorted(written.keys() | found.keys()):
        mark = _mark(found[name]) if name in found else None
        if mark != written.get(name):
            raise ValueError(f"{path}: {name} does not read as it was written: {mark} is not {written.get(name)}")
