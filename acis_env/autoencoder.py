"""The conditional variational autoencoder of instance masks, whose decoder is the environment's.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.decoder import AutoencoderConfig, Decoder, MaskDecoder
from acis_env.encoder import MaskEncoder
from acis_env.refinement import RefiningDecoder


class MaskAutoencoder(nn.Module):
    """Encoder and decoder; trained once, on single instances (section 5.2)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MaskEncoder(config)
        self.decoder = MaskDecoder(config)

    def frozen_decoder(self, refine: bool) -> Decoder:
        """The decoder, frozen; if `refine`, inside the one that goes by way of a draft."""
        decoder = self.decoder.freeze()
        return RefiningDecoder(self.encoder, decoder) if refine else decoder

    def loss(
        self, context: Tensor, masks: Tensor, noise: Tensor, kl_weight: float = 1.0, is_known: Tensor | None = None
    ) -> Tensor:
        """Negative evidence lower bound: cross-entropy summed over pixels plus KL, averaged over `B`.

        Args:
            context: `[B, 12, H, W]` in [0, 1].
            masks: `[B, 1, H, W]` in {0, 1}.
            noise: `[B, l]` standard normal.
            kl_weight: factor of the KL divergence.
            is_known: `[B, 1, H, W]` bool, False at ignored pixels, where the masks do not count; None for none.
        """
        mean, log_variance = self.encoder(context, masks)
        latent = mean + noise * torch.exp(0.5 * log_variance)
        weight = None if is_known is None else is_known.to(masks.dtype)
        logits = self.decoder.logits(latent, self.decoder.condition(context))
        reconstruction = F.binary_cross_entropy_with_logits(logits, masks, weight, reduction="sum") / len(masks)
        return reconstruction + kl_weight * kl_to_prior(mean, log_variance).mean()

    @torch.no_grad()
    def reconstruct(self, context: Tensor, masks: Tensor) -> Tensor:
        """Soft masks `[B, 1, H, W]` decoded from the mean code of `masks`: no agent can do much better."""
        mean, _ = self.encoder(context, masks)
        reconstruction: Tensor = self.decoder(mean, self.decoder.condition(context))
        return reconstruction


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of a diagonal Gaussian from the prior N(0, I), summed over the last axis: `[B]`."""
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(-1)
