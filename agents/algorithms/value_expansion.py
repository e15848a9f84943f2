"""Value expansion: the known gradient of the score, and beyond the cut the critic's value of what follows.

Nothing in the paper; its critic closes the gap that truncated backpropagation through time leaves (section 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch import Tensor

from acis_env.configs import check_at_least
from acis_env.dynamics import EnvState
from agents.algorithms.actor_critic import ActorCritic, ActorCriticConfig
from agents.algorithms.base import Algorithm, Learner, Losses, Progress, ascend
from agents.algorithms.baseline import draw_noise, reached, step_actor
from agents.algorithms.replay import Transitions
from agents.algorithms.rollout import Episodes, run_episodes, sampler


@dataclass(frozen=True)
class ValueExpansionConfig(ActorCriticConfig):
    """The score of every mask with its instance, plus the discounted value of what follows, by a critic."""

    kind: tyro.conf.Suppress[Literal["value-expansion"]] = "value-expansion"  # type: ignore[assignment]
    bptt_steps: int | None = 1
    """Steps after which the gradient through mask and memory is cut, and the critic's value takes over. None: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "bptt_steps")

    def make(self, learner: Learner, previous: Algorithm | None = None) -> ValueExpansion:
        """Value expansion with these settings."""
        return ValueExpansion(self, learner, previous)


class ValueExpansion(ActorCritic):
    """Follows the known score of every mask, and leaves what comes after it to the critic of Algorithm 1."""

    config: ValueExpansionConfig

    def critic_targets(self, batch: Transitions) -> Tensor:
        """What follows the reward of a step, whose gradient is known: `[S]`."""
        return batch.returns - batch.reward

    def update_actor(self, states: Sequence[EnvState], progress: Progress) -> Losses:
        """Play from `states` by the policy, and follow the score of every mask plus the value at every cut."""
        learner, core = self.learner, self.learner.core
        played, sums = [], []
        for state in states:
            choose = sampler(draw_noise(state, learner, progress.generator))
            settings = (core.rules, choose, self.config.bptt_steps, core.precision)
            episodes = run_episodes(learner.actor, core.decoder, state, *settings)
            losses = ascend(episodes.steps, self._terms(episodes), self.config.kl_weight)
            sums.append({**losses, **reached(episodes)})
            played.append(episodes)
        decay = progress.decay(self.config.decay, self.config.critic_warmup)
        return step_actor(self, self.config, played, sums, decay)

    def _terms(self, episodes: Episodes) -> list[Tensor]:
        """What every step adds to the objective, `T` tensors `[k]`."""
        steps, value_of = episodes.steps, self.critic.frozen(episodes.context)
        window = self.config.bptt_steps or len(steps)
        # What follows is differentiated up to the cut, and from there on estimated. Nothing follows a last step.
        going_on = [len(step.reward) for step in steps[1:]] + [0]
        ends = [
            (torch.arange(len(step.reward), device=step.reward.device) < count) * ((t + 1) % window == 0)
            for t, (step, count) in enumerate(zip(steps, going_on, strict=True))
        ]
        scores = [episodes.scores(t, self.learner.core.rules.score) for t in range(len(steps))]
        return [score + value_of(step) * end for score, step, end in zip(scores, steps, ends, strict=True)]
