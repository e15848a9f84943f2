"""Names of data sets, so that a string in a command or a configuration opens any of them.

A new data set is one file with a loader, and one line at the end of this file; `register_dataset` adds one from
outside of the package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acis_env.configs import check_keywords, nearest_first
from acis_env.datasets import bbbc038, cityscapes, coco, cvppp, kitti, masks
from acis_env.datasets.cars import Cars
from acis_env.datasets.choice import SceneChoice
from acis_env.datasets.folder import FolderScenes, open_folder
from acis_env.datasets.folder_files import has_pairs
from acis_env.datasets.leaves import SPLITS, Leaves
from acis_env.datasets.listed import Listed
from acis_env.datasets.pairs import list_folder, recognise_folder
from acis_env.datasets.scene import SceneDataset

PREFIX = "dataset:"
"""Stands before the name of a data set that is not to be taken for a folder."""
_log = logging.getLogger(__name__)

Loader = Callable[..., SceneDataset]
"""A function or class called as `loader(split, size, **options)`, `size` being the `(H, W)` of the networks."""


@dataclass(frozen=True)
class RegisteredDataset:
    """What is known of a data set before it is opened."""

    loader: Loader
    about: str
    """One line: what it holds and where its options are described."""
    licence: str = ""
    """Terms of its use, in a few words."""
    citation: str = ""
    """What to cite."""
    source: str = ""
    """Where to get it, and what has to be agreed to before."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment by which its figures are published: threshold, preprocessing and fields of
    `Rules`. They hold wherever the caller gives none."""
    environment: str = ""
    """Id of its environment, such as "ACIS/CVPPP-v0"."""
    splits: tuple[str, ...] = ("train", "val", "test")
    """Names of its usual splits."""
    options: type | None = None
    """Class whose keyword arguments the loader takes besides its own."""
    recognise: Callable[[Path], str | None] | None = None
    """Says in words which of its layouts a folder has, None if it has none."""
    listing: Callable[..., list[Listed]] | None = None
    """Called as `listing(split, root=root, **options)`: the pictures of a split, before any of them is decoded."""


DATASETS: dict[str, RegisteredDataset] = {}
"""The registered data sets by name."""


def register_dataset(name: str, loader: Loader, about: str, **facts: Any) -> None:
    """Make `open_scenes(name, ...)` call `loader(split, size, **options)`; `facts` are fields of `RegisteredDataset`.

    Raises:
        ValueError: the name is taken.
    """
    if name in DATASETS:
        raise ValueError(f"name must be new, got {name!r}, which is taken by {DATASETS[name].loader}")
    DATASETS[name] = RegisteredDataset(loader, about, **facts)


def open_scenes(
    scenes: str | Path, split: str, size: tuple[int, int], options: Mapping[str, Any] | None = None
) -> SceneDataset:
    """Open a data set.

    Args:
        scenes: a folder of `<id>_rgb.png` and `<id>_label.png`, or a registered name ("leaves", "folder"). A folder
            that is called like a data set and has such files is meant before that; "dataset:leaves" is never a folder,
            and a `Path` is always one.
        split: "train", "val" or "test"; a folder has its scenes in the subfolder of that name, or all of them are
            "train".
        size: `(H, W)` of the networks, at which leaves and streets are drawn; scenes of a folder keep their own.
        options: further keyword arguments of the loader (such as `Leaves`).

    Raises:
        FileNotFoundError: there is neither a data set nor a folder of that name, or it has no such split.
        ValueError: an option is unknown or outside of its range.
    """
    options = dict(options or {})
    scenes = str(scenes.absolute()) if isinstance(scenes, Path) else scenes
    name = scenes.removeprefix(PREFIX)
    if is_folder(scenes):
        if "root" in options:
            raise ValueError(
                f"root must be left out where scenes is a folder, got root={str(options['root'])!r} with {scenes!r}"
            )
        name, options = "folder", {"root": scenes, **options}
    elif name not in DATASETS:
        known = ", ".join(map(repr, nearest_first(name, DATASETS)))
        raise FileNotFoundError(
            f"scenes {scenes!r}: expected a folder or ({Path(scenes).absolute()} is none) one of the data sets {known}"
        )
    check_keywords(f"scene options of {scenes!r}", DATASETS[name].loader, options)
    try:
        return DATASETS[name].loader(split, size, **options)
    except TypeError as error:
        raise ValueError(f"scene options {sorted(options)} for {scenes!r}: {error}") from error
    except FileNotFoundError as error:
        other = next(iter(recognise_datasets(Path(scenes))), name) if is_folder(scenes) else name
        if other == name:
            raise
        raise FileNotFoundError(
            f"scenes {scenes!r}: expected pairs <id>_rgb.png, <id>_label.png, found the layout of {other!r}: use "
            f"scenes '{PREFIX}{other}' with root={scenes!r}, or make pairs by `acis data convert`"
        ) from error


def protocol_of(scenes: object) -> Mapping[str, Any]:
    """Keyword arguments of the environment by which figures on the data set that `scenes` names are published.

    Nothing for a folder or for the scenes themselves, which have no protocol.
    """
    if not isinstance(scenes, str) or is_folder(scenes):
        return {}
    known = DATASETS.get(scenes.removeprefix(PREFIX))
    return {} if known is None else known.protocol


def is_folder(scenes: str) -> bool:
    """Whether `open_scenes` takes `scenes` for a folder, and says so where it is the name of a data set, too."""
    path = Path(scenes)
    if scenes not in DATASETS:
        return not scenes.startswith(PREFIX) and path.is_dir()
    is_meant = any(has_pairs(folder) for folder in (path, *(path / split for split in SPLITS)))
    if is_meant:
        _log.warning("scenes %r: taken for the folder %s; %r is the data set", scenes, path.absolute(), PREFIX + scenes)
    return is_meant


def recognise_datasets(root: Path) -> dict[str, str]:
    """Data sets that a folder may be, each with its layout in words, the most special one first.

    Raises:
        OSError: it is none, and a part of it cannot be read.
        ValueError: it is none, and a part of it is not as the layout has it that it is like.
    """
    layouts: dict[str, str] = {}
    refusal = None
    for name, dataset in reversed(DATASETS.items()):
        try:
            layout = None if dataset.recognise is None else dataset.recognise(root)
        except (OSError, ValueError) as error:  # another data set may have no use for that part
            layout, refusal = None, error
        if layout is not None:
            layouts[name] = layout
    if refusal is not None and not layouts:
        raise refusal
    return layouts


register_dataset(
    "leaves", Leaves, "Drawn rosette plants with their leaves; options of `Leaves`.", environment="ACIS/Leaves-v0"
)
register_dataset(
    "cars",
    Cars,
    "Drawn streets with 1 to 16 cars, which hide each other; options of `Cars`.",
    licence="Apache-2.0, as the package: drawn by it",
    environment="ACIS/Cars-v0",
)
register_dataset(
    "folder",
    open_folder,
    "Pairs <id>_rgb.png, <id>_label.png below `root`; options of `FolderScenes`.",
    options=FolderScenes,
    recognise=recognise_folder,
    listing=list_folder,
)
# Of several data sets that recognise a folder, the last one is meant: general ones come first.
register_dataset(
    "masks",
    masks.open_masks,
    masks.ABOUT,
    licence=masks.LICENCE,
    source=masks.SOURCE,
    options=SceneChoice,
    recognise=masks.recognise_masks,
    listing=masks.list_masks,
)
register_dataset(
    "coco",
    coco.open_coco,
    coco.ABOUT,
    licence=coco.LICENCE,
    citation=coco.CITATION,
    source=coco.SOURCE,
    environment="ACIS/COCO-v0",
    splits=("train", "val"),
    options=SceneChoice,
    recognise=coco.recognise_coco,
    listing=coco.list_coco,
)
register_dataset(
    "cityscapes",
    cityscapes.open_cityscapes,
    cityscapes.ABOUT,
    licence=cityscapes.LICENCE,
    citation=cityscapes.CITATION,
    source=cityscapes.SOURCE,
    environment="ACIS/Cityscapes-v0",
    splits=("train", "val"),
    options=SceneChoice,
    recognise=cityscapes.recognise_cityscapes,
    listing=cityscapes.list_cityscapes,
)
register_dataset(
    "bbbc038",
    bbbc038.open_bbbc038,
    bbbc038.ABOUT,
    licence=bbbc038.LICENCE,
    citation=bbbc038.CITATION,
    source=bbbc038.SOURCE,
    environment="ACIS/BBBC038-v0",
    splits=bbbc038.SPLITS,
    options=SceneChoice,
    recognise=bbbc038.recognise_bbbc038,
    listing=bbbc038.list_bbbc038,
)
register_dataset(
    "cvppp",
    cvppp.CvpppScenes,
    "Rosette plants of the CVPPP Leaf Segmentation Challenge below `root`; options of `CvpppScenes`.",
    licence=cvppp.LICENCE,
    citation=cvppp.CITATION,
    source=cvppp.SOURCE,
    protocol={"threshold": 0.3, "preprocessing": "shorter-side"},
    environment="ACIS/CVPPP-v0",
    recognise=cvppp.recognise_cvppp,
)
register_dataset(
    "kitti",
    kitti.KittiScenes,
    "Streets of KITTI and their cars below `root`; options of `KittiScenes`.",
    licence=kitti.LICENCE,
    citation=kitti.CITATION,
    source=kitti.SOURCE,
    protocol={"threshold": 0.5, "preprocessing": "squeeze"},
    environment="ACIS/KITTI-v0",
    recognise=kitti.recognise_kitti,
    listing=kitti.list_kitti,
)
