"""Agents that learn to segment: the actor-critic agent of Araslanov et al., CVPR 2019, and its baselines.

The names below are imported when they are first used, so that `acis --help` does not wait for PyTorch.
"""

import importlib
from typing import TYPE_CHECKING

__all__ = ["PRESETS", "Agent", "EnvConfig", "Segmentation", "Stage", "TrainConfig", "Trainer"]

if TYPE_CHECKING:
    from agents.environment import EnvConfig
    from agents.models.agent import Agent
    from agents.models.segmentation import Segmentation
    from agents.training.config import Stage, TrainConfig
    from agents.training.presets import PRESETS
    from agents.training.trainer import Trainer
else:
    _MODULES = {
        "agents.models.agent": ("Agent",),
        "agents.models.segmentation": ("Segmentation",),
        "agents.environment": ("EnvConfig",),
        "agents.training.config": ("Stage", "TrainConfig"),
        "agents.training.presets": ("PRESETS",),
        "agents.training.trainer": ("Trainer",),
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

    def __dir__():
        return sorted({*globals(), *__all__})
