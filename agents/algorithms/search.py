"""Search over actions: candidates around the policy's mean, ranked by the truth while training, by a critic afterwards.

The ground truth and the transition are known while training, so the environment itself can tell which of several
actions is best in a state. An actor can be drawn towards that action, and a critic can learn to tell without the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from acis_env import dynamics
from acis_env.decoder import Conditioning, Decoder
from acis_env.dynamics import EnvState, Rules
from acis_env.precision import Precision
from agents.algorithms.rollout import Choice, Visit, discounted_returns, run_episodes
from agents.models.actor import Actor
from agents.models.critic import Critic


@dataclass(frozen=True)
class SearchConfig:
    """Which actions are tried in a state, and what they are worth."""

    candidates: int = 4
    """Actions tried per state while training; the first is the policy's mean."""
    judged: int = 16
    """Likewise at inference, where the critic judges them."""
    spreads: tuple[float, ...] = (0.15, 0.3, 0.6)
    """Standard deviations of the others about it, in units of the prior's; they take turns."""
    value: Literal["reward", "return"] = "reward"
    """reward: what the action earns at once. return: with the discounted rewards of the mean policy after it."""
    weight: float = 0.1
    """Of the squared distance, per latent, from the best candidate, beside the score (objective "search")."""

    def __post_init__(self) -> None:
        for name in ("candidates", "judged"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, or there is no choice, got {getattr(self, name)}")
        if not self.spreads or min(self.spreads) <= 0:
            raise ValueError(f"spreads must be positive numbers, got {self.spreads}")

    def scale(self, noise: Tensor) -> Tensor:
        """Offsets from the mean, of standard normal `noise` `[candidates - 1, ...]`."""
        spreads = torch.tensor(self.spreads, device=noise.device)
        turn = torch.arange(len(noise), device=noise.device) % len(spreads)
        return noise * spreads[turn].view(-1, *[1] * (noise.dim() - 1))


class Candidates(NamedTuple):
    """Actions tried in the `k` scenes of a visit."""

    latents: Tensor  # [K, k, l], the first is the policy's mean
    masks: Tensor  # [K, k, 1, H, W]
    values: Tensor  # [K, k]

    @property
    def best(self) -> Tensor:
        """The action of the largest value in every scene, `[k, l]`; of equals the first."""
        return pick(self.latents, self.values)


def propose(mean: Tensor, offsets: Tensor) -> Tensor:
    """Candidates `[K, B, l]` around `mean` `[B, l]`, itself the first, at `offsets` `[K - 1, B or 1, l]`."""
    return torch.cat([mean[None], mean + offsets])


def pick(latents: Tensor, values: Tensor) -> Tensor:
    """`[B, l]`: the latents of the largest of `values` `[K, B]` among `latents` `[K, B, l]`."""
    return latents.take_along_dim(values.argmax(0)[None, :, None], 0)[0]


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of two lists of values of `K` candidates, both `[K, B]`: `[B]`; 0 if constant."""
    first_ranks, second_ranks = _ranks(first), _ranks(second)
    return torch.nn.functional.cosine_similarity(first_ranks, second_ranks, dim=0)


def _ranks(values: Tensor) -> Tensor:
    """Ranks `[K, B]` about their mean; equals share theirs."""
    return (torch.sign(values[:, None] - values[None])).sum(1)


class Search:
    """Tries candidates in the known transition, from states of episodes with ground truth. A `Choice`: the best.

    Attributes:
        tried: what has been tried, step by step.
    """

    def __init__(
        self,
        actor: Actor,
        decoder: Decoder,
        config: SearchConfig,
        noise: Tensor,
        gamma: float,
        rules: Rules = dynamics.DEFAULT_RULES,
        precision: Precision = "float32",
    ) -> None:
        """Prepare to search.

        Args:
            actor: goes on after a candidate, when its return is asked for.
            decoder: frozen.
            config: what to try.
            noise: `[candidates - 1, B, T, l]`, standard normal, for the scenes of the batch searched in.
            gamma: discount per step.
            rules: of the reward.
            precision: of the networks.
        """
        self.actor, self.decoder, self.rules, self.precision = actor, decoder, rules, precision
        self.config, self.gamma = config, gamma
        self.offsets = config.scale(noise)
        self.tried: list[Candidates] = []

    @torch.no_grad()
    def __call__(self, visit: Visit) -> Tensor:
        """Try all candidates; the best action in every scene, `[k, l]`."""
        running = len(visit.state)
        latents = propose(visit.out.mean, self.offsets[:, :running, visit.t])
        masks, values = [], []
        for latent in latents:  # one after the other, so that nothing that belongs to the state is held K times
            after, value = dynamics.step(visit.state, latent, self.decoder, self.rules)
            if self.config.value == "return":
                value = value + self.gamma * self._follow(after, visit.out.memory)
            masks.append(after.predicted_mask)
            values.append(value)
        self.tried.append(Candidates(latents, torch.stack(masks), torch.stack(values)))
        return self.tried[-1].best

    def _follow(self, state: EnvState, memory: Tensor) -> Tensor:
        """Discounted rewards `[k]` of the mean policy from `state` to the end of the episodes."""
        episodes = run_episodes(self.actor, self.decoder, state, self.rules, precision=self.precision, memory=memory)
        value = torch.zeros_like(state.potential)
        if episodes.steps:
            first = discounted_returns(episodes, self.gamma)[0]
            value[: len(first)] = first
        return value


def look(search: Search) -> Choice:
    """Search everywhere, but take the mean."""

    def choose(visit: Visit) -> Tensor:
        search(visit)
        return visit.out.mean

    return choose


def explore(search: Search, follows_best: Tensor) -> Choice:
    """Search everywhere, and take the best action where `follows_best` `[B, 1]` bool is True, else the mean."""

    def choose(visit: Visit) -> Tensor:
        best = search(visit)
        return torch.where(follows_best[: len(best)], best, visit.out.mean)

    return choose


class Judge:
    """Chooses among candidates by a critic's value, without the ground truth: what a search taught it, at inference.

    The candidates lie at the same offsets in every state, so a choice depends on the state alone.
    """

    def __init__(self, critic: Critic, decoder: Decoder, config: SearchConfig) -> None:
        """Take a critic that was trained to compare candidates of `config`, and the frozen decoder."""
        self.critic, self.decoder, self.config = critic, decoder, config
        shape = (config.judged - 1, 1, decoder.latent_size)
        self.offsets = config.scale(torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    def __call__(
        self, for_critic: tuple[Tensor, Tensor], for_decoder: Conditioning, mask: Tensor, mean: Tensor
    ) -> Tensor:
        """The candidate of the largest value, `[B, l]`.

        Args:
            for_critic: what `Critic.condition` made of `B` contexts.
            for_decoder: what `Decoder.condition` made of them.
            mask: `[B, 1, H, W]`, `M_t`.
            mean: `[B, l]`, of the policy.
        """
        latents = propose(mean, self.offsets.to(mean.device))
        values = [self.critic(for_critic, mask, self.decoder(latent, for_decoder)) for latent in latents]
        return pick(latents, torch.stack(values))
