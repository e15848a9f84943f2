"""What candidates in the same state are worth, and a critic that learns it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.algorithms.base import Learner, Losses
from agents.algorithms.search import Candidates
from agents.models.ranking_critic import RankingCritic, RankingCriticConfig

BETWEEN_WEIGHT = 0.1
"""Weight of the error in the mean over candidates, beside the errors about that mean."""


class Comparisons(NamedTuple):
    """`K` candidates in each of `S` states: all that a critic needs to know of them."""

    measures: Tensor  # [S, K, 12], see `mask_measures`
    values: Tensor  # [S, K], what they are worth by the truth

    def __len__(self) -> int:
        """Number of states."""
        return len(self.values)


def compare(tried: Sequence[Candidates]) -> Comparisons:
    """The states of episodes, each with all candidates that were tried in it, measured, and with what these are worth.

    Raises:
        ValueError: the candidates were not measured.
    """
    measures = [candidates.measures.transpose(0, 1) for candidates in tried if candidates.measures is not None]
    if len(measures) < len(tried):
        raise ValueError("candidates were tried without their measures: expected those of a Search with measures=True")
    return Comparisons(torch.cat(measures), torch.cat([candidates.values.T for candidates in tried]))


def join(parts: Sequence[Comparisons]) -> Comparisons:
    """The states of all `parts`, one part after the other."""
    measures, values = zip(*parts, strict=True)
    return Comparisons(torch.cat(measures), torch.cat(values))


class RankingLearner:
    """A critic with its optimiser, and the newest comparisons of this process, which it learns from."""

    def __init__(self, learner: Learner, config: RankingCriticConfig, capacity: int, clip_norm: float) -> None:
        """Make a critic.

        Args:
            learner: gives the processes, and the device.
            config: sizes of the critic.
            capacity: number of collections of comparisons that are kept.
            clip_norm: largest norm of its gradient.
        """
        self.learner, self.clip_norm = learner, clip_norm
        self.critic = RankingCritic(config).to(learner.core.device)
        self.optimizer = learner.adam(list(self.critic.parameters()))
        self.replay: deque[Comparisons] = deque(maxlen=capacity)

    def learn(
        self, collected: Comparisons, updates: int, size: int, learning_rate: float, generator: torch.Generator
    ) -> Losses:
        """Keep `collected`, and take `updates` steps, each on `size` of the states that are kept."""
        self.replay.append(collected)
        kept = join(self.replay)
        for _ in range(updates):
            rows = torch.randperm(len(kept), generator=generator)[:size].to(kept.values.device)
            losses = self.rank(Comparisons(kept.measures[rows], kept.values[rows]), learning_rate)
        return losses

    def rank(self, batch: Comparisons, learning_rate: float) -> Losses:
        """One step towards the values of candidates in the same states, mostly towards their differences.

        States differ far more than the candidates in one of them, which is all that a choice depends on.
        """
        errors = self.critic.values(batch.measures) - batch.values
        shared = errors.mean(1, keepdim=True)
        within = (errors - shared).square().mean(1).sum()
        between = shared.square().sum()
        (within + BETWEEN_WEIGHT * between).backward()
        spread = (batch.values - batch.values.mean(1, keepdim=True)).square().mean(1).sum()
        sums = {"critic/loss": within.detach(), "between": between.detach(), "spread": spread}
        losses, norm = self.learner.descend(self.optimizer, learning_rate, self.clip_norm, [sums], len(batch))
        return {
            "critic/loss": losses["critic/loss"],
            "critic/explained_spread": 1 - losses["critic/loss"] / losses["spread"].clamp_min(1e-6),
            "critic/gradient_norm": norm,
        }

    @torch.no_grad()
    def rank_correlation(self, compared: Comparisons) -> Tensor:
        """Mean over states of Spearman's correlation between the critic's and the true values of candidates."""
        return rank_correlation(self.critic.values(compared.measures).T, compared.values.T).mean()

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, and the comparisons of this process on the host."""
        return {
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": [tuple(x.cpu() for x in collected) for collected in self.replay],
        }

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore what the `state_dict` of all processes gave; another number of them shares out the comparisons."""
        group, device = self.learner.group, self.learner.core.device
        self.critic.load_state_dict(states[0]["critic"])
        self.optimizer.load_state_dict(states[0]["optimizer"])
        self.replay.clear()
        for rows in group.share_rows([state["replay"] for state in states]):
            self.replay.append(Comparisons(*(x.to(device) for x in rows)))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of two lists of values of `K` candidates, both `[K, B]`: `[B]`; 0 if constant."""
    return torch.nn.functional.cosine_similarity(_ranks(first), _ranks(second), dim=0)


def _ranks(values: Tensor) -> Tensor:
    """Ranks `[K, B]` about their mean; equals share theirs."""
    return (torch.sign(values[:, None] - values[None])).sum(1)
