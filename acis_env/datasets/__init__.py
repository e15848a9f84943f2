"""Scenes to segment: drawn leaves and streets, published data sets, folders, and a registry for further ones."""

from acis_env.datasets.cars import Cars
from acis_env.datasets.cvppp import CvpppScenes
from acis_env.datasets.folder import FolderScenes
from acis_env.datasets.kitti import KittiScenes
from acis_env.datasets.leaves import Leaves
from acis_env.datasets.packed import PackedScenes
from acis_env.datasets.preprocessing import Preprocessing, Squeeze, parse_preprocessing
from acis_env.datasets.registry import DATASETS, open_scenes, register_dataset
from acis_env.datasets.scene import Scene, SceneDataset, relabel

__all__ = [
    "DATASETS",
    "Cars",
    "CvpppScenes",
    "FolderScenes",
    "KittiScenes",
    "Leaves",
    "PackedScenes",
    "Preprocessing",
    "Scene",
    "SceneDataset",
    "Squeeze",
    "open_scenes",
    "parse_preprocessing",
    "register_dataset",
    "relabel",
]
