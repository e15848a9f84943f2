"""Augmentation of a batch of scenes on its device: flips, turns, zoom and colour.

Random numbers are drawn on the host, one scene at a time from that scene's own generator, so a scene looks
the same alone and in a batch, on the CPU and on a GPU. All geometry is one affine map, sampled once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from acis_env.ops.labels import IGNORED

NUM_PARAMETERS = 7
"""`P`: flip in {0, 1}, quarter turns in {0, 1, 2, 3}, rotation in radians, zoom, and the factors of
brightness, contrast and saturation."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a scene; `draw` says what does.

    Rotation, and a zoom below 1, show surroundings that were never recorded: picture and label map are both
    continued by their mirror image there, so an instance at the border may get a second piece.
    """

    flip: bool = True
    """Whether to swap left and right in half of all scenes."""
    quarter_turns: bool = True
    """Whether to turn by 0, 90, 180 or 270 degrees, equally often (0 or 180 where height and width differ)."""
    rotation: float = 0.0
    """Largest further rotation in degrees, either way, in [0, 180]."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest zoom, drawn uniformly in its logarithm; above 1 magnifies."""
    brightness: float = 0.0
    """Largest change of brightness, in [0, 1): colours are multiplied by a factor within this distance of 1."""
    contrast: float = 0.0
    """Largest change of contrast, in [0, 1): colours move from or towards the scene's mean grey by such a factor."""
    saturation: float = 0.0
    """Largest change of saturation, in [0, 1): colours move from or towards their own grey by such a factor."""

    def __post_init__(self) -> None:
        if not all(isinstance(getattr(self, name), bool | np.bool_) for name in ("flip", "quarter_turns")):
            raise ValueError(f"flip and quarter_turns must be True or False, got {self.flip} and {self.quarter_turns}")
        if not isinstance(self.scale, tuple | list) or len(self.scale) != 2:
            raise ValueError(f"scale must be (smallest, largest) zoom, got {self.scale!r}")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must be in [0, 180] degrees, got {self.rotation}")
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ValueError(f"scale must be (smallest, largest) zoom, 0 < smallest <= largest, got {self.scale}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")

    @staticmethod
    def identity() -> NDArray[np.float32]:
        """Parameters `[P]` that leave a scene as it is."""
        return np.array([0, 0, 0, 1, 1, 1, 1], dtype=np.float32)

    def draw(self, generator: np.random.Generator) -> NDArray[np.float32]:
        """Draw the parameters `[P]` of one scene; always takes `P` numbers from `generator`."""
        flip, turns, rotation, zoom, *colour = generator.random(NUM_PARAMETERS)
        limits = (self.brightness, self.contrast, self.saturation)
        smallest, largest = self.scale
        return np.array(
            [
                self.flip and flip < 0.5,
                math.floor(4 * turns) if self.quarter_turns else 0,
                math.radians(self.rotation) * (2 * rotation - 1),
                smallest * (largest / smallest) ** zoom,
                *(1 + limit * (2 * number - 1) for limit, number in zip(limits, colour, strict=True)),
            ],
            dtype=np.float32,
        )


def augment(
    images: Tensor, label_maps: Tensor, parameters: Tensor, *, max_instances: int | None = None
) -> tuple[Tensor, Tensor]:
    """Flip left and right, then rotate counter-clockwise and zoom about the centre, then change the colours.

    Flips and quarter turns alone move pixels exactly. A scene that would lose all instances
    stays as it was.

    Args:
        images: `[B, 3, H, W]` in [0, 255], uint8.
        label_maps: `[B, H, W]` in [-1, max_instances], int64, -1 = ignored.
        parameters: `[B, P]`, rows of `Augmentation.draw`, on any device.
        max_instances: largest label that may occur; without it the host waits for the device to look it up.

    Returns:
        Images `[B, 3, H, W]` uint8 and label maps `[B, H, W]` int64. Instances that left the picture are
        dropped and the others renamed to 1..N in the order of their old labels.

    Raises:
        ValueError: a shape or dtype is not as above.
    """
    _check_batch(images, label_maps, parameters)
    if max_instances is None:
        max_instances = max(int(label_maps.max()), 0) if label_maps.numel() else 0
    parameters = parameters.to(images.device, torch.float32)
    grid = _sampling_grid(parameters[:, :4], images.shape[2], images.shape[3])
    pixels = F.grid_sample(images.float(), grid, "bilinear", "reflection", align_corners=False)
    # float32 counts to 2^24 without a gap, far beyond any label.
    labels = F.grid_sample(label_maps[:, None].float(), grid, "nearest", "reflection", align_corners=False)
    warped_maps = labels[:, 0].round().long()
    warped_images = _change_colours(pixels, parameters[:, 4:]).round().clamp(0, 255).to(torch.uint8)

    lost_all = (label_maps.flatten(1) > 0).any(1) & (warped_maps.flatten(1) <= 0).all(1)
    augmented_images = torch.where(lost_all[:, None, None, None], images, warped_images)
    augmented_maps = torch.where(lost_all[:, None, None], label_maps, warped_maps)
    return augmented_images, compact_labels(augmented_maps, max_instances)


