"""Codes that a person asks for: a known mask changed a little, or the instance at a point of the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from acis_env import tree
from acis_env.decoder import Conditioning, Decoder
from acis_env.dynamics import EnvState
from acis_env.encoder import MaskEncoder
from acis_env.networks import FOREGROUND
from agents.models.measures import MEASURES, mask_measures, pointing
from agents.models.selection import pick

REACH = 0.5
"""Step along each axis of the latent, in standard deviations of the prior, by which the mask's change is found."""
RADII = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Radii of the discs from which an instance is guessed, as shares of the picture's shorter side."""


@torch.no_grad()
def principal_directions(decoder: Decoder, conditioning: Conditioning, latent: Tensor, number: int) -> Tensor:
    """Directions of the latent along which a mask changes most, the strongest first.

    They are the principal axes of the mask's change by differences along every axis of the latent, which a decoder that
    rounds in between has, too. Along each of them, the mask grows.

    Args:
        decoder: frozen.
        conditioning: what the decoder made of one context.
        latent: `[1, l]`, the code of the mask.
        number: how many directions, at most `l`.

    Returns:
        `[number, l]`, of length 1 and at right angles.
    """
    steps = REACH * torch.eye(latent.shape[1], device=latent.device)
    change = torch.stack([decoder(latent + s, conditioning) - decoder(latent - s, conditioning) for s in steps])
    change = change.flatten(1)
    directions = torch.linalg.eigh(change @ change.T).eigenvectors.T.flip(0)[:number]
    growth = directions @ change.sum(1)
    return torch.where(growth[:, None] < 0, -directions, directions)


@torch.no_grad()
def code_at(encoder: MaskEncoder, decoder: Decoder, state: EnvState, y: int, x: int) -> Tensor:
    """The code `[1, l]` of the instance at pixel `(y, x)` of a scene, as far as the networks see one there.

    The autoencoder knows nothing but whole instances: it makes one of a disc about the pixel. Of the masks of several
    discs, the one is taken that holds the pixel, is most of all foreground not found before, and has one centre.

    Args:
        encoder: the half of the autoencoder that belongs to `decoder`.
        decoder: frozen.
        state: of one scene.
        y: row, from 0 to `H` - 1.
        x: column, from 0 to `W` - 1.
    """
    height, width = decoder.size
    device = state.context.device
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    squares = (rows - y).square() + (columns - x).square()
    radii = torch.tensor(RADII, device=device) * min(height, width)
    discs = (squares <= radii.square()[:, None, None])[:, None] & (state.accumulated_mask < 0.5)
    codes, _ = encoder.encode(encoder.condition(state.context), discs.float())

    def repeated(one: Tensor) -> Tensor:
        return one.expand(len(codes), *one.shape[1:])

    masks = decoder(codes, tree.map_tensors(repeated, state.conditioning))
    foreground, vectors = state.context[:, FOREGROUND : FOREGROUND + 1], pointing(state.context)
    found = mask_measures(masks, repeated(state.accumulated_mask), repeated(foreground), repeated(vectors))
    measures = dict(zip(MEASURES, found.unbind(1), strict=True))
    values = measures["foreground inside"] + measures["pointing inside, rounded"] - measures["overlap"]
    return pick(codes[:, None], (values + 10 * (masks[:, 0, y, x] >= 0.5))[:, None])  # the values are from -2 to 2
