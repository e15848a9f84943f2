"""A critic that compares masks in one state. It reads twelve numbers of each, and so learns in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from acis_env.configs import check_sizes
from acis_env.networks import FOREGROUND
from acis_env.precision import full_precision
from agents.models.measures import MEASURES, mask_measures, pointing


@dataclass(frozen=True)
class RankingCriticConfig:
    """Sizes of the critic."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers between the measures and the value."""

    def __post_init__(self) -> None:
        check_sizes(self, "hidden")


Conditioning = tuple[Tensor, Tensor]
"""What the critic knows of `B` contexts: foreground `[B, 1, H, W]` and vectors `[B, 2, H, W]`."""


class RankingCritic(nn.Module):
    """Values of masks by their `mask_measures`. It is not told how many instances are missing."""

    def __init__(self, config: RankingCriticConfig) -> None:
        super().__init__()
        self.config = config
        widths = (len(MEASURES), *config.hidden)
        layers = [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.LeakyReLU())]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    @staticmethod
    def condition(context: Tensor) -> Conditioning:
        """What stays fixed in an episode in `context` `[B, 12, H, W]`."""
        return context[:, FOREGROUND : FOREGROUND + 1], pointing(context)

    @staticmethod
    def measure(conditioning: Conditioning, mask: Tensor, predicted_mask: Tensor) -> Tensor:
        """What the critic reads, `[B, 12]`, of the new masks `predicted_mask` beside `M_t`, both `[B, 1, H, W]`."""
        return mask_measures(predicted_mask, mask, *conditioning)

    def values(self, measures: Tensor) -> Tensor:
        """Values `[...]` of masks with `measures` `[..., 12]`."""
        with full_precision(measures.device):
            values: Tensor = self.head(measures)[..., 0]
        return values

    def forward(self, conditioning: Conditioning, mask: Tensor, predicted_mask: Tensor) -> Tensor:
        """Values `[B]` of masks; the arguments are those of `measure`."""
        return self.values(self.measure(conditioning, mask, predicted_mask))
