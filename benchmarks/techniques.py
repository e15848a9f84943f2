"""Each technique of docs/performance.md, with and without it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.decoder import MaskDecoder, UpsampleConv
from acis_env.networks import CONTEXT_CHANNELS
from acis_env.ops.planes import lazy_copy, to_uint8
from acis_env.ops.sums import KnownRuns
from acis_env.reward import overlap
from acis_env.weights import Pretrained
from agents.models.measures import RIM, widened
from benchmarks.arguments import Arguments
from benchmarks.cases import (
    KITTI,
    NUM_INSTANCES,
    cases,
    contexts,
    grid,
    latents,
    leaves,
    make_env,
    random_networks,
    shape_of,
)
from benchmarks.timing import Calls, Row, interleave

SIZES = ((64, 64), (224, 224))


@torch.no_grad()
def techniques(args: Arguments) -> list[Row]:
    """Every technique at 64x64 and 224x224 with eight scenes, and one in the decoder of 256x768."""
    rows = [
        row
        for pretrained, *_ in cases(args, SIZES)
        for row in (
            *_decoder(args, pretrained),
            *_pixels(args, pretrained),
            _rim(args, pretrained),
            *_reset(args, pretrained),
        )
    ]
    return rows if args.quick else [*rows, _linear(args)]


def _linear(args: Arguments) -> Row:
    """The widest linear map of the decoder, of a single code."""
    expand = random_networks(KITTI).to(args.device).autoencoder.decoder.expand
    x = torch.rand(1, expand.in_features, device=args.device)
    shape = f"{expand.in_features} to {expand.out_features}, B=1"
    weights = (expand.weight, expand.weight.contiguous())  # frozen decoders have them by columns
    ours, other = (partial(F.linear, x, weight, expand.bias) for weight in weights)
    return _row(args, "linear map by columns", shape, ours, other, "by rows")


def _rim(args: Arguments, pretrained: Pretrained, batch: int = 8) -> Row:
    """The surroundings of masks, which a critic that searches measures of every candidate."""
    size = pretrained.size
    masks, reach = torch.rand(batch, *size, device=args.device), max(round(RIM * min(size)), 1)
    width = 2 * reach + 1

    def pool() -> Tensor:
        along_rows = F.max_pool2d(masks[:, None], (1, width), stride=1, padding=(0, reach))
        return F.max_pool2d(along_rows, (width, 1), stride=1, padding=(reach, 0))

    return _row(
        args, "rim by doubled windows", shape_of(size, batch), lambda: widened(masks, reach), pool, "max_pool2d"
    )


def _row(
    args: Arguments, name: str, shape: str, ours: Callable[[], object], other: Callable[[], object], how: str
) -> Row:
    calls: Calls = {"ours": ours, how: other}
    times = interleave(calls, args.repeats, args.device)
    return Row(name, shape, times["ours"], times[how], how)


def _decoder(args: Arguments, pretrained: Pretrained, batch: int = 8) -> list[Row]:
    decoder: MaskDecoder = pretrained.autoencoder.decoder.freeze()
    context, latent = contexts(pretrained, batch), latents(pretrained, batch)
    conditioning = decoder.condition(context)
    shape = shape_of(decoder.config.size, batch)
    unfolded = copy.deepcopy(decoder)
    for conv in unfolded.modules():
        if isinstance(conv, UpsampleConv):
            conv.folded = None
    nine_taps = NineTaps(decoder)
    shares = nine_taps.condition(context)

    def decode() -> Tensor:
        masks: Tensor = decoder(latent, conditioning)
        return masks

    def condition_and_decode() -> Tensor:
        masks: Tensor = decoder(latent, decoder.condition(context))
        return masks

    return [
        _row(args, "context's share kept", shape, decode, condition_and_decode, "made anew"),
        _row(args, "four taps", shape, decode, lambda: nine_taps(latent, shares), "nine taps"),
        _row(args, "weights folded once", shape, decode, lambda: unfolded(latent, conditioning), "at every step"),
    ]


class NineTaps(nn.Module):
    """The decoder with its context's share kept, but upsampling before each 3x3 convolution, channels first."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def condition(self, context: Tensor) -> tuple[Tensor, ...]:
        """The share of `context` `[B, 12, H, W]` in every convolution, `[B, C, H_s, W_s]`."""
        d = self.decoder
        *coarser, finest = reversed(d.pyramid(d.normalise(context)))
        shares = [_nine_taps(level, conv) for level, conv in zip(coarser, d.context_convs, strict=True)]
        return (*shares, d.context_head(finest))

    def forward(self, latent: Tensor, conditioning: tuple[Tensor, ...]) -> Tensor:
        """Soft masks `[B, 1, H, W]`, scene by scene."""
        masks = [self._decode(latent[i : i + 1], tuple(s[i : i + 1] for s in conditioning)) for i in range(len(latent))]
        return torch.cat(masks)

    def _decode(self, latent: Tensor, conditioning: tuple[Tensor, ...]) -> Tensor:
        d = self.decoder
        x = F.leaky_relu(d.expand(F.leaky_relu(d.hidden(latent)))).view(-1, *d.coarse)
        for conv, share in zip(d.convs, conditioning[:-1], strict=True):
            x = F.leaky_relu(_nine_taps(x, conv) + share)
        return torch.sigmoid(d.head(x) + conditioning[-1])


