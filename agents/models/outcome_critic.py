"""A critic of whole outcomes: how good the label map of some masks is, by the context alone.

It knows two things, and puts them together by arithmetic: how well each label fits the instance that it fits best, from
the measures of its mask, and how many instances there are, from the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.configs import check_sizes
from acis_env.networks import FOREGROUND
from acis_env.precision import full_precision, to_float32
from agents.models.measures import MEASURES, mask_measures, pointing

COUNTING_SIDE = 64
"""Contexts are pooled for counting until their shorter side has about this many pixels; smaller ones are left as they
are."""


@dataclass(frozen=True)
class OutcomeCriticConfig:
    """Sizes of the critic."""

    max_count: int = 20
    """Largest number of instances that it tells from others; so many or more are one class."""
    widths: tuple[int, ...] = (24, 48, 64)
    """Channels of the convolutions that count; the first two halve the resolution."""
    count_hidden: int = 64
    """Width of the layer before the logits of the count."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers between the measures of a label and its quality."""

    def __post_init__(self) -> None:
        check_sizes(self, "max_count", "widths", "count_hidden", "hidden")
        if len(self.widths) < 2:
            raise ValueError(f"widths must hold at least two numbers of channels, got {self.widths}")


class OutcomeContext(NamedTuple):
    """What the critic knows of `B` contexts before anything is predicted."""

    foreground: Tensor  # [B, 1, H, W] in [0, 1]
    vectors: Tensor  # [B, 2, H, W], from `pointing`
    chances: Tensor  # [B, max_count + 1], probability of each number of instances


class OutcomeCritic(nn.Module):
    """Predicts the symmetric best Dice of label maps, whose overlaps go to the most probable mask and which are not
    filled."""

    def __init__(self, config: OutcomeCriticConfig) -> None:
        super().__init__()
        self.config = config
        widths = (6, *config.widths)  # image, foreground and vectors
        strides = [2, 2] + [1] * (len(config.widths) - 2)
        layers = [nn.Conv2d(i, o, 3, s, padding=1) for (i, o), s in zip(pairwise(widths), strides, strict=True)]
        self.counting = nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU())))
        self.density = nn.Conv2d(widths[-1], 1, 1)
        self.count = nn.Sequential(
            nn.Linear(widths[-1] + 1, config.count_hidden),
            nn.LeakyReLU(),
            nn.Linear(config.count_hidden, config.max_count + 1),
        )
        sizes = (len(MEASURES), *config.hidden)
        hidden = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.LeakyReLU())]
        self.quality = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))

    def condition(self, context: Tensor) -> OutcomeContext:
        """What stays fixed in an episode in `context` `[B, 12, H, W]`."""
        logits, _ = self.count_logits(self.counting_planes(context))
        return OutcomeContext(context[:, FOREGROUND : FOREGROUND + 1], pointing(context), logits.softmax(1))

    @staticmethod
    def counting_planes(context: Tensor) -> Tensor:
        """What the count is made of: image, foreground and vectors, `[B, 6, h, w]`, coarser than a large context."""
        planes = torch.cat([to_float32(context[:, : FOREGROUND + 1]), pointing(context)], dim=1)
        factor = min(planes.shape[2:]) // COUNTING_SIDE
        return F.avg_pool2d(planes, factor) if factor > 1 else planes

    def count_logits(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[B, max_count + 1]` of the number of instances by `counting_planes`, and its estimate `[B]`.

        The estimate is the sum of a density over the picture, which the logits are made of, beside its mean features.
        """
        with full_precision(planes.device):
            features = self.counting(planes)
            total = F.softplus(self.density(features)).mean((1, 2, 3)) * self.config.max_count
            logits: Tensor = self.count(torch.cat([features.mean((2, 3)), total[:, None]], dim=1))
        return logits, total

    def qualities(self, measures: Tensor) -> Tensor:
        """Dice `[...]` of labels with the instances that they fit best, from `measures` `[..., 12]`; about [0, 1]."""
        with full_precision(measures.device):
            values: Tensor = self.quality(measures)[..., 0]
        return values

    def value(self, known: OutcomeContext, measures: Tensor, present: Tensor) -> Tensor:
        """Predicted symmetric best Dice `[B]` of label maps, by what `label_measures` says of their labels.

        Where there is no instance, it is 0 whatever is predicted.
        """
        fit = (self.qualities(measures).clamp(0, 1) * present).sum(1)
        counts = torch.arange(1, self.config.max_count + 1, device=measures.device)
        larger = torch.maximum(present.sum(1, keepdim=True), counts)
        return fit * (known.chances[:, 1:] / larger).sum(1)

    def values(self, known: OutcomeContext, masks: Tensor, threshold: float) -> Tensor:
        """`value` of the label maps of the first 0, 1, ... `T` masks: `[T + 1, B]`.

        Args:
            known: from `condition`, of the `B` contexts.
            masks: `[B, T, H, W]` in [0, 1], in the order of prediction.
            threshold: probability below which a mask does not hold a pixel.
        """
        prefixes = (masks[:, :number] for number in range(masks.shape[1] + 1))
        return torch.stack([self.value(known, *label_measures(known, prefix, threshold)) for prefix in prefixes])


def label_measures(known: OutcomeContext, masks: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Measures `[B, t, 12]` of the labels of masks `[B, t, H, W]`, and whether these own a pixel, `[B, t]` bool.

    Overlaps go to the most probable mask. A label lies beside the largest of the other masks, as a new mask beside
    `M_t`.
    """
    batch, number = masks.shape[:2]
    if number == 0:
        nothing = masks.new_zeros(batch, 0, len(MEASURES))
        return nothing, nothing[..., 0].bool()
    largest, owner = masks.max(1)
    second = masks.topk(2, dim=1).values[:, 1] if number > 1 else torch.zeros_like(largest)
    owner = torch.where(largest >= threshold, owner, -1)
    measures, present = [], []
    for t in range(number):  # one after the other, in the memory of one
        is_own = owner == t
        others = torch.where(masks[:, t] == largest, second, largest)
        region = is_own.to(masks)[:, None]
        measures.append(mask_measures(region, others[:, None], known.foreground, known.vectors))
        present.append(is_own.flatten(1).any(1))
    return torch.stack(measures, dim=1), torch.stack(present, dim=1)
