"""Search distillation: the baseline, whose policy is also drawn towards the best of several candidates.

Nothing in the paper: its transition and reward are known while training, and can be searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch import Tensor

from acis_env.configs import check_at_least
from acis_env.dynamics import EnvState
from agents.algorithms.base import Algorithm, Learner
from agents.algorithms.baseline import Baseline, BaselineConfig
from agents.algorithms.rollout import ChooseActions, Episodes
from agents.algorithms.search import CandidateConfig, Search, search_but_take_mean


@dataclass(frozen=True)
class SearchDistillationConfig(BaselineConfig):
    """The baseline, drawn towards the best of several candidates in every state."""

    kind: tyro.conf.Suppress[Literal["search-distillation"]] = "search-distillation"  # type: ignore[assignment]
    candidates: CandidateConfig = CandidateConfig()
    """Actions that are tried."""
    weight: float = 0.1
    """Weight of the squared distance, per entry of the action, from the best candidate."""
    gamma: float = 0.9
    """Discount per predicted mask, where candidates are worth their return."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self, "weight", "gamma")

    def _unused(self) -> dict[str, str]:
        return {"sample": "episodes follow the mean"} | self.candidates.unused()

    def make(self, learner: Learner, previous: Algorithm | None = None) -> SearchDistillation:
        """Search distillation with these settings."""
        return SearchDistillation(self, learner)


class SearchDistillation(Baseline):
    """Tries candidates in every state of the mean policy's episodes."""

    config: SearchDistillationConfig

    def choose(self, state: EnvState, generator: torch.Generator) -> ChooseActions:
        """Search in every state, but take the mean."""
        learner, core, config = self.learner, self.learner.core, self.config
        noise = config.candidates.draw(state, core.decoder.latent_size, generator)
        settings = (config.candidates, noise, config.gamma, core.rules, core.precision)
        self._search = Search(learner.actor, core.decoder, *settings)
        return search_but_take_mean(self._search)

    def terms(self, episodes: Episodes) -> list[Tensor]:
        """What the baseline has, less the distance from the best candidate: `T` tensors `[k]`."""
        best = [candidates.best for candidates in self._search.tried]
        distances = [(step.mean - z).square().mean(1) for step, z in zip(episodes.steps, best, strict=True)]
        terms = zip(super().terms(episodes), distances, strict=True)
        return [term - self.config.weight * distance for term, distance in terms]
