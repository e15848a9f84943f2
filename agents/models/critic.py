"""The critic: an estimate of what one mask is worth in one state, such as its discounted return.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Eqs. (6) and (7).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.configs import check_sizes
from acis_env.decoder import AutoencoderConfig
from acis_env.encoder import MaskEncoder
from acis_env.networks import ANGLE_BINS, FOREGROUND, Trunk
from acis_env.precision import full_precision, to_float32


@dataclass(frozen=True)
class CriticConfig:
    """Sizes and inputs of the critic."""

    trunk_widths: tuple[int, ...] = ()
    """Channels of the trunk's convolutions. None named: those of the autoencoder's encoder, from which it can start."""
    trunk_features: int = 1024
    """Width of the linear layer behind the trunk's convolutions, if these are named."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the layers behind the trunk."""
    products: bool = True
    """Also show the mask times `M_t`, foreground and angles, which a convolution cannot form by itself."""

    def __post_init__(self) -> None:
        check_sizes(self, "trunk_widths", "trunk_features", "hidden")


Conditioning = tuple[Tensor, Tensor]
"""What a critic knows of `B` contexts: their share of its first convolution, and themselves."""


class Critic(nn.Module):
    """`Q(s_t, a_t)` of Eq. (6). It sees the decoded mask `m_t` rather than the code, and not the actor's memory."""

    def __init__(self, autoencoder: AutoencoderConfig, config: CriticConfig, max_remaining: int | None = None) -> None:
        """Make a critic.

        Args:
            autoencoder: sizes of pictures, and of the encoder from which it can start.
            config: sizes and inputs.
            max_remaining: largest number of missing instances that it tells apart; None: it is not told how many are
                missing, and has to infer it from `M_t`.
        """
        super().__init__()
        self.config, self.max_remaining = config, max_remaining
        mask_channels = 2 + (2 + ANGLE_BINS if config.products else 0)
        trunk = autoencoder.encoder
        if config.trunk_widths:
            trunk = replace(trunk, widths=config.trunk_widths, features=config.trunk_features)
        self.trunk = Trunk(trunk, autoencoder.size, mask_channels, autoencoder.image_mean, autoencoder.image_std)
        steps = 0 if max_remaining is None else max_remaining + 1
        widths = (trunk.features + steps, *config.hidden)
        layers = [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.LeakyReLU())]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def condition(self, context: Tensor) -> Conditioning:
        """What stays fixed in an episode: the context's share of the first convolution, and the context."""
        return self.trunk.condition(context), context

    def forward(
        self, conditioning: Conditioning, mask: Tensor, predicted_mask: Tensor, remaining: Tensor | None = None
    ) -> Tensor:
        """Values `[B]`.

        Args:
            conditioning: what `condition` made of `B` contexts.
            mask: `[B, 1, H, W]`, `M_t`.
            predicted_mask: `[B, 1, H, W]`, `m_t`, the action.
            remaining: `[B]` int64, instances missing before this mask; a critic that is not told it needs none.

        Raises:
            ValueError: the critic has to be told how many instances are missing, but `remaining` was not given.
        """
        share, context = conditioning
        masks = [predicted_mask, mask]
        if self.config.products:
            masks += [predicted_mask * mask, predicted_mask * context[:, FOREGROUND:]]
        features = to_float32(self.trunk(share, torch.cat(masks, dim=1)))
        if self.max_remaining is not None:
            if remaining is None:
                raise ValueError("remaining must be given to a critic with max_remaining, got None")
            steps = F.one_hot(remaining.clamp(0, self.max_remaining), self.max_remaining + 1)
            features = torch.cat([features, steps.to(features)], dim=1)
        with full_precision(mask.device):
            values: Tensor = self.head(features)[:, 0]
        return values

    @torch.no_grad()
    def start_from(self, encoder: MaskEncoder) -> None:
        """Read `m_t` as the autoencoder's encoder reads a mask; the other masks start without a say."""
        state = encoder.trunk.state_dict()
        mask_weight = torch.zeros_like(self.trunk.mask_conv.weight)
        mask_weight[:, :1] = state["mask_conv.weight"]
        state["mask_conv.weight"] = mask_weight
        self.trunk.load_state_dict(state)
