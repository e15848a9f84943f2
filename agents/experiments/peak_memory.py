"""The memory of one update, as episodes grow: what the paper says of BL and AC, counted.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from acis_env.datasets import Leaves
from acis_env.weights import Pretrained
from agents.algorithms import ActorCritic, ActorCriticConfig, AlgorithmConfig, Learner, LearnerConfig, Progress
from agents.environment import EnvConfig
from agents.training.presets import CROSS_ENTROPY

LENGTHS = (1, 2, 5, 10, 15, 20)
"""Steps of the episodes whose update is measured."""
BATCH_SIZE = 16
"""Scenes of such an update."""
METHODS: dict[str, AlgorithmConfig] = {
    "BL": replace(CROSS_ENTROPY, bptt_steps=None),
    "BL-Trunc": CROSS_ENTROPY,
    "AC-Dice": ActorCriticConfig(critic_warmup=0),
}
"""Algorithm by the name of the method."""


def measure_memory(pretrained: Pretrained) -> dict[str, Any]:
    """Peak of the bytes that autograd keeps for the backward pass of one iteration, by length of the episodes.

    Counted by storage, without the weights, as tensors are saved and released: it does not depend on the allocator,
    and leaves out what an operation needs for itself alone. The actor-critic's iteration has three parts, of which the
    hungriest counts: episode execution, updates of the critic, an update of the actor.
    """
    scenes = Leaves("train", pretrained.size, 20, 20, length=BATCH_SIZE)
    peaks: dict[str, list[int]] = {}
    for name, config in METHODS.items():
        env = EnvConfig(kwargs={"sampler": "sequential"}).make(BATCH_SIZE, scenes=scenes, weights=pretrained)
        seeds: Any = list(range(BATCH_SIZE))
        env.reset(seed=seeds)
        peaks[name] = []
        for length in LENGTHS:
            learner = Learner(env, LearnerConfig())
            learner.core.set_attr("sequence_length", length)
            algorithm = config.make(learner)
            modules: list[Any] = [learner.actor, learner.core.decoder]
            if isinstance(algorithm, ActorCritic):
                modules.append(algorithm.critic.critic)
            progress = Progress(0, 1, torch.Generator().manual_seed(0))
            peaks[name].append(peak_of_saved(partial(algorithm.train_iteration, progress), modules))
    return {"steps": list(LENGTHS), "batch_size": BATCH_SIZE, "bytes": peaks}


def peak_of_saved(update: Callable[[], object], modules: Iterable[nn.Module]) -> int:
    """Largest sum of the storages, in bytes, that autograd holds at a time during `update`, weights left out.

    Args:
        update: goes forward and backward.
        modules: whose parameters and buffers are the weights.
    """
    weights = {
        tensor.untyped_storage().data_ptr()
        for module in modules
        if isinstance(module, torch.nn.Module)
        for tensor in (*module.parameters(), *module.buffers())
    }
    owners: dict[int, int] = {}
    live = peak = 0

    class Saved:
        """Holds a tensor for as long as autograd does."""

        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal live, peak
            self.tensor, self.storage = tensor, tensor.untyped_storage().data_ptr()
            if self.storage not in weights:
                if self.storage not in owners:
                    live += tensor.untyped_storage().nbytes()
                    peak = max(peak, live)
                owners[self.storage] = owners.get(self.storage, 0) + 1

        def __del__(self) -> None:
            nonlocal live
            if self.storage in owners:
                owners[self.storage] -= 1
                if owners[self.storage] == 0:
                    del owners[self.storage]
                    live -= self.tensor.untyped_storage().nbytes()

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        update()
    return peak
