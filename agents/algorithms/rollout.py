"""Episodes that gradients can flow through: the actor segments scenes of known instances, one per step.

The environment begins these episodes, and its pure functions and rules take them on; only the scenes that are still
under way cost anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from acis_env import dynamics
from acis_env.decoder import Decoder
from acis_env.dynamics import DEFAULT_RULES, EnvState, Rules
from acis_env.ops.labels import IGNORED
from acis_env.precision import Precision, autocast
from acis_env.reward import ScoreFunction, ScoreName, without_ignored
from agents.models.actor import Actor, ActorOutput


class DecisionStep(NamedTuple):
    """The `k` scenes that act in step `t`, and what the actor says there."""

    t: int
    state: EnvState
    out: ActorOutput


ChooseActions = Callable[[DecisionStep], Tensor]
"""Chooses the actions `[k, L]` of a step."""


def choose_mean(decision: DecisionStep) -> Tensor:
    """Take the mean of the policy."""
    return decision.out.mean


def sampler(noise: Tensor, extra: Tensor | None = None) -> ChooseActions:
    """Sample from the policy by the reparametrisation trick.

    Args:
        noise: standard normal, `[B, T, L]` for the scenes of the batch.
        extra: added to the actions, `[B, T, L]`.
    """

    def sample(decision: DecisionStep) -> Tensor:
        device = decision.out.mean.device
        here = slice(len(decision.state)), decision.t
        action: Tensor = decision.out.mean + torch.exp(0.5 * decision.out.log_variance) * noise[here].to(device)
        return action if extra is None else action + extra[here].to(device)

    return sample


@dataclass(frozen=True)
class Step:
    """One step in the `k` scenes that have not ended, the first `k` of the batch."""

    mask: Tensor  # [k, 1, H, W], M_t
    mean: Tensor  # [k, L]
    log_variance: Tensor  # [k, L]
    latent: Tensor  # [k, L], the action
    predicted_mask: Tensor  # [k, 1, H, W], m_t
    reward: Tensor  # [k], r_t
    remaining: Tensor  # [k] int64, instances missing before this mask


@dataclass(frozen=True)
class Episodes:
    """Whole episodes of `B` scenes, sorted by falling length."""

    context: Tensor  # [B, 12, H, W]
    label_map: Tensor  # [B, H, W] integers, -1 = ignored
    areas: Tensor  # [B, N] pixels of each instance
    steps: list[Step]  # T
    assignment: Tensor  # [B, T] int64, instance of each prediction, -1 = none or not taken
    potential: Tensor  # [B], at the end
    termination_features: Tensor  # [V, r], in every state visited, the last ones of the episodes included
    continue_targets: Tensor  # [V], 1 where instances are still missing, else 0

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.context)

    @property
    def num_steps(self) -> int:
        """Steps of all scenes together."""
        return sum(len(step.reward) for step in self.steps)

    def targets(self, t: int) -> Tensor:
        """The instance that prediction `t` is assigned in the end, `[k, 1, H, W]` in {0, 1}."""
        k = len(self.steps[t].mask)
        return instance_masks(self.label_map[:k], self.assignment[:k, t])

    def ignored(self, t: int) -> Tensor:
        """The pixels that do not count in the scenes of step `t`, `[k, 1, H, W]` bool."""
        return (self.label_map[: len(self.steps[t].mask)] == IGNORED)[:, None]

    def scores(self, t: int, score: ScoreName | ScoreFunction) -> Tensor:
        """Differentiable score of prediction `t` with the instance it is assigned in the end: `[k]`."""
        k = len(self.steps[t].mask)
        masks, instance = self.steps[t].predicted_mask, self.assignment[:k, t]
        return assigned_scores(masks, self.label_map[:k], self.areas[:k], instance, score)


def num_steps(state: EnvState) -> Tensor:
    """Steps that are left in each episode, `[B]` int64: one per missing instance, up to the limit of steps.

    Where no scene of the batch has an instance, each takes one step, as in the environment.
    """
    least = (state.num_instances.amax() == 0).long()
    steps = torch.minimum(torch.maximum(state.num_instances, least), state.step_limit)
    return (steps - state.step_count).clamp_min(0)


def split_episodes(state: EnvState, parts: int = 1) -> Iterator[EnvState]:
    """Micro-batches of episodes that cost about the same, each sorted by falling number of steps left."""
    order = num_steps(state).argsort(descending=True, stable=True)
    return (state.select(order[first::parts]) for first in range(min(parts, len(state))))


def run_episodes(
    actor: Actor,
    decoder: Decoder,
    state: EnvState,
    rules: Rules = DEFAULT_RULES,
    choose: ChooseActions = choose_mean,
    bptt_steps: int | None = 1,
    precision: Precision = "float32",
    memory: Tensor | None = None,
) -> Episodes:
    """Let `actor` segment every scene of `state`, until it has as many masks as instances.

    Step `t` runs on the first `k_t` scenes only, those that have not ended.

    Args:
        actor: the policy; gradients reach it unless they are disabled outside.
        decoder: frozen.
        state: fresh episodes, or ones under way, sorted by falling number of steps left.
        rules: rules of the reward.
        choose: takes the actions.
        bptt_steps: the gradient through `M_t` and `h_t` is cut after every so many steps (BL-Trunc: 1); None: never.
        precision: precision of the networks.
        memory: memory of the actor, in episodes that are under way; None in fresh ones.
    """
    context, label_map, areas = state.context, state.label_map, state.areas
    lengths, missing = num_steps(state), state.num_instances - state.step_count
    with autocast(context.device, precision):
        features, foreground = actor.condition(context)
    memory = actor.initial_memory(len(state)) if memory is None else memory
    steps: list[Step] = []
    visited_features, targets, ended = [], [], []
    for t, (visited, running) in enumerate(active_counts(lengths)):
        state = state.select(slice(visited))
        memory = memory[:visited].clone()  # compiled networks would be compiled anew for a view
        if bptt_steps is not None and t % bptt_steps == 0:
            state, memory = detach(state), memory.detach()
        with autocast(context.device, precision):
            out = actor((features[:visited], foreground[:visited]), state.accumulated_mask, memory)
        visited_features.append(out.termination_features)
        targets.append(missing[:visited] > t)
        ended.append((state.assignment[running:], state.potential[running:]))
        if running == 0:
            break
        decision = DecisionStep(t, state.select(slice(running)), ActorOutput(*(x[:running] for x in out)))
        latent = choose(decision)
        with autocast(context.device, precision):
            state, reward = dynamics.step(decision.state, latent, decoder, rules)
        memory = decision.out.memory
        steps.append(
            Step(
                mask=decision.state.accumulated_mask,
                mean=decision.out.mean,
                log_variance=decision.out.log_variance,
                latent=latent,
                predicted_mask=state.predicted_mask,
                reward=reward,
                remaining=(missing[:running] - t).clamp_min(0),
            )
        )
    assignment, potential = (torch.cat(x) for x in zip(*ended[::-1], strict=True))  # the last to end stand first
    visited_states = torch.cat(visited_features), torch.cat(targets).float()
    return Episodes(context, label_map, areas, steps, assignment, potential, *visited_states)


def active_counts(lengths: Tensor) -> list[tuple[int, int]]:
    """For `t` = 0 to the longest episode: how many scenes reach state `t`, and how many of them act in it."""
    host = lengths.tolist()
    return [(sum(n >= t for n in host), sum(n > t for n in host)) for t in range(max(host) + 1)]


def detach(state: EnvState) -> EnvState:
    """The state without a gradient to the actions that led there."""
    accumulated_mask, predicted_mask = state.accumulated_mask.detach(), state.predicted_mask.detach()
    return replace(state, accumulated_mask=accumulated_mask, predicted_mask=predicted_mask)


def discounted_returns(episodes: Episodes, gamma: float) -> list[Tensor]:
    """Return `sum_{i >= t} gamma^(i-t) r_i` of every step, Eq. (7): `T` tensors `[k_t]`."""
    returns: list[Tensor] = []
    following = episodes.potential.new_zeros(0)
    for step in reversed(episodes.steps):
        value = step.reward.clone()
        value[: len(following)] += gamma * following
        returns.append(value)
        following = value
    return returns[::-1]


def instance_masks(label_map: Tensor, instance: Tensor) -> Tensor:
    """Masks `[k, 1, H, W]` in {0, 1} of `instance` `[k]` of each of `k` label maps `[k, H, W]`; empty for -1."""
    label = instance[:, None, None] + 1
    return ((label_map == label) & (label > 0)).float()[:, None]


def assigned_scores(
    masks: Tensor, label_map: Tensor, areas: Tensor, instance: Tensor, score: ScoreName | ScoreFunction
) -> Tensor:
    """Differentiable score of each mask with the instance that it is assigned: `[k]`, zero where there is none.

    Args:
        masks: `[k, 1, H, W]` in [0, 1]; there is no gradient to them at ignored pixels.
        label_map: `[k, H, W]` integers, -1 = ignored.
        areas: `[k, N]`, pixels of each instance.
        instance: `[k]` int64, -1 = none.
        score: "dice", "iou" or a function of one's own, which has to be differentiable.
    """
    if not callable(score):
        counted = masks.masked_fill((label_map == IGNORED)[:, None], 0)
        return soft_score(counted, instance_masks(label_map, instance), score)
    scores = score(*without_ignored(masks[:, 0], label_map), areas)
    return scores.gather(1, instance.clamp_min(0)[:, None])[:, 0] * (instance >= 0)


def soft_score(masks: Tensor, targets: Tensor, name: ScoreName) -> Tensor:
    """Differentiable soft Dice or IoU of `masks` with `targets`, both `[k, 1, H, W]`: `[k]`."""
    common = (masks * targets).sum((1, 2, 3))
    total = masks.sum((1, 2, 3)) + targets.sum((1, 2, 3))
    return 2 * common / total.clamp_min(1e-6) if name == "dice" else common / (total - common).clamp_min(1e-6)
