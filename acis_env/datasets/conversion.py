"""Any data set as a folder of pairs, which is read without anything besides the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acis_env.datasets.folder_files import IMAGE_SUFFIX, LABEL_SUFFIX
from acis_env.datasets.scene import IGNORED, SceneDataset
from acis_env.files import cannot_write
from acis_env.folders import appearing

COMPRESSION = 3
"""Of the PNG files: nearly as small as by the default of 6, in half the time."""


@dataclass
class Conversion:
    """What was written."""

    scenes: dict[str, int] = field(default_factory=dict)
    """Number by split."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of `FolderScenes` with which the same scenes are read again."""
    has_foreground: bool = False
    """Whether scenes had an official foreground, for which pairs have no place."""


def convert(splits: Mapping[str, SceneDataset], folder: Path) -> Conversion:
    """Write every scene as `<split>/<name>_rgb.png` and `<name>_label.png`: all of them, or, after an error, none.

    Labels have 8 bits if every scene has at most 254 instances, else 16. Ignored pixels have the largest value of the
    type. In names, `/` becomes `_`. Scenes without a label map have no file for it.

    Args:
        splits: data sets by split.
        folder: where the pairs are to be; new, or empty.

    Raises:
        ValueError: the folder holds something, a scene is damaged or has too many instances, or two have one name.
        OSError: a file cannot be written.
    """
    most = max(dataset.max_instances for dataset in splits.values())
    kind = np.uint8 if most < np.iinfo(np.uint8).max else np.uint16
    ignored = int(np.iinfo(kind).max)
    if most >= ignored:
        raise ValueError(f"{folder}: pairs hold at most {ignored - 1} instances, got {most} in a scene")
    done = Conversion()
    with appearing(folder) as unfinished:
        for split, dataset in splits.items():
            names: set[str] = set()
            (unfinished / split).mkdir()
            for scene in dataset:
                name = scene.name.replace("/", "_").replace("\\", "_")
                if name.lower() in names:  # some file systems do not tell the cases apart
                    raise ValueError(f"{folder}: names of scenes must differ as names of files, got {name!r} twice")
                names.add(name.lower())
                _save(unfinished / split / (name + IMAGE_SUFFIX), scene.image.transpose(1, 2, 0))
                if scene.label_map is not None:
                    if (largest := int(scene.label_map.max(initial=0))) >= ignored:
                        raise ValueError(
                            f"{scene.name}: labels must be below {ignored}, got {largest}, as the data set promises at "
                            f"most {most} instances in a scene"
                        )
                    labels = np.where(scene.label_map == IGNORED, ignored, scene.label_map).astype(kind)
                    _save(unfinished / split / (name + LABEL_SUFFIX), labels)
                done.options |= _options(scene.label_map, ignored)
                done.has_foreground |= scene.foreground is not None
            done.scenes[split] = len(names)
    return done


def _options(label_map: NDArray[np.int32] | None, ignored: int) -> dict[str, Any]:
    """Options of `FolderScenes` that this label map needs."""
    if label_map is None:
        return {"labels": "optional"}
    options: dict[str, Any] = {}
    if (label_map == IGNORED).any():
        options["ignore"] = ignored
    if not (label_map > 0).any():
        options["min_instances"] = 0
    return options


def _save(path: Path, pixels: NDArray[Any]) -> None:
    try:
        Image.fromarray(pixels).save(path, format="PNG", compress_level=COMPRESSION)
    except OSError as error:
        raise cannot_write(path, "file", error) from error
