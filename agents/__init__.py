"""Agents that learn to segment: the actor-critic agent of Araslanov et al., CVPR 2019, and its baselines."""

from agents.models.agent import Agent, Segmentation
from agents.training.config import PRESETS, Phase, TrainConfig
from agents.training.trainer import Trainer

__all__ = ["PRESETS", "Agent", "Phase", "Segmentation", "TrainConfig", "Trainer"]
