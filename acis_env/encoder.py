"""What turns a mask into a code: the other half of the autoencoder.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from acis_env.decoder import AutoencoderConfig
from acis_env.networks import Trunk


class MaskEncoder(nn.Module):
    """Encodes one instance mask, given the context, to a Gaussian over latent codes."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.size, self.latent_size = config.size, config.latent_size
        self.trunk = Trunk(config.encoder, config.size, 1, config.image_mean, config.image_std)
        self.head = nn.Linear(config.encoder.features, 2 * config.latent_size)

    def condition(self, context: Tensor) -> Tensor:
        """The share of `context` `[B, 12, H, W]` in the first convolution, constant over an episode."""
        return self.trunk.condition(context)

    def forward(self, context: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each `[B, l]`, for context `[B, 12, H, W]` and masks `[B, 1, H, W]`."""
        return self.encode(self.condition(context), masks)

    def encode(self, conditioning: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each `[B, l]`, of masks in a conditioned context."""
        mean, log_variance = self.head(self.trunk(conditioning, masks)).chunk(2, dim=1)
        return mean, log_variance
