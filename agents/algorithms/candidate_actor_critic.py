"""Candidate actor-critic: what candidates earn in a state moves the actor and teaches the critic.

No gradient of the reward, which may be any number that an environment gives. The actor follows differences of rewards,
as in evolution strategies but in the space of actions: Salimans et al., "Evolution strategies as a scalable alternative
to reinforcement learning", 2017. The critic learns the same differences, and searches for better actions at inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import tyro

from agents.algorithms.base import Algorithm, Learner, Losses, Progress, ascend
from agents.algorithms.baseline import reached, step_actor
from agents.algorithms.comparisons import compare, join
from agents.algorithms.critic_ranking import CriticRanking, CriticRankingConfig
from agents.algorithms.rollout import split_episodes
from agents.algorithms.search import CandidateConfig, slope


@dataclass(frozen=True)
class CandidateActorCriticConfig(CriticRankingConfig):
    """An actor that follows the rewards of candidates, and a critic that learns them and searches at inference."""

    moves_actor: ClassVar[bool] = True
    kind: tyro.conf.Suppress[Literal["candidate-actor-critic"]] = "candidate-actor-critic"  # type: ignore[assignment]
    learning_rate: float = 2e-3
    """Learning rate of the actor."""
    kl_weight: float = 3e-4
    """Weight of the KL divergence of the policy from the latent prior."""
    candidates: CandidateConfig = CandidateConfig(number=5, spreads=(0.3, 0.6), mirrored=True)
    """Actions that are compared while training; the more, the surer the direction in which the actor moves."""

    def make(self, learner: Learner, previous: Algorithm | None = None) -> CandidateActorCritic:
        """The candidate actor-critic with these settings."""
        return CandidateActorCritic(self, learner, previous)


class CandidateActorCritic(CriticRanking):
    """Compares candidates in every state of episodes, half of which follow the best one; actor and critic learn."""

    config: CandidateActorCriticConfig

    def train_iteration(self, progress: Progress) -> Losses:
        """Compare candidates in fresh episodes, and update actor, termination unit and critic."""
        learner, config = self.learner, self.config
        learner.env.reset()
        scales = config.candidates.scales(learner.core.device)
        compared, played, sums = [], [], []
        for part in split_episodes(learner.core.state, learner.config.accumulate):
            tried, episodes = self.explore(part, progress.generator)
            directions = [slope(candidates, scales) for candidates in tried]
            terms = [(step.mean * d).sum(1) for step, d in zip(episodes.steps, directions, strict=True)]
            sums.append({**ascend(episodes.steps, terms, config.kl_weight), **reached(episodes)})
            compared.append(compare(tried))
            played.append(episodes)
        decay = progress.decay(config.decay)
        losses = step_actor(self, config, played, sums, decay)
        return losses | self.update_critic(join(compared), progress, decay)
