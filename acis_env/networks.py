"""Building blocks that the mask autoencoder and the agents share."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from acis_env.configs import check_sizes

IMAGE_CHANNELS = 3
ANGLE_BINS = 8
CONTEXT_CHANNELS = IMAGE_CHANNELS + 1 + ANGLE_BINS
"""Channels of `context`: image, foreground, angles, in this order."""
FOREGROUND = IMAGE_CHANNELS
"""Index of the foreground in `context`."""

LARGEST_SIDE = 2**14
"""Largest height or width of a picture."""


def parse_size(size: tuple[int, int] | list[int], argument: str = "size") -> tuple[int, int]:
    """Check `(H, W)`: two positive multiples of 32.

    Raises:
        ValueError: if they are not.
    """
    if len(size) != 2 or any(side <= 0 or side % 32 for side in size):
        raise ValueError(f"{argument} must be (H, W), two positive multiples of 32, got {tuple(size)}")
    if max(size) > LARGEST_SIDE:
        raise ValueError(f"{argument} must be (H, W), each at most {LARGEST_SIDE}, got {tuple(size)}")
    return int(size[0]), int(size[1])


COMPACT_WIDTHS = (8, 12, 24, 32, 48, 64)
"""Channels of small networks for CPUs by resolution, finest first; small pictures need no more than the last ones."""


def compact_halvings(size: tuple[int, int]) -> int:
    """How often small networks halve pictures of `size`: until the shorter side has 4 to 7 cells, if both sides can be
    halved as often, but 4 to 6 times."""
    height, width = parse_size(size)
    possible = (n for n in (6, 5) if min(size) >= 4 * 2**n and height % 2**n == width % 2**n == 0)
    return next(possible, 4)


def check_device(device: str | torch.device) -> None:
    """Make sure that tensors can be made on `device`.

    Raises:
        ValueError: if they cannot.
    """
    if not isinstance(device, str | int | torch.device) or isinstance(device, bool):
        raise ValueError(f'device must be a name such as "cpu" or "cuda", got {device!r}')
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # without CUDA torch fails by an assertion
        raise ValueError(f"device {str(device)!r}: {str(error).splitlines()[0]}") from error


Frozen = TypeVar("Frozen")


def on_device(frozen: Frozen, device: str | torch.device) -> Frozen:
    """`frozen` if all of its tensors are on `device`, or if it is no module; else a copy there, for others may be
    using it here."""
    if not isinstance(frozen, nn.Module):
        return frozen
    target = torch.zeros(0, device=device).device  # "cuda" by its number
    if all(tensor.device == target for tensor in (*frozen.parameters(), *frozen.buffers())):
        return frozen
    return copy.deepcopy(frozen).to(target)


def channels_last(module: nn.Module) -> None:
    """Lay out the weights of all convolutions channels last, which is faster on CPUs and GPUs alike."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class ContextNormaliser(nn.Module):
    """Shift and scale the image channels of `context`; foreground and angles stay as they are."""

    mean: Tensor
    std: Tensor

    def __init__(self, image_mean: tuple[float, ...], image_std: tuple[float, ...]) -> None:
        super().__init__()
        rest = CONTEXT_CHANNELS - IMAGE_CHANNELS
        self.register_buffer("mean", torch.tensor([*image_mean, *[0.0] * rest]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor([*image_std, *[1.0] * rest]).view(1, -1, 1, 1))

    def forward(self, context: Tensor) -> Tensor:
        """`[B, 12, H, W]` in [0, 1] to the same shape, image channels of about unit variance."""
        normalised: Tensor = (context - self.mean) / self.std
        return normalised.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of a convolutional trunk."""

    widths: tuple[int, ...] = (32, 48, 64, 96, 128)
    """Channels of the 3x3 convolutions; each halves the resolution."""
    features: int = 512
    """Size of the feature vector that the trunk ends in."""
    downsample: Literal["pool", "stride"] = "pool"
    """Halve by 2x2 max-pooling (the paper's code) or by the stride of the convolution (about 4x cheaper)."""

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("widths must hold at least one number of channels, got none")
        check_sizes(self, "widths", "features")


class Trunk(nn.Module):
    """Convolutions over context and masks, down to one feature vector (the encoder "simple" of the paper's code).

    The first convolution is split into the share of the context, which stays the same for a whole
    episode (`condition`), and the share of the masks, which changes at every step (`forward`).
    Their sum is the convolution of the concatenated input, exactly.
    """

    def __init__(
        self,
        config: TrunkConfig,
        size: tuple[int, int],
        mask_channels: int,
        image_mean: tuple[float, ...],
        image_std: tuple[float, ...],
    ) -> None:
        super().__init__()
        height, width = parse_size(size)
        shrink = 2 ** len(config.widths)
        if height % shrink or width % shrink:
            raise ValueError(f"{len(config.widths)} halvings need sides divisible by {shrink}, got {size}")
        stride = 2 if config.downsample == "stride" else 1
        first, last = config.widths[0], config.widths[-1]
        self.normalise = ContextNormaliser(image_mean, image_std)
        self.context_conv = nn.Conv2d(CONTEXT_CHANNELS, first, 3, stride, padding=1)
        self.mask_conv = nn.Conv2d(mask_channels, first, 3, stride, padding=1, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 3, stride, padding=1) for i, o in zip(config.widths[:-1], config.widths[1:], strict=True)
        )
        self.pool: nn.Module = nn.MaxPool2d(2) if config.downsample == "pool" else nn.Identity()
        self.linear = nn.Linear(last * (height // shrink) * (width // shrink), config.features)
        channels_last(self)

    def condition(self, context: Tensor) -> Tensor:
        """The context's share of the first convolution, constant over an episode."""
        response: Tensor = self.context_conv(self.normalise(context))
        return response

    def forward(self, conditioning: Tensor, masks: Tensor) -> Tensor:
        """Features `[B, F]` of a conditioned context and `masks` `[B, mask_channels, H, W]` in [0, 1]."""
        # One channel is both contiguous and channels_last; strides alone decide which kernel runs.
        masks = masks.contiguous(memory_format=torch.channels_last)
        x = self.pool(torch.relu(conditioning + self.mask_conv(masks)))
        for conv in self.convs:
            x = self.pool(torch.relu(conv(x)))
        return nn.functional.leaky_relu(self.linear(x.flatten(1)))
