"""What an agent sees of a state: pictures by name, one stack of planes, or a short vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.decoder import StatePyramid
from acis_env.dynamics import EnvState
from acis_env.networks import ANGLE_BINS, IMAGE_CHANNELS
from acis_env.ops.planes import lazy_copy, to_uint8
from acis_env.surroundings import as_tensor

ObservationKind = Literal["dict", "stacked", "coarse"]
ObservationDtype = Literal["uint8", "float32"]

Observation = dict[str, Tensor] | Tensor
"""Tensors `[B, ...]`, as the batched observation space says."""
NumpyObservation = dict[str, NDArray[Any]] | NDArray[Any]
"""The same as arrays."""

Planes = tuple[Tensor, Tensor, Tensor]
"""What an observation holds of a context: image, foreground and angles, each `[B, C, H, W]`."""

CHANNELS = {"image": IMAGE_CHANNELS, "mask": 1, "foreground": 1, "angles": ANGLE_BINS}
"""Planes of each part of an observation, in the order in which "stacked" holds them."""


class Observer:
    """Makes observations of one kind.

    dict: `image` [3, H, W], `mask` [1, H, W] (`M_t`), `foreground` [1, H, W] and `angles` [8, H, W].
    stacked: the same planes as one array [13, H, W].
    coarse: the coarsest level of the State Pyramid over these planes, flattened: [13 h w] float32 in [0, 1].

    Attributes:
        space: of the observation of one scene.
    """

    def __init__(self, kind: ObservationKind, dtype: ObservationDtype, size: tuple[int, int], levels: int) -> None:
        """Choose what is seen.

        Args:
            kind: as above.
            dtype: of the first two: "uint8" in [0, 255] or "float32" in [0, 1].
            size: `(H, W)`.
            levels: halvings of the coarsest level, whose size is `(h, w)`.
        """
        self.kind, self.dtype = kind, dtype
        self.pyramid = StatePyramid(levels)
        self.space = self._space(size, levels)

    def to(self, device: str | torch.device) -> Observer:
        """Move the fixed kernel to `device`, in place."""
        self.pyramid.to(device)
        return self

    def __call__(self, state: EnvState) -> Observation:
        """Observations of `B` scenes, in memory of their own."""
        return self.observe(self.condition(state.context), state.accumulated_mask)

    @torch.no_grad()
    def condition(self, context: Tensor) -> Planes:
        """What observations of `context` `[B, 12, H, W]` hold of it, constant over an episode."""
        parts = self._planes(context).split([IMAGE_CHANNELS, 1, ANGLE_BINS], dim=1)
        image, foreground, angles = (part.clone(memory_format=torch.contiguous_format) for part in parts)
        return image, foreground, angles

    @torch.no_grad()
    def observe(self, conditioning: Planes, mask: Tensor) -> Observation:
        """Observations of `B` conditioned contexts and masks `[B, 1, H, W]`, in memory of their own."""
        image, foreground, angles = conditioning
        seen = self._planes(mask)
        if self.kind == "dict":
            seen = seen.clone() if seen is mask else seen
            return {
                "image": lazy_copy(image),
                "mask": seen,
                "foreground": lazy_copy(foreground),
                "angles": lazy_copy(angles),
            }
        stacked = torch.cat([image, seen, foreground, angles], dim=1)
        return stacked.flatten(1) if self.kind == "coarse" else stacked

    def _planes(self, values: Tensor) -> Tensor:
        """`[B, C, H, W]` in [0, 1] as they are observed."""
        if self.kind == "coarse":
            coarsest: Tensor = self.pyramid(values)[-1]
            return coarsest.clamp(0, 1)
        return to_uint8(values) if self.dtype == "uint8" else values

    def _space(self, size: tuple[int, int], levels: int) -> gym.Space[Any]:
        high, dtype = (255, np.uint8) if self.dtype == "uint8" else (1, np.float32)
        if self.kind == "coarse":
            length = sum(CHANNELS.values()) * (size[0] >> levels) * (size[1] >> levels)
            return gym.spaces.Box(0, 1, (length,), np.float32)
        if self.kind == "stacked":
            return gym.spaces.Box(0, high, (sum(CHANNELS.values()), *size), dtype)
        return gym.spaces.Dict({name: gym.spaces.Box(0, high, (n, *size), dtype) for name, n in CHANNELS.items()})


def unpack(observation: Mapping[str, Any] | Tensor | NDArray[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """Context `[..., 12, H, W]` and mask `[..., 1, H, W]`, float32 in [0, 1], of a "dict" or "stacked" observation.

    Raises:
        ValueError: the observation is of another kind.
    """
    if isinstance(observation, Mapping) and set(observation) == set(CHANNELS):
        planes = torch.cat([as_tensor(observation[name], device=device) for name in CHANNELS], dim=-3)
    elif (
        not isinstance(observation, Mapping)
        and observation.ndim >= 3
        and observation.shape[-3] == sum(CHANNELS.values())
    ):
        planes = as_tensor(observation, device=device)
    else:
        shape = sorted(observation) if isinstance(observation, Mapping) else list(observation.shape)
        raise ValueError(f'observation must be of kind "dict" or "stacked", [..., 13, H, W], got {shape}')
    planes = planes.float() / 255 if planes.dtype == torch.uint8 else planes
    image, mask, others = planes.split([IMAGE_CHANNELS, 1, 1 + ANGLE_BINS], dim=-3)
    return torch.cat((image, others), dim=-3), mask
