"""Scenes to segment: procedural leaves, and folders of images with label maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acis_env.datasets.folder import FolderScenes
from acis_env.datasets.leaves import Leaves
from acis_env.datasets.packed import PackedScenes
from acis_env.datasets.scene import Scene, SceneDataset, relabel

__all__ = ["FolderScenes", "Leaves", "PackedScenes", "Scene", "SceneDataset", "open_scenes", "relabel"]


def open_scenes(
    scenes: str, split: str, size: tuple[int, int], options: Mapping[str, Any] | None = None
) -> SceneDataset:
    """Open a data set by name.

    Args:
        scenes: "leaves", or a folder of `<id>_rgb.png` and `<id>_label.png`.
        split: "train", "val" or "test": of a folder, the subfolder of that name. A folder without subfolders is
            all "train".
        size: `(H, W)` at which leaves are drawn; scenes of a folder keep their own.
        options: further keyword arguments of `Leaves` or `FolderScenes`.

    Raises:
        FileNotFoundError: there is no such folder, or it has no such split.
        ValueError: an option is unknown or outside of its range.
    """
    options = dict(options or {})
    try:
        if scenes == "leaves":
            return Leaves(split, size=size, **options)
        root = Path(scenes)
        if (root / split).is_dir():
            return FolderScenes(root / split, **options)
        if root.is_dir() and split != "train":
            raise FileNotFoundError(f"scenes {scenes!r}: expected a subfolder {split!r} with the scenes of that split")
        return FolderScenes(root, **options)
    except TypeError as error:
        raise ValueError(f"scene options {sorted(options)} for {scenes!r}: {error}") from error
