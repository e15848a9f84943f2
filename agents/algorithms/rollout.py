"""Episode execution (Algorithm 1): the actor segments a batch of scenes, one instance per step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from acis_env import dynamics
from acis_env.decoder import Decoder
from acis_env.dynamics import DEFAULT_RULES, EnvState, Rules
from acis_env.precision import Precision, autocast
from agents.models.actor import Actor, ActorOutput


class Visit(NamedTuple):
    """The `k` scenes that act in step `t`, and what the actor says there."""

    t: int
    state: EnvState
    out: ActorOutput


Choice = Callable[[Visit], Tensor]
"""Chooses the actions `[k, l]` of a step."""


def choose_mean(visit: Visit) -> Tensor:
    """The mean of the policy."""
    return visit.out.mean


@dataclass(frozen=True)
class MicroBatch:
    """Fresh episodes in some scenes of a batch."""

    state: EnvState  # of b scenes, sorted by falling number of instances
    places: Tensor  # [b] int64 on the host, rising, where they stand in the batch


@dataclass(frozen=True)
class Batch:
    """The scenes of an iteration, longest episode first, of which each process holds a share in micro-batches.

    What is drawn at random is drawn for the whole batch, and what is averaged is averaged over it, so that it does
    not matter how the scenes are shared out.
    """

    lengths: Tensor  # [B] int64 on the host, instances of every scene, falling
    parts: list[MicroBatch]  # of this process

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Of all scenes."""
        return int(self.lengths.sum())

    def number_steps(self, places: Tensor) -> Tensor:
        """Numbers, in 0..num_steps - 1, of all steps of the scenes at `places`: int64 on the host.

        The steps of the batch are counted as `Episodes` lists them: the first step of every scene, then the second.
        """
        numbers, start = [places[:0]], 0
        for t in range(int(self.lengths[0])):
            running = int((self.lengths > t).sum())
            numbers.append(start + places[places < running])
            start += running
        return torch.cat(numbers)


@dataclass(frozen=True)
class Step:
    """One step in the `k` scenes that have not ended, the first `k` of the batch."""

    mask: Tensor  # [k, 1, H, W], M_t
    mean: Tensor  # [k, l]
    log_variance: Tensor  # [k, l]
    latent: Tensor  # [k, l], the action
    predicted_mask: Tensor  # [k, 1, H, W], m_t
    reward: Tensor  # [k], r_t
    remaining: Tensor  # [k] int64, steps left including this one
    assignment: Tensor  # [k] int64, instance of this prediction so far, -1 = none

    def detach(self) -> Step:
        """The same without its graph."""
        return Step(*(getattr(self, f.name).detach() for f in fields(self)))


@dataclass(frozen=True)
class Episodes:
    """Whole episodes of `B` scenes, sorted by falling length."""

    context: Tensor  # [B, 12, H, W]
    label_map: Tensor  # [B, H, W] integers
    steps: list[Step]  # T
    assignment: Tensor  # [B, T] int64, instance of each prediction, -1 = none or not taken
    potential: Tensor  # [B], of the finished episodes
    readings: Tensor  # [sum of (N + 1), r], of the termination unit in every state visited, terminal ones included
    continue_targets: Tensor  # [sum of (N + 1)], 0 in terminal states, else 1

    def targets(self, t: int) -> Tensor:
        """The instance that prediction `t` is assigned in the end, `[k, 1, H, W]` in {0, 1}."""
        k = len(self.steps[t].mask)
        return instance_masks(self.label_map[:k], self.assignment[:k, t])


def instance_masks(label_map: Tensor, instance: Tensor) -> Tensor:
    """Masks `[k, 1, H, W]` in {0, 1} of `instance` `[k]` of each of `k` label maps `[k, H, W]`; empty for -1."""
    label = instance[:, None, None] + 1
    return ((label_map == label) & (label > 0)).float()[:, None]


