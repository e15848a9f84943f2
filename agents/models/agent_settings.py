"""What an agent's file says beside its networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from acis_env.configs import check_sizes
from agents.models.composition import Composition
from agents.models.scale import TrainingScale


@dataclass(frozen=True)
class AgentSettings:
    """What an agent's file says beside its networks; `Agent` describes them."""

    max_steps: int
    composition: Composition
    action_scale: float
    refine: bool
    preprocessing: str = "squeeze"
    scale: TrainingScale | None = None

    def __post_init__(self) -> None:
        check_sizes(self, "max_steps")
        if not 0 < self.action_scale < math.inf:
            raise ValueError(f"action_scale must be a positive number, got {self.action_scale}")
