"""Search over actions: several candidates around the policy's mean, ranked by the truth.

The ground truth and the transition are known while training, so the environment's own functions can tell which of
several actions is best in a state. An actor can be drawn towards that action, and a critic can learn to tell without
the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from acis_env import dynamics
from acis_env.configs import check_choice, check_positive
from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState, Rules
from acis_env.precision import Precision, autocast
from agents.algorithms.rollout import ChooseActions, DecisionStep, discounted_returns, run_episodes
from agents.models.actor import Actor
from agents.models.ranking_critic import Conditioning, RankingCritic
from agents.models.selection import in_turns, pick, propose

CandidateValue = Literal["reward", "return"]


@dataclass(frozen=True)
class CandidateConfig:
    """Which actions are tried in a state while training, and what they are worth."""

    number: int = 4
    """Number of actions tried per state; the first is the policy's mean."""
    spreads: tuple[float, ...] = (0.15, 0.3, 0.6)
    """Standard deviations of the others about the mean, in units of the prior's; they take turns."""
    value: CandidateValue = "reward"
    """reward: what the action earns at once. return: with the discounted rewards of the mean policy after it."""
    mirrored: bool = False
    """Try actions in pairs, on opposite sides of the mean, whose difference tells a direction surely."""

    def __post_init__(self) -> None:
        if self.mirrored and self.number % 2 == 0:
            raise ValueError(f"number must be odd if mirrored, the mean and pairs about it, got {self.number}")
        if self.number < 2:
            raise ValueError(f"number must be at least 2, or there is no choice, got {self.number}")
        if not self.spreads:
            raise ValueError("spreads must hold at least one standard deviation, got none")
        check_positive(self, "spreads")
        check_choice(self, "value")

    def unused(self) -> dict[str, str]:
        """Fields of a configuration with such candidates that have no effect, with the reason."""
        return {"gamma": "candidates are worth their reward"} if self.value == "reward" else {}

    def worth(self, value: CandidateValue) -> CandidateConfig:
        """These candidates, valued by `value`."""
        return replace(self, value=value)

    def draw(self, state: EnvState, latent_size: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise `[number - 1, B, T, L]`, on the host, for the episodes of `state`."""
        number = (self.number - 1) // (2 if self.mirrored else 1)
        noise = torch.randn(number, len(state), state.scores.shape[1], latent_size, generator=generator)
        return torch.stack([noise, -noise], dim=1).flatten(0, 1) if self.mirrored else noise

    def scales(self, device: torch.device | str = "cpu") -> Tensor:
        """Standard deviation of each candidate but the mean, `[number - 1]`; the two of a pair share theirs."""
        if not self.mirrored:
            return in_turns(self.spreads, self.number - 1, device)
        return in_turns(self.spreads, (self.number - 1) // 2, device).repeat_interleave(2)


class Candidates(NamedTuple):
    """Actions tried in the `k` scenes of a step."""

    latents: Tensor  # [K, k, L], the first is the policy's mean
    values: Tensor  # [K, k]
    measures: Tensor | None  # [K, k, 12] of their masks, see `mask_measures`; None where nobody asked for them

    @property
    def best(self) -> Tensor:
        """The action of the largest value in every scene, `[k, L]`; the first one if several have it."""
        return pick(self.latents, self.values)


class Search:
    """Tries candidates by the known transition, from states of episodes with ground truth. Called, it takes the best.

    Attributes:
        tried: what has been tried, step by step.
    """

    def __init__(
        self,
        actor: Actor,
        decoder: Decoder,
        config: CandidateConfig,
        noise: Tensor,
        gamma: float,
        rules: Rules,
        precision: Precision = "float32",
        measures: bool = False,
    ) -> None:
        """Prepare to search.

        Args:
            actor: goes on after a candidate, when its return is asked for.
            decoder: frozen.
            config: what to try.
            noise: `[number - 1, B, T, L]`, standard normal, for the scenes of the batch searched in.
            gamma: discount per step.
            rules: rules of the reward.
            precision: precision of the networks.
            measures: whether to keep the measures of all masks, which a critic learns from. The masks are not kept.
        """
        self.actor, self.decoder, self.rules, self.precision = actor, decoder, rules, precision
        self.config, self.gamma = config, gamma
        self.offsets = noise * config.scales(noise.device).view(-1, 1, 1, 1)
        self.tried: list[Candidates] = []
        self._measures = measures
        self._for_critic: Conditioning | None = None

    @torch.no_grad()
    def __call__(self, decision: DecisionStep) -> Tensor:
        """Try all candidates; the best action in every scene, `[k, L]`."""
        running = len(decision.state)
        mean = decision.out.mean
        latents = propose(mean, self.offsets[:, :running, decision.t].to(mean.device))
        values, measures = [], []
        for latent in latents:  # one after the other, so that nothing that belongs to the state is held K times
            with autocast(mean.device, self.precision):
                after, value = dynamics.step(decision.state, latent, self.decoder, self.rules)
            if self.config.value == "return":
                value = value + self.gamma * self._follow(after, decision.out.memory)
            values.append(value)
            if self._measures:
                measures.append(self._measure(decision.state, after.predicted_mask))
        self.tried.append(Candidates(latents, torch.stack(values), torch.stack(measures) if measures else None))
        return self.tried[-1].best

    def _measure(self, state: EnvState, masks: Tensor) -> Tensor:
        """Measures `[k, 12]` of new masks `[k, 1, H, W]` in `state`."""
        if self._for_critic is None:  # the first step has all scenes, and each later one the first of them
            self._for_critic = RankingCritic.condition(state.context)
        foreground, vectors = (x[: len(masks)] for x in self._for_critic)
        return RankingCritic.measure((foreground, vectors), state.accumulated_mask, masks)

    def _follow(self, state: EnvState, memory: Tensor) -> Tensor:
        """Discounted rewards `[k]` of the mean policy from `state` to the end of the episodes."""
        episodes = run_episodes(self.actor, self.decoder, state, self.rules, precision=self.precision, memory=memory)
        value = torch.zeros_like(state.potential)
        if episodes.steps:
            first = discounted_returns(episodes, self.gamma)[0]
            value[: len(first)] = first
        return value


def search_but_take_mean(search: Search) -> ChooseActions:
    """Search in every state, but take the mean."""

    def choose(decision: DecisionStep) -> Tensor:
        search(decision)
        return decision.out.mean

    return choose


def search_and_mix(search: Search, takes_best: Tensor) -> ChooseActions:
    """Search in every state, and take the best action where `takes_best` `[B, 1]` bool is True, else the mean."""

    def choose(decision: DecisionStep) -> Tensor:
        best = search(decision)
        return torch.where(takes_best[: len(best)], best, decision.out.mean.detach())

    return choose


def slope(candidates: Candidates, scales: Tensor) -> Tensor:
    """Direction in which the actions of a state are worth more, `[k, L]`: the gradient of their values, smoothed.

    The estimate of evolution strategies, with the value of the mean as baseline.

    Args:
        candidates: actions about the mean, which is the first.
        scales: standard deviations `[K - 1]` of the others.
    """
    offsets = candidates.latents[1:] - candidates.latents[0]
    gains = (candidates.values[1:] - candidates.values[0])[..., None]
    return (gains * offsets / scales.square().view(-1, 1, 1)).mean(0)
