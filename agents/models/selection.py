"""Action selection at inference: a critic chooses among candidates around the policy's mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acis_env.decoder import Decoder
from agents.models.critic import Critic


@dataclass(frozen=True)
class SelectionConfig:
    """Which actions a trained agent chooses from."""

    number: int = 16
    """Number of candidate actions per state at inference; the first is the policy's mean."""
    spreads: tuple[float, ...] = (0.15, 0.3, 0.6)
    """Standard deviations of the others about the mean, in units of the prior's; they take turns."""

    def __post_init__(self) -> None:
        if self.number < 2:
            raise ValueError(f"number must be at least 2, or there is no choice, got {self.number}")
        if not self.spreads or min(self.spreads) <= 0:
            raise ValueError(f"spreads must be positive numbers, got {self.spreads}")


class ActionSelection:
    """Chooses among candidates by a critic's value, without the ground truth.

    The candidates lie at the same offsets in every state, so a choice depends on the state alone.
    """

    def __init__(self, critic: Critic, decoder: Decoder, config: SelectionConfig) -> None:
        """Take a critic that was trained to compare candidates, and the frozen decoder."""
        self.critic, self.decoder, self.config = critic, decoder, config
        shape = (config.number - 1, 1, decoder.latent_size)
        self.offsets = scale_noise(torch.randn(shape, generator=torch.Generator().manual_seed(0)), config.spreads)

    def __call__(self, for_critic: tuple[Tensor, Tensor], for_decoder: Any, mask: Tensor, mean: Tensor) -> Tensor:
        """Choose the candidate of the largest value, `[B, L]`.

        Args:
            for_critic: what `Critic.condition` made of `B` contexts.
            for_decoder: what `Decoder.condition` made of them.
            mask: `[B, 1, H, W]`, `M_t`.
            mean: `[B, L]`, of the policy.
        """
        latents = propose(mean, self.offsets.to(mean.device))
        values = [self.critic(for_critic, mask, self.decoder(latent, for_decoder)) for latent in latents]
        return pick(latents, torch.stack(values))


def scale_noise(noise: Tensor, spreads: Sequence[float]) -> Tensor:
    """Offsets from the mean: standard normal `noise` `[K - 1, ...]` times `spreads`, which take turns."""
    scales = torch.tensor(spreads, device=noise.device)
    turn = torch.arange(len(noise), device=noise.device) % len(scales)
    return noise * scales[turn].view(-1, *[1] * (noise.dim() - 1))


def propose(mean: Tensor, offsets: Tensor) -> Tensor:
    """Candidates `[K, B, L]` around `mean` `[B, L]`, itself the first, at `offsets` `[K - 1, B or 1, L]`."""
    return torch.cat([mean[None], mean + offsets])


def pick(latents: Tensor, values: Tensor) -> Tensor:
    """Choose the latents of the largest of `values` `[K, B]` among `latents` `[K, B, L]`: `[B, L]`."""
    best = values.argmax(0)[None, :, None].expand(1, *latents.shape[1:])
    return latents.gather(0, best)[0]
