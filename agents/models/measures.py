"""Measures of a mask in its context: what tells a whole instance from a smear, a part or two of them.

The context says of every pixel in which direction it lies from the centre of its instance. Whether all pixels of a mask
agree on one centre, its own, is what a convolution cannot see, since the centre is where the mask is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from acis_env.networks import ANGLE_BINS, FOREGROUND
from acis_env.precision import full_precision, to_float32

MEASURES = (
    "size",
    "share of the foreground",
    "sharpness",
    "compactness",
    "overlap",
    "foreground inside",
    "uncovered inside",
    "uncovered around",
    "background around",
    "pointing inside",
    "pointing inside, rounded",
    "pointing around",
)
"""Names of what `mask_measures` returns, in order; see there."""
RIM = 1 / 32
"""Width of the rim around a mask, as a share of the picture's shorter side."""


def pointing(context: Tensor) -> Tensor:
    """Where pixels lie from the centre of their instance, as the context has it: `[B, 2, H, W]`, rows and columns.

    Vectors of length 1 where the context is certain, shorter ones where it is not, and none on the background.
    """
    bins = torch.arange(ANGLE_BINS, device=context.device) * (2 * math.pi / ANGLE_BINS) - math.pi
    unit = torch.stack([bins.sin(), bins.cos()])  # [2, 8]; `acis_env.context.quantise_angles` defines the bins
    with full_precision(context.device):
        return torch.einsum("va,bahw->bvhw", unit, to_float32(context[:, FOREGROUND + 1 :]))


def mask_measures(mask: Tensor, accumulated_mask: Tensor, foreground: Tensor, vectors: Tensor) -> Tensor:
    """Measures `[B, 12]` of masks, each in [0, 1] or, of pointing, in [-1, 1]; differentiable.

    The size is the square root of the mask's share of the picture, and the share of the foreground how much of that the
    mask has. Sharpness is 1 where all values are 0 or 1, and compactness 1 for a disc. Means over the mask, "inside",
    and over its rim, "around", are those of `M_t`, of the foreground, of what of that is uncovered, of what is
    background, and of how well `vectors` point away from the centre of the mask. All are 0 of an empty mask.

    Args:
        mask: `[B, 1, H, W]` in [0, 1], `m_t`.
        accumulated_mask: `[B, 1, H, W]` in [0, 1], `M_t`.
        foreground: `[B, 1, H, W]` in [0, 1], of the context.
        vectors: `[B, 2, H, W]`, from `pointing`.
    """
    with full_precision(mask.device):
        m, covered, f = (to_float32(x)[:, 0] for x in (mask, accumulated_mask, foreground))
        height, width = m.shape[1:]
        reach = max(round(RIM * min(height, width)), 1)
        rim = widened(m, reach) - m
        rounded = m + ((m >= 0.5).to(m) - m).detach()  # its gradient is that of the mask
        uncovered = f * (1 - covered)
        area = _total(m)
        outward, moment = _outward(m, vectors)
        outward_rounded, _ = _outward(rounded, vectors)
        measures = (
            (area / (height * width) + 1e-8).sqrt(),
            _total(m * f) / _total(f).clamp_min(1),
            _mean(m, m),
            area / (2 * math.pi * moment + 1),
            _mean(covered, m),
            _mean(f, m),
            _mean(uncovered, m),
            _mean(uncovered, rim),
            _mean(1 - f, rim),
            _mean(outward, m),
            _mean(outward_rounded, rounded),
            _mean(uncovered * outward, rim),
        )
        return torch.stack(measures, dim=1)


def widened(m: Tensor, reach: int) -> Tensor:
    """The largest value of `m` `[B, H, W]`, which is not negative, within `reach` rows and columns of every pixel."""
    return _widened_along(_widened_along(m, reach, dim=2), reach, dim=1)


def _widened_along(m: Tensor, reach: int, dim: int) -> Tensor:
    """By windows that double: a few large operations, where `max_pool2d` looks at every pixel of every window."""
    padding = (reach, reach) if dim == 2 else (0, 0, reach, reach)
    largest, length = F.pad(m, padding), 1  # of windows of this length
    while length < 2 * reach + 1:
        step = min(length, 2 * reach + 1 - length)
        number = largest.shape[dim] - step
        largest = torch.maximum(largest.narrow(dim, 0, number), largest.narrow(dim, step, number))
        length += step
    return largest


def _total(x: Tensor) -> Tensor:
    """Sum over pixels, `[B]`."""
    return x.sum((1, 2))


def _mean(x: Tensor, weights: Tensor) -> Tensor:
    """Mean of `x` by `weights`, both `[B, H, W]`: `[B]`; 0 where these are."""
    return _total(x * weights) / (_total(weights) + 1e-3)


def _outward(m: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """How well pixels point away from the centre of `m`, `[B, H, W]` in [-1, 1]; and the mean squared distance from
    the centre over `m` in square pixels, `[B]`."""
    rows = torch.arange(m.shape[1], device=m.device, dtype=m.dtype)[:, None]
    columns = torch.arange(m.shape[2], device=m.device, dtype=m.dtype)
    down = rows - _mean(rows, m)[:, None, None]  # [B, H, 1]
    right = columns - _mean(columns, m)[:, None, None]  # [B, 1, W]
    squares = down.square() + right.square()
    outward = (vectors[:, 0] * down + vectors[:, 1] * right) / (squares + 0.25).sqrt()
    return outward, _mean(squares, m)
