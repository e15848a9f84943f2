"""Critic ranking: a critic learns to compare candidate masks in the same state, and the agent then acts by it.

Nothing in the paper: its critic estimates returns, of which a choice between masks is a small part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import tyro

from acis_env.configs import check_at_least
from acis_env.dynamics import EnvState
from agents.algorithms.base import Algorithm, AlgorithmConfig, Learner, Losses, Progress
from agents.algorithms.comparisons import Comparisons, RankingLearner, compare, join
from agents.algorithms.rollout import Episodes, run_episodes, split_episodes
from agents.algorithms.search import (
    CandidateConfig,
    Candidates,
    CandidateValue,
    Search,
    search_and_mix,
)
from agents.models.ranking_critic import RankingCriticConfig
from agents.models.selection import ActionSelection, SelectionConfig


@dataclass(frozen=True)
class CriticRankingConfig(AlgorithmConfig):
    """A critic that learns the true values of candidates, and chooses among candidates at inference.

    The actor stays as it is; only its termination unit goes on learning. Nobody knows at inference how many instances
    are missing, so this critic is never told.
    """

    moves_actor: ClassVar[bool] = False
    kind: tyro.conf.Suppress[Literal["critic-ranking"]] = "critic-ranking"
    candidates: CandidateConfig = CandidateConfig(number=6, spreads=(0.3, 0.6, 1.0))
    """Actions that are compared while training."""
    selection: SelectionConfig = SelectionConfig()
    """Actions that the trained agent chooses from."""
    gamma: float = 0.9
    """Discount per predicted mask, where candidates are worth their return."""
    critic: RankingCriticConfig = RankingCriticConfig()
    """Sizes of the critic."""
    critic_learning_rate: float = 3e-3
    """Learning rate of the critic; falls with `decay`."""
    critic_updates: int = 24
    """Number of critic updates per iteration."""
    critic_batch_size: int = 96
    """Number of states per critic update, in all processes together."""
    replay_size: int = 64
    """Number of collections of compared candidates, the newest ones, that the critic learns from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "critic_updates", "critic_batch_size", "replay_size")
        check_at_least(0, self, "gamma")
        check_at_least(0, self, "critic_learning_rate")

    def _unused(self) -> dict[str, str]:
        unused = {} if self.moves_actor else dict.fromkeys(("learning_rate", "kl_weight"), "the actor stays as it is")
        return unused | self.candidates.unused()

    def make(self, learner: Learner, previous: Algorithm | None = None) -> CriticRanking:
        """Critic ranking with these settings."""
        return CriticRanking(self, learner, previous)


class CriticRanking(Algorithm):
    """Compares candidates in every state of episodes, half of which follow the best one."""

    def __init__(self, config: CriticRankingConfig, learner: Learner, previous: Algorithm | None = None) -> None:
        super().__init__(learner)
        self.config = config
        self.critic = RankingLearner(learner, config.critic, config.replay_size, config.clip_norm)
        if isinstance(previous, CriticRanking) and self._learns_as(previous):
            # Only what has been learnt: the settings are those of this stage.
            self.critic.load_state_dict([previous.critic.state_dict()] * learner.group.world_size)
        self._critic_batch_size = learner.group.share(config.critic_batch_size, "critic_batch_size")
        self._has_learnt = False

    def _learns_as(self, other: CriticRanking) -> bool:
        """Whether both critics have one form, and learn the same values of as many candidates."""
        ours, theirs = (
            (config.critic, config.gamma, config.candidates.number, config.candidates.value)
            for config in (self.config, other.config)
        )
        return ours == theirs

    def train_iteration(self, progress: Progress) -> Losses:
        """Compare candidates in fresh episodes, and update the termination unit and the critic."""
        learner = self.learner
        learner.env.reset()
        parts = split_episodes(learner.core.state, learner.config.accumulate)
        compared, played = zip(*(self.compare(part, progress.generator) for part in parts), strict=True)
        features, targets = (
            torch.cat([getattr(e, name) for e in played]) for name in ("termination_features", "continue_targets")
        )
        decay = progress.decay(self.config.decay)
        losses = learner.update_termination(features, targets, decay)
        return losses | self.update_critic(join(compared), progress, decay)

    def update_critic(self, collected: Comparisons, progress: Progress, decay: float) -> Losses:
        """Add what was compared to the replay, and take a few steps of the critic."""
        config = self.config
        measured = {"critic/rank_correlation": self.critic.rank_correlation(collected)} if progress.monitor else {}
        rate = decay * config.critic_learning_rate
        losses = self.critic.learn(collected, config.critic_updates, self._critic_batch_size, rate, progress.generator)
        self._has_learnt = True
        return measured | losses

    @torch.no_grad()
    def compare(
        self, state: EnvState, generator: torch.Generator, value: CandidateValue | None = None
    ) -> tuple[Comparisons, Episodes]:
        """The states that `explore` visits with their candidates, and the episodes, without gradients."""
        tried, episodes = self.explore(state, generator, value)
        return compare(tried), episodes

    def explore(
        self, state: EnvState, generator: torch.Generator, value: CandidateValue | None = None
    ) -> tuple[list[Candidates], Episodes]:
        """Play the episodes of `state` and find the true values of several candidates in every state.

        Half of the episodes follow the policy's mean and half the best candidate, since the choices of the trained
        critic lie between. `value` says what a candidate is worth, if it is not what the configuration says.

        Returns:
            The candidates, step by step, and the episodes; the policy's means have gradients to the actor.
        """
        learner, core, config = self.learner, self.learner.core, self.config
        noise = config.candidates.draw(state, core.decoder.latent_size, generator)
        takes_best = (torch.rand(len(state), 1, generator=generator) < 0.5).to(core.device)
        candidates = config.candidates.worth(value or config.candidates.value)
        search = Search(
            learner.actor, core.decoder, candidates, noise, config.gamma, core.rules, core.precision, measures=True
        )
        choose = search_and_mix(search, takes_best)
        episodes = run_episodes(learner.actor, core.decoder, state, core.rules, choose, precision=core.precision)
        return search.tried, episodes

    @property
    def selection(self) -> ActionSelection | None:
        """The critic's choice, once it has begun to learn."""
        if not self._has_learnt:
            return None
        return ActionSelection(self.critic.critic, self.learner.core.decoder, self.config.selection)

    def state_dict(self) -> dict[str, Any]:
        """Critic and replay."""
        return {"critic": self.critic.state_dict(), "has_learnt": self._has_learnt}

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore what the `state_dict` of all processes gave, or a share of it."""
        self.critic.load_state_dict([state["critic"] for state in states])
        self._has_learnt = states[0]["has_learnt"]
