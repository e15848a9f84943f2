"""Masks that go through the autoencoder once more before they count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acis_env import tree
from acis_env.decoder import Conditioning, Decoder
from acis_env.encoder import MaskEncoder
from acis_env.precision import to_float32


@tree.register
@dataclass(frozen=True)
class RefiningConditioning:
    """What stays fixed in an episode for a `RefiningDecoder`."""

    encoder: Tensor  # [B, C, h, w], the context's share of the encoder's first convolution
    decoder: Conditioning  # that of the decoder inside


class RefiningDecoder(nn.Module):
    """A decoder inside another, whose masks go through the autoencoder once more before they count.

    What an action decodes to is a draft: it is rounded, encoded and decoded again. The autoencoder has only ever seen
    whole single instances, so that a draft that is smeared, torn or spread over two becomes an instance close by.
    """

    def __init__(self, encoder: MaskEncoder, decoder: Decoder) -> None:
        """Take both halves, frozen; the codes of `encoder` are those that `decoder` understands.

        Raises:
            ValueError: `decoder` refines already, or the halves have different sizes.
        """
        super().__init__()
        if isinstance(decoder, RefiningDecoder):
            raise ValueError("decoder must not be a RefiningDecoder: refining twice changes nothing that refining does")
        sizes = (encoder.size, encoder.latent_size), (decoder.size, decoder.latent_size)
        if sizes[0] != sizes[1]:
            raise ValueError(f"encoder and decoder must agree in size and latent_size, got {sizes[0]} and {sizes[1]}")
        self.encoder = encoder.requires_grad_(False).eval()
        self.decoder = decoder
        self.size, self.latent_size = decoder.size, decoder.latent_size

    def condition(self, context: Tensor) -> RefiningConditioning:
        """What stays fixed in an episode in `context` `[B, 12, H, W]`, for the encoder and for the decoder."""
        return RefiningConditioning(self.encoder.condition(context), self.decoder.condition(context))

    def forward(self, latent: Tensor, conditioning: RefiningConditioning) -> Tensor:
        """Soft masks `[B, 1, H, W]` float32 in [0, 1] of `latent` `[B, l]`.

        Their gradient is that of the draft, as if it had not been changed (straight-through).
        """
        draft, code = self._draft(latent, conditioning)
        with torch.no_grad():
            mask = self.decoder(code, conditioning.decoder)
        return mask + (draft - draft.detach()) if draft.requires_grad else mask

    def refine(self, latent: Tensor, conditioning: RefiningConditioning) -> Tensor:
        """The codes `[B, l]` by which the decoder alone makes the same masks as this one by `latent` `[B, l]`."""
        return self._draft(latent, conditioning)[1]

    def _draft(self, latent: Tensor, conditioning: RefiningConditioning) -> tuple[Tensor, Tensor]:
        """Drafts `[B, 1, H, W]` and their codes `[B, l]`, which have no gradient."""
        draft = self.decoder(latent, conditioning.decoder)
        with torch.no_grad():
            code, _ = self.encoder.encode(conditioning.encoder, (draft >= 0.5).to(draft))
        return draft, to_float32(code)
