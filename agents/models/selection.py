"""Action selection at inference: a search about the policy's mean for the action that a critic values most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acis_env.configs import check_at_least, check_positive
from acis_env.decoder import Decoder
from agents.models.ranking_critic import Conditioning, RankingCritic


@dataclass(frozen=True)
class SelectionConfig:
    """How far and how often to look around for a better action."""

    number: int = 8
    """Number of actions to choose from in a round; the first is the best so far, at the beginning the policy's mean."""
    spreads: tuple[float, ...] = (1.0, 0.5)
    """Standard deviations of the others about it, in units of the prior's; they take turns."""
    rounds: int = 2
    """Number of rounds, each about the best action of the one before."""
    shrink: float = 0.6
    """Factor of the spreads from one round to the next."""

    def __post_init__(self) -> None:
        if self.number < 2:
            raise ValueError(f"number must be at least 2, or there is no choice, got {self.number}")
        if not self.spreads:
            raise ValueError("spreads must hold at least one standard deviation, got none")
        check_at_least(1, self, "rounds")
        check_positive(self, "spreads", "shrink")


class ActionSelection:
    """Searches for the action of the largest value by a critic, without the ground truth.

    The candidates lie at the same offsets in every state, so a choice depends on the state alone.
    """

    def __init__(self, critic: RankingCritic, decoder: Decoder, config: SelectionConfig) -> None:
        """Take a critic that was trained to compare candidates, and the frozen decoder."""
        self.critic, self.decoder, self.config = critic, decoder, config
        shape = (config.rounds, config.number - 1, 1, decoder.latent_size)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        factors = config.shrink ** torch.arange(config.rounds).view(-1, 1, 1, 1)
        self.offsets = factors * in_turns(config.spreads, config.number - 1).view(-1, 1, 1) * noise

    def __call__(self, for_critic: Conditioning, for_decoder: Any, mask: Tensor, mean: Tensor) -> Tensor:
        """The best action found, `[B, L]`.

        Args:
            for_critic: what `RankingCritic.condition` made of `B` contexts.
            for_decoder: what `Decoder.condition` made of them.
            mask: `[B, 1, H, W]`, `M_t`.
            mean: `[B, L]`, of the policy.
        """

        return search(
            mean, self.offsets.to(mean.device), lambda z: self.critic(for_critic, mask, self.decoder(z, for_decoder))
        )


def search(mean: Tensor, offsets: Tensor, value_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The best action found from `mean` `[B, L]` on, `[B, L]`: in every round the best so far or one about it.

    Args:
        mean: where the first round looks around.
        offsets: `[R, K - 1, 1, L]`, of the candidates of each round from the best one before it.
        value_of: values `[B]` of actions `[B, L]`.
    """
    best, value = mean, value_of(mean)
    for around in offsets:
        latents = propose(best, around)
        values = torch.stack([value, *(value_of(latent) for latent in latents[1:])])
        best, value = pick(latents, values), values.amax(0)
    return best


def in_turns(spreads: Sequence[float], number: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard deviations of `number` candidates, `[number]`: those of `spreads`, which take turns."""
    return torch.tensor(spreads, device=device)[torch.arange(number, device=device) % len(spreads)]


def propose(mean: Tensor, offsets: Tensor) -> Tensor:
    """Candidates `[K, B, L]` around `mean` `[B, L]`, itself the first, at `offsets` `[K - 1, B or 1, L]`."""
    return torch.cat([mean[None], mean + offsets])


def pick(latents: Tensor, values: Tensor) -> Tensor:
    """Choose the latents of the largest of `values` `[K, B]` among `latents` `[K, B, L]`: `[B, L]`."""
    best = values.argmax(0)[None, :, None].expand(1, *latents.shape[1:])
    return latents.gather(0, best)[0]
