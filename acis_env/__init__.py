"""Instance segmentation as a sequential decision process.

Importing the package registers the environments `ACIS/Leaves-v0` (bundled scenes and weights) and
`ACIS/Scenes-v0` (your own), for `gymnasium.make` and `gymnasium.make_vec`.
"""

import gymnasium as gym

from acis_env.datasets import FolderScenes, Leaves, PackedScenes, Scene, SceneDataset
from acis_env.env import SegmentationEnv
from acis_env.metrics import segmentation_metrics
from acis_env.testing.checker import VectorEnvError, check_vector_env
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import Pretrained, load_pretrained

__all__ = [
    "FolderScenes",
    "Leaves",
    "PackedScenes",
    "Pretrained",
    "Scene",
    "SceneDataset",
    "SegmentationEnv",
    "SegmentationVectorEnv",
    "VectorEnvError",
    "check_vector_env",
    "load_pretrained",
    "segmentation_metrics",
]

for _name, _arguments in {"Leaves": {"scenes": "leaves", "weights": "leaves-64"}, "Scenes": {}}.items():
    gym.register(
        f"ACIS/{_name}-v0",
        entry_point="acis_env.env:SegmentationEnv",
        vector_entry_point="acis_env.vector_env:SegmentationVectorEnv",
        kwargs=_arguments,
    )