def _nine_taps(x: Tensor, conv: nn.Module) -> Tensor:
    assert isinstance(conv, UpsampleConv)
    padded = F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, conv.weight, conv.bias)


def _pixels(args: Arguments, pretrained: Pretrained, batch: int = 8) -> list[Row]:
    size = pretrained.size
    env = make_env(args, pretrained, grid(size, NUM_INSTANCES), batch)
    env.reset(seed=0)
    label_maps = env.state.label_map
    first, second = (torch.rand(batch, *size, generator=torch.Generator().manual_seed(i)) for i in range(2))
    first, second = first.to(args.device), second.to(args.device)
    shape, known = shape_of(size, batch), KnownRuns()
    rows = [
        _row(
            args,
            "one pass over label maps",
            shape,
            lambda: overlap(first, label_maps, NUM_INSTANCES, known),
            lambda: [((label_maps == n + 1) * first).sum((1, 2)) for n in range(NUM_INSTANCES)],
            "one per instance",
        )
    ]
    rows.append(
        _row(
            args,
            "runs of labels known",
            shape,
            lambda: overlap(first, label_maps, NUM_INSTANCES, known),
            lambda: overlap(first, label_maps, NUM_INSTANCES),
            "found anew",
        )
    )
    planes = torch.zeros(batch, CONTEXT_CHANNELS, *size, dtype=torch.uint8, device=args.device)
    rows.append(_row(args, "planes copied when written to", shape, lambda: lazy_copy(planes), planes.clone, "at once"))
    owner, larger = torch.zeros_like(label_maps), first > second
    newest = torch.full((batch, 1, 1), 3, dtype=owner.dtype, device=args.device)
    rows.append(
        _row(
            args,
            "owners by a maximum",
            shape,
            lambda: torch.maximum(owner, larger * newest),
            lambda: torch.where(larger, newest, owner),
            "by a choice",
        )
    )
    if torch.device(args.device).type == "cpu":
        x, y = first.numpy(), second.numpy()
        rows += [
            _row(args, "a > b", shape, lambda: np.greater(x, y), lambda: first > second, "by torch"),
            _row(
                args,
                "to uint8",
                shape,
                lambda: to_uint8(first),
                lambda: (first * 255).round().to(torch.uint8),
                "by torch",
            ),
        ]
    return rows


def _reset(args: Arguments, pretrained: Pretrained, batch: int = 8) -> list[Row]:
    size = pretrained.size
    env = make_env(args, pretrained, leaves(size), batch)
    forgetful = make_env(args, pretrained, leaves(size), batch, augmentation={})
    options = {"scene_index": list(range(batch))}
    return [
        _row(
            args,
            "contexts of known scenes kept",
            shape_of(size, batch),
            lambda: env.reset(options=options),
            lambda: forgetful.reset(options=options),
            "predicted anew, of augmented scenes",
        )
    ]
