"""Who owns each pixel: the prediction that is largest there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def claim(owner: Tensor, mask: Tensor, before: Tensor, newest: Tensor) -> Tensor:
    """Give the newest prediction the pixels where it is larger than all before it; the others stay whose they were.

    Args:
        owner: `[B, H, W]`, integers from 0 to `newest` - 1.
        mask: `[B, H, W]`, the newest prediction.
        before: `[B, H, W]`, the largest of those before.
        newest: `[B]` int64, numbers of the newest predictions.

    Returns:
        `[B, H, W]` of the type of `owner`.
    """
    choice = claim_by_numpy if mask.device.type == "cpu" else claim_by_torch
    return choice(owner, mask, before, newest)


# The newest prediction has the largest number, so the maximum is where(larger, newest, owner), but faster.


def claim_by_torch(owner: Tensor, mask: Tensor, before: Tensor, newest: Tensor) -> Tensor:
    """`claim` on any device."""
    claimed = (mask > before) * newest.to(owner.dtype)[:, None, None]
    return torch.maximum(owner, claimed)


def claim_by_numpy(owner: Tensor, mask: Tensor, before: Tensor, newest: Tensor) -> Tensor:
    """`claim` on a CPU, where NumPy compares in less than half of torch's time."""
    new, old, owned = (x.numpy(force=True) for x in (mask, before, owner))
    claimed = (new > old).view(np.int8).astype(owned.dtype, copy=False)
    np.multiply(claimed, newest.numpy().astype(owned.dtype)[:, None, None], out=claimed)
    return torch.from_numpy(np.maximum(owned, claimed, out=claimed))
