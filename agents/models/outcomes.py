"""The choice among whole outcomes at inference: of several episodes, and of where each of them could have stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
"""An episode ends once the chance that there are more instances than masks is less than this."""

OFFSETS = 32
"""Number of offsets of an episode; after so many steps they repeat."""

TOGETHER = 16
"""Largest number of episodes, of all pictures together, in a batch that holds more than one episode per picture.

On a CPU, larger batches are no faster.
"""


@dataclass(frozen=True)
class OutcomeChoiceConfig:
    """How many outcomes to choose from, and how different they are."""

    episodes: int = 4
    """Number of episodes per picture; the first is that of the policy as it is."""
    spread: float = 0.5
    """Standard deviation, in units of the prior's, of what the others add to the policy's means."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "episodes")
        check_at_least(0, self, "spread")


class OutcomeChoice:
    """Takes the outcome that a critic predicts to be best; the truth is not looked at.

    What the episodes add to the policy's means is the same in every picture, so a choice depends on the picture alone.
    """

    def __init__(self, critic: OutcomeCritic, decoder: Decoder, config: OutcomeChoiceConfig) -> None:
        """Take a trained critic, and the decoder of the actions."""
        self.critic, self.decoder, self.config = critic, decoder, config
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(config.episodes - 1, OFFSETS, decoder.latent_size, generator=generator)
        self.offsets = pad(config.spread * noise, (0, 0, 0, 0, 1, 0))  # [E, OFFSETS, L]; the first adds nothing

    def among(self, episodes: int) -> OutcomeChoice:
        """This choice among another number of episodes: the more, the better and the slower.

        Raises:
            ValueError: there would be none.
        """
        return OutcomeChoice(self.critic, self.decoder, replace(self.config, episodes=episodes))

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
        beyond[:, -1] = known.chances[:, -1]  # which stands for that many or more
        size, device = len(state), known.chances.device

        def ends(t: int, visit: Visit, left: Tensor) -> Tensor:
            return beyond[left % size, min(t, beyond.shape[1] - 1)] < UNLIKELY

        best: tuple[Tensor, Prediction] | None = None
        for offsets in self.offsets.to(device).split(max(TOGETHER // max(size, 1), 1)):
            scenes = torch.arange(size, device=device).repeat(len(offsets))
            every = offsets.transpose(0, 1).repeat_interleave(size, dim=1)  # [OFFSETS, E * B, L]
            played = predict(actor, decoder, state.select(scenes), selection, cap, min_steps, ends, every)
            episodes = (part.split(size) for part in (played.masks, played.num_masks, played.stopped))
            for masks, longest, stopped in zip(*episodes, strict=True):
                values = values_of(masks) if values_of else self.critic.values(known, masks, threshold)
                reached = torch.arange(len(values), device=values.device)[:, None] <= longest
                value, number = values.where(reached, -torch.inf).max(0)
                made = Prediction(masks, number, stopped | (number < cap))
                best = (value, made) if best is None else _better((value, made), best)
        assert best is not None
        return best[1]


def _better(new: tuple[Tensor, Prediction], old: tuple[Tensor, Prediction]) -> tuple[Tensor, Prediction]:
    """In every scene the prediction of the larger value `[B]`, with that; the old one if they are equal."""
    is_better = new[0] > old[0]
    longest = max(found.masks.shape[1] for _, found in (new, old))
    first, second = (pad(found.masks, (0, 0, 0, 0, 0, longest - found.masks.shape[1])) for _, found in (new, old))
    masks = torch.where(is_better[:, None, None, None], first, second)
    number, stopped = (
        torch.where(is_better, getattr(new[1], name), getattr(old[1], name)) for name in ("num_masks", "stopped")
    )
    return torch.maximum(new[0], old[0]), Prediction(masks, number, stopped)


def choose_among(outcomes: OutcomeChoice | None, episodes: int | None, agent: object) -> OutcomeChoice | None:
    """What an agent chooses from if `episodes` are asked for; None leaves that to the agent, which errors name.

    Raises:
        ValueError: the agent does not choose among outcomes, or there would be none.
    """
    if episodes is None:
        return outcomes
    if outcomes is None:
        raise ValueError(
            f"{agent} plays one episode: episodes can be given for agents that choose among several, such as those of "
            f"the preset best; got {episodes}"
        )
    return outcomes.among(episodes)