def sort_by_length(context: Tensor, label_map: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Reorder a batch by falling number of instances: running scenes are then always the first ones."""
    order = label_map.flatten(1).amax(1).argsort(descending=True, stable=True)
    return tuple(x[order] for x in (context, label_map, *others))


def run_episodes(
    actor: Actor,
    decoder: Decoder,
    state: EnvState,
    rules: Rules = DEFAULT_RULES,
    choose: Choice = choose_mean,
    bptt_steps: int | None = 1,
    precision: Precision = "float32",
    memory: Tensor | None = None,
    learn: Callable[[Step], None] | None = None,
) -> Episodes:
    """Let `actor` segment every scene of `state`, until it has as many masks as instances.

    Scenes that have ended cost nothing: step `t` runs on the first `k_t` scenes only.

    Args:
        actor: the policy; gradients reach it unless they are disabled outside.
        decoder: frozen.
        state: fresh episodes, or ones under way, sorted by falling number of steps left.
        rules: of the reward.
        choose: takes the actions.
        bptt_steps: the gradient through `M_t` and `h_t` is cut after every so many steps (BL-Trunc: 1); None: never.
        precision: of the networks.
        memory: of the actor, in episodes that are under way; None in fresh ones.
        learn: goes backward from each step as soon as it is taken, after which its graph is gone: `bptt_steps` is 1.
    """
    context, label_map, lengths = state.context, state.label_map, state.num_instances - state.step_count
    with autocast(context.device, precision):
        features, foreground = actor.condition(context)
    # All steps share the context's features: their gradients are added up here, and go on backward once, at the end.
    shared = features if learn is None else features.detach().requires_grad_(features.requires_grad)
    memory = actor.initial_memory(len(state)) if memory is None else memory
    steps: list[Step] = []
    readings, targets, ended = [], [], []
    for t, (visited, running) in enumerate(_active_counts(lengths)):
        state = state.select(slice(visited))
        memory = memory[:visited].clone()  # compiled networks would be compiled anew for a view
        if bptt_steps is not None and t % bptt_steps == 0:
            state, memory = _cut(state), memory.detach()
        with autocast(context.device, precision):
            out = actor((shared[:visited], foreground[:visited]), state.accumulated_mask, memory)
        readings.append(out.reading)
        targets.append(lengths[:visited] > t)
        ended.append((state.assignment[running:], state.potential[running:]))
        if running == 0:
            break
        visit = Visit(t, state.select(slice(running)), ActorOutput(*(x[:running] for x in out)))
        state, step = _take_step(visit, choose(visit), decoder, rules, precision)
        memory = visit.out.memory
        if learn is not None:
            learn(step)
            step = step.detach()
        steps.append(step)
    if learn is not None and shared.grad is not None:
        features.backward(shared.grad)
    assignment, potential = (torch.cat(x) for x in zip(*ended[::-1], strict=True))  # the last to end stand first
    return Episodes(context, label_map, steps, assignment, potential, torch.cat(readings), torch.cat(targets).float())


def _cut(state: EnvState) -> EnvState:
    """The same state without a gradient to the actions that led there."""
    accumulated_mask, predicted_mask = state.accumulated_mask.detach(), state.predicted_mask.detach()
    return replace(state, accumulated_mask=accumulated_mask, predicted_mask=predicted_mask)


def _take_step(
    visit: Visit, latent: Tensor, decoder: Decoder, rules: Rules, precision: Precision
) -> tuple[EnvState, Step]:
    """The state after the action `latent` `[k, l]`, and the record of the step."""
    before, out = visit.state, visit.out
    with autocast(latent.device, precision):
        state, reward = dynamics.step(before, latent, decoder, rules)
    return state, Step(
        mask=before.accumulated_mask,
        mean=out.mean,
        log_variance=out.log_variance,
        latent=latent,
        predicted_mask=state.predicted_mask,
        reward=reward,
        remaining=before.num_instances - before.step_count,
        assignment=state.assignment.gather(1, before.step_count[:, None])[:, 0],
    )


def _active_counts(lengths: Tensor) -> list[tuple[int, int]]:
    """For `t` = 0 to the longest episode: how many scenes reach state `t`, and how many of them act in it."""
    host = lengths.tolist()
    return [(sum(n >= t for n in host), sum(n > t for n in host)) for t in range(max(host) + 1)]


def discounted_returns(episodes: Episodes, gamma: float) -> list[Tensor]:
    """`sum_{i >= t} gamma^(i-t) r_i` of every step, Eq. (7): `T` tensors `[k_t]`."""
    returns: list[Tensor] = []
    following = episodes.potential.new_zeros(0)
    for step in reversed(episodes.steps):
        value = step.reward.clone()
        value[: len(following)] += gamma * following
        returns.append(value)
        following = value
    return returns[::-1]
