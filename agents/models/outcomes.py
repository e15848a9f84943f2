"""The choice among whole outcomes at inference: of several episodes, and of where each of them could have stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from acis_env.configs import check_at_least
from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState
from agents.models.actor import Actor
from agents.models.outcome_critic import OutcomeCritic
from agents.models.prediction import Prediction
from agents.models.selection import ActionSelection
from agents.models.visits import Visit, predict

UNLIKELY = 0.02
"""An episode ends once the chance that there are more instances than masks is below this."""

OFFSETS = 32
"""Steps after which what an episode adds to the policy's means comes again."""


@dataclass(frozen=True)
class OutcomeChoiceConfig:
    """How many outcomes to choose from, and how different they are."""

    episodes: int = 4
    """Number of episodes per picture, which cost as much time; the first is that of the policy as it is."""
    spread: float = 0.5
    """Standard deviation, in units of the prior's, of what the others add to the policy's means."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "episodes")
        check_at_least(0, self, "spread")


class OutcomeChoice:
    """Takes the outcome that a critic predicts to be best; the truth is not looked at.

    What the episodes add to the policy's means is the same in every picture, so a choice depends on the picture alone.
    """

    def __init__(self, critic: OutcomeCritic, config: OutcomeChoiceConfig, latent_size: int) -> None:
        """Take a trained critic, and the size of the actions."""
        self.critic, self.config = critic, config
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(config.episodes - 1, OFFSETS, latent_size, generator=generator)
        self.offsets = [None, *(config.spread * noise)]

    @torch.no_grad()
    def predict(
        self,
        actor: Actor,
        decoder: Decoder,
        state: EnvState,
        selection: ActionSelection | None,
        cap: int,
        min_steps: int = 0,
        threshold: float = 0.5,
        values_of: Callable[[Tensor], Tensor] | None = None,
    ) -> Prediction:
        """The masks of the best episode in every scene, and how many of them to keep; see `Agent.predict_masks`.

        Args:
            actor: the policy.
            decoder: that with which the episodes of `state` began.
            state: fresh episodes in `B` scenes.
            selection: chooses the actions; None takes the policy's mean.
            cap: largest number of masks.
            min_steps: go on for so many masks anyway.
            threshold: probability below which a mask does not hold a pixel.
            values_of: values `[T + 1, B]` of the prefixes of masks `[B, T, H, W]`; None asks the critic.
        """
        known = self.critic.condition(state.context)
        beyond = 1 - known.chances.cumsum(1)  # [B, n]: chance of more than n instances

        def ends(t: int, visit: Visit, left: Tensor) -> Tensor:
            return beyond[left, min(t, beyond.shape[1] - 1)] < UNLIKELY

        outcomes = []
        for offsets in self.offsets:
            found = predict(actor, decoder, state, selection, cap, min_steps, ends, offsets)
            values = values_of(found.masks) if values_of else self.critic.values(known, found.masks, threshold)
            reached = torch.arange(len(values), device=values.device)[:, None] <= found.num_masks
            value, number = values.where(reached, -torch.inf).max(0)
            outcomes.append((value, Prediction(found.masks, number, number < cap)))
        largest, best = outcomes[0]
        for value, prediction in outcomes[1:]:
            best = _either(value > largest, prediction, best)
            largest = torch.maximum(value, largest)
        return best


def _either(chosen: Tensor, one: Prediction, other: Prediction) -> Prediction:
    """The prediction `one` in the scenes where `chosen` `[B]` bool is True, else `other`."""
    longest = max(one.masks.shape[1], other.masks.shape[1])
    first, second = (pad(found.masks, (0, 0, 0, 0, 0, longest - found.masks.shape[1])) for found in (one, other))
    return Prediction(
        torch.where(chosen[:, None, None, None], first, second),
        torch.where(chosen, one.num_masks, other.num_masks),
        torch.where(chosen, one.stopped, other.stopped),
    )
