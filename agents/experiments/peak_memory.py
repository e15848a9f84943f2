"""The memory of one update, as episodes grow: what the paper says of BL and AC, counted.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from acis_env import dynamics
from acis_env.datasets import Leaves, PackedScenes
from acis_env.dynamics import EnvState
from acis_env.weights import Pretrained
from agents.algorithms.actor_critic import ActorCritic
from agents.algorithms.rollout import Batch, MicroBatch, sort_by_length
from agents.training.config import Objective, Phase, TrainConfig

LENGTHS = (1, 2, 5, 10, 15, 20)
"""Steps of the episodes whose update is measured."""
BATCH_SIZE = 16
"""Scenes of such an update."""
METHODS: dict[str, tuple[Objective, int | None]] = {
    "BL": ("bl-bce", None),
    "BL-Trunc": ("bl-bce", 1),
    "AC-Dice": ("ac", 1),
}
"""Objective and steps of BPTT by the name of the method."""


def measure_memory(pretrained: Pretrained) -> dict[str, Any]:
    """Peak of the bytes that autograd keeps for the backward pass of one update, by length of the episodes.

    Counted by storage, without the weights, as tensors are saved and released: it does not depend on the allocator,
    and leaves out what an operation needs for itself alone. The actor-critic update has three parts, of which the
    hungriest counts: episode execution, an update of the critic, one of the actor.
    """
    scenes = PackedScenes(Leaves("train", pretrained.size, 20, 20, length=BATCH_SIZE), pretrained.size)
    images, label_map = scenes.gather(range(BATCH_SIZE))
    context, label_map = sort_by_length(pretrained.context_network.context(images), label_map)
    peaks: dict[str, list[int]] = {}
    for name, (objective, bptt_steps) in METHODS.items():
        phase = Phase("main", objective, 1)
        learner = ActorCritic(pretrained.autoencoder, TrainConfig(phases=(phase,), bptt_steps=bptt_steps))
        peaks[name] = []
        for length in LENGTHS:
            state = _episodes_of(length, context, label_map, learner)
            batch = Batch(state.num_instances, [MicroBatch(state, torch.arange(len(state)))])
            peaks[name].append(peak_of_saved(lambda b=batch, i=learner, p=phase: _update(i, b, p), learner))  # type: ignore[misc]
    return {"steps": list(LENGTHS), "batch_size": BATCH_SIZE, "bytes": peaks}


def _episodes_of(length: int, context: torch.Tensor, label_map: torch.Tensor, learner: ActorCritic) -> EnvState:
    remaining, given = dynamics.prefill(label_map, length, torch.rand(len(label_map), 20))
    return dynamics.reset(context, remaining, learner.decoder, 20, 20, given)


def _update(learner: ActorCritic, batch: Batch, phase: Phase) -> None:
    generator = torch.Generator().manual_seed(0)
    if phase.objective == "ac":
        steps = learner.collect(batch, generator)
        chosen = torch.randperm(len(steps), generator=generator)[: learner.config.critic_batch_size].sort().values
        learner.update_critic(replace(steps.select(chosen), total=len(chosen)))
    learner.update_actor(batch, phase, generator)


def peak_of_saved(update: Callable[[], None], learner: ActorCritic) -> int:
    """Largest sum of the storages, in bytes, that autograd holds at a time during `update`, weights left out."""
    weights = {
        tensor.untyped_storage().data_ptr()
        for module in (learner.actor, learner.critic, learner.decoder)
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
