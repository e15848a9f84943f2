"""What is frozen in an environment: the decoder, and what predicts the context."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import nn

from acis_env.context import ContextPredictor
from acis_env.decoder import Decoder
from acis_env.networks import on_device
from acis_env.weights import Pretrained, load_pretrained

Part = TypeVar("Part")

COARSE_LEVELS = 4
"""Halvings in obs="coarse" without weights."""


class Parts(NamedTuple):
    """Frozen, and on one device."""

    pretrained: Pretrained | None
    decoder: Decoder
    context: ContextPredictor | Literal["oracle"]


def open_parts(
    weights: str | Path | Pretrained | None,
    decoder: Decoder | None,
    context: Literal["predicted", "oracle"] | ContextPredictor,
    refine: bool,
    device: str | torch.device,
) -> Parts:
    """Load the weights and take what is not given from them; arguments of `SegmentationVectorEnv`.

    Raises:
        FileNotFoundError: weights are missing.
        ValueError: a part is missing or does not go with another, or a file is damaged.
    """
    is_predictor = callable(getattr(context, "context", None)) and hasattr(context, "size")
    if context not in ("predicted", "oracle") and not is_predictor:
        raise ValueError(
            f'context must be "predicted", "oracle" or an object with the method context and the attribute size (a '
            f"ContextPredictor), got {context!r}"
        )
    if decoder is not None and refine:
        raise ValueError(
            "refine=True refines the masks of the weights' own decoder: leave it out, or pass "
            "decoder=RefiningDecoder(encoder, decoder)"
        )
    if weights is not None and not isinstance(weights, Pretrained):
        weights = load_pretrained(weights)
    pretrained = None if weights is None else weights.to(device)
    if decoder is None:
        decoder = _needed(pretrained, "decoder").autoencoder.frozen_decoder(refine)
    if context == "predicted":
        context = _needed(pretrained, "context").context_network
    return Parts(pretrained, _frozen(decoder, device), _frozen(context, device))


def coarse_levels(pretrained: Pretrained | None) -> int:
    """Halvings in obs="coarse": those of the decoder of the weights, if there are any."""
    return COARSE_LEVELS if pretrained is None else len(pretrained.autoencoder.config.decoder_widths)


def _needed(pretrained: Pretrained | None, part: str) -> Pretrained:
    if pretrained is None:
        raise ValueError(
            f"weights must be given for want of a {part} of one's own: a bundled name, a folder or the networks; "
            'without, pass decoder=..., and context="oracle" or a ContextPredictor'
        )
    return pretrained


def _frozen(part: Part, device: str | torch.device) -> Part:
    """`part` on `device`, in evaluation mode: batch statistics would tie the slots to each other."""
    part = on_device(part, device)
    return part.eval() if isinstance(part, nn.Module) else part