def compact_labels(label_maps: Tensor, max_instances: int) -> Tensor:
    """Rename the instances of each label map to 1..N in the order of the old ones, without a host sync.

    Args:
        label_maps: `[B, H, W]` in [-1, max_instances], int64; background (0) and ignored pixels (-1) stay so.
        max_instances: largest label that may occur; a larger one in the maps is an indexing error.

    Returns:
        `[B, H, W]` int64.
    """
    places = label_maps.flatten(1) + 1
    is_present = torch.zeros(len(places), max_instances + 2, dtype=torch.int64, device=places.device)
    is_present.scatter_(1, places, 1)
    is_present[:, :2] = 0
    new_labels = is_present.cumsum(1) * is_present
    new_labels[:, 0] = IGNORED
    return new_labels.gather(1, places).view_as(label_maps)


def label_dtype(largest: int) -> torch.dtype:
    """The smallest integer type that holds -1 and labels up to `largest`: int8, int16 or int32."""
    return next(t for t in (torch.int8, torch.int16, torch.int32) if largest <= torch.iinfo(t).max)


def _sampling_grid(geometry: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of the result lies in the source, `[B, H, W, 2]` as `grid_sample` takes it.

    Args:
        geometry: `[B, 4]`, the first columns of the parameters.
        height: `H`.
        width: `W`.
    """
    flip, turns, rotation, zoom = geometry[:, :, None, None].unbind(1)
    if height != width:
        turns = 2 * torch.floor(turns / 2)
    angle = rotation + turns * (math.pi / 2)
    rows = (2 * torch.arange(height, device=geometry.device) + 1) / height - 1
    columns = (2 * torch.arange(width, device=geometry.device) + 1) / width - 1
    y, x = rows[:, None], columns[None, :]
    # The inverse of the map from source to result. Written out rather than with affine_grid: that multiplies
    # matrices, which under TF32 misses pixels by enough to spoil exact turns.
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    source_x = (cosine * x - sine * (height / width) * y) * (1 - 2 * flip)
    source_y = sine * (width / height) * x + cosine * y
    return torch.stack((source_x, source_y), dim=-1)


def _change_colours(pixels: Tensor, factors: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation of `pixels` `[B, 3, H, W]` by `factors` `[B, 3]`, in turn."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    pixels = pixels * brightness
    mean_grey = _grey(pixels).mean((2, 3), keepdim=True)
    pixels = mean_grey + (pixels - mean_grey) * contrast
    grey = _grey(pixels)
    return grey + (pixels - grey) * saturation


def _grey(pixels: Tensor) -> Tensor:
    """Grey value `[B, 1, H, W]` of `pixels` `[B, 3, H, W]`."""
    return LUMA[0] * pixels[:, 0:1] + LUMA[1] * pixels[:, 1:2] + LUMA[2] * pixels[:, 2:3]


def _check_batch(images: Tensor, label_maps: Tensor, parameters: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 [B, 3, H, W], got {images.dtype} {list(images.shape)}")
    batch, _, height, width = images.shape
    if label_maps.shape != (batch, height, width) or label_maps.dtype != torch.int64:
        raise ValueError(
            f"label_maps must be int64 [B, H, W] = {[batch, height, width]}, "
            f"got {label_maps.dtype} {list(label_maps.shape)}"
        )
    if parameters.shape != (batch, NUM_PARAMETERS):
        raise ValueError(
            f"parameters must be [B, P] = {[batch, NUM_PARAMETERS]}, got {list(parameters.shape)}; "
            "stack one row of Augmentation.draw per scene"
        )
