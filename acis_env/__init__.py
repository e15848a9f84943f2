"""Instance segmentation as a sequential decision process.

Importing the package registers the environments `ACIS/Leaves-v0` and `ACIS/Cars-v0` (bundled scenes and weights) and
`ACIS/Scenes-v0` (your own), for `gymnasium.make` and `gymnasium.make_vec`. The names below are imported when they are
first used, so that what needs only one module does not wait for all.
"""

import importlib
from typing import TYPE_CHECKING

import gymnasium as gym

from acis_env.forks import use_one_thread_in_forks

__all__ = [
    "Cars",
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

use_one_thread_in_forks()

_ENVIRONMENTS = {
    "Leaves": {"scenes": "dataset:leaves", "weights": "leaves-64"},
    "Cars": {"scenes": "dataset:cars", "weights": "cars-64x192"},
    "Scenes": {},
}
for _name, _arguments in _ENVIRONMENTS.items():
    gym.register(
        f"ACIS/{_name}-v0",
        entry_point="acis_env.env:SegmentationEnv",
        vector_entry_point="acis_env.vector_env:SegmentationVectorEnv",
        kwargs=_arguments,
    )

if TYPE_CHECKING:
    from acis_env.datasets import Cars, FolderScenes, Leaves, PackedScenes, Scene, SceneDataset
    from acis_env.env import SegmentationEnv
    from acis_env.metrics import segmentation_metrics
    from acis_env.testing.checker import VectorEnvError, check_vector_env
    from acis_env.vector_env import SegmentationVectorEnv
    from acis_env.weights import Pretrained, load_pretrained
else:
    _MODULES = {
        "acis_env.datasets": ("Cars", "FolderScenes", "Leaves", "PackedScenes", "Scene", "SceneDataset"),
        "acis_env.env": ("SegmentationEnv",),
        "acis_env.metrics": ("segmentation_metrics",),
        "acis_env.testing.checker": ("VectorEnvError", "check_vector_env"),
        "acis_env.vector_env": ("SegmentationVectorEnv",),
        "acis_env.weights": ("Pretrained", "load_pretrained"),
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

    def __dir__():
        return sorted({*globals(), *__all__})
