"""Wrappers of vector environments: statistics of episodes, files of episodes, and numpy instead of tensors."""

from acis_env.wrappers.recorder import RecordEpisodes
from acis_env.wrappers.statistics import RecordEpisodeStatistics
from acis_env.wrappers.torch_to_numpy import TorchToNumpy

__all__ = ["RecordEpisodeStatistics", "RecordEpisodes", "TorchToNumpy"]
