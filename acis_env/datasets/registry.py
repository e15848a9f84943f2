"""Names of data sets, so that a string in a command or a configuration opens any of them.

A new data set is one file with a loader, and one line at the end of this file; `register_dataset` adds one from
outside of the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acis_env.configs import check_keywords, nearest_first
from acis_env.datasets.folder import open_folder
from acis_env.datasets.leaves import Leaves
from acis_env.datasets.scene import SceneDataset

Loader = Callable[..., SceneDataset]
"""A function or class called as `loader(split, size, **options)`, `size` being the `(H, W)` of the networks."""


@dataclass(frozen=True)
class RegisteredDataset:
    """What is known of a data set before it is opened."""

    loader: Loader
    about: str
    """One line: what it holds and where its options are described."""


DATASETS: dict[str, RegisteredDataset] = {}
"""The registered data sets by name."""


def register_dataset(name: str, loader: Loader, about: str) -> None:
    """Make `open_scenes(name, ...)` call `loader(split, size, **options)`.

    Raises:
        ValueError: the name is taken.
    """
    if name in DATASETS:
        raise ValueError(f"name must be new, got {name!r}, which is taken by {DATASETS[name].loader}")
    DATASETS[name] = RegisteredDataset(loader, about)


def open_scenes(
    scenes: str, split: str, size: tuple[int, int], options: Mapping[str, Any] | None = None
) -> SceneDataset:
    """Open a data set.

    Args:
        scenes: a registered name ("leaves", "folder"), or a folder of `<id>_rgb.png` and `<id>_label.png`. A folder
            that is called like a data set is written with its path, as "./leaves".
        split: "train", "val" or "test"; a folder has its scenes in the subfolder of that name, or all of them are
            "train".
        size: `(H, W)` of the networks, at which leaves are drawn; scenes of a folder keep their own.
        options: further keyword arguments of the loader (`Leaves` or `FolderScenes`).

    Raises:
        FileNotFoundError: there is neither a data set nor a folder of that name, or it has no such split.
        ValueError: an option is unknown or outside of its range.
    """
    options = dict(options or {})
    name = scenes
    if scenes not in DATASETS:
        if not Path(scenes).is_dir():
            known = ", ".join(map(repr, nearest_first(scenes, DATASETS)))
            raise FileNotFoundError(f"scenes {scenes!r}: expected a folder or one of the data sets {known}")
        name, options = "folder", {"root": scenes, **options}
    check_keywords(f"scene options of {scenes!r}", DATASETS[name].loader, options)
    try:
        return DATASETS[name].loader(split, size, **options)
    except TypeError as error:
        raise ValueError(f"scene options {sorted(options)} for {scenes!r}: {error}") from error


register_dataset("leaves", Leaves, "Drawn rosette plants with their leaves; options of `Leaves`.")
register_dataset("folder", open_folder, "Pairs <id>_rgb.png, <id>_label.png below `root`; options of `FolderScenes`.")
