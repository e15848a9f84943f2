"""Scenes to segment: drawn leaves and streets, folders of images with label maps, and a registry for more."""

from acis_env.datasets.cars import Cars
from acis_env.datasets.folder import FolderScenes
from acis_env.datasets.leaves import Leaves
from acis_env.datasets.packed import PackedScenes
from acis_env.datasets.preprocessing import Preprocessing, Squeeze
from acis_env.datasets.registry import DATASETS, open_scenes, register_dataset
from acis_env.datasets.scene import Scene, SceneDataset, relabel

__all__ = [
    "DATASETS",
    "Cars",
    "FolderScenes",
    "Leaves",
    "PackedScenes",
    "Preprocessing",
    "Scene",
    "SceneDataset",
    "Squeeze",
    "open_scenes",
    "register_dataset",
    "relabel",
]
