"""What the networks see beside the image: foreground and angles.

The angle quantisation follows Uhrig et al., "Pixel-level encoding and depth layering", GCPR 2016, as used
by Araslanov et al., CVPR 2019, section 5.2. The context is either the *oracle*, made from the label map, or
*predicted* from the image alone by a `ContextNetwork`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.configs import check_positive, check_sizes
from acis_env.networks import (
    ANGLE_BINS,
    COMPACT_WIDTHS,
    IMAGE_CHANNELS,
    channels_last,
    compact_halvings,
    parse_size,
)
from acis_env.ops.labels import IGNORED


def quantise_angles(label_maps: Tensor, max_instances: int) -> Tensor:
    """Bin the direction from the instance's centroid to each of its pixels into eight sectors.

    The angle is `atan2(dy, dx) + pi/8` with rows counted downwards, the bin
    `floor((angle + pi) * 8 / (2 pi)) mod 8`.

    Args:
        label_maps: `[B, H, W]` int64 in -1..max_instances.
        max_instances: largest label there can be.

    Returns:
        `[B, 8, H, W]` float32, one-hot on instances and zero on background and ignored pixels.
    """
    batch, height, width = label_maps.shape
    labels = label_maps.flatten(1).clamp_min(0)
    rows = torch.arange(height, device=labels.device)[:, None].expand(height, width)
    columns = torch.arange(width, device=labels.device)[None, :].expand(height, width)

    def centroid(coordinates: Tensor) -> Tensor:
        """Mean coordinate of the instance that each pixel belongs to, `[B, H*W]`."""
        # In integers: running float32 sums over 10^5 pixels lose digits.
        zeros = torch.zeros(batch, max_instances + 1, dtype=torch.int64, device=labels.device)
        flat = coordinates.reshape(1, -1).expand(batch, -1)
        area = zeros.scatter_add(1, labels, torch.ones_like(flat))
        return (zeros.scatter_add(1, labels, flat) / area.clamp_min(1)).gather(1, labels)

    dy = rows.reshape(1, -1) - centroid(rows)
    dx = columns.reshape(1, -1) - centroid(columns)
    angle = torch.atan2(dy, dx) + math.pi / ANGLE_BINS
    bins = torch.floor((angle + math.pi) * ANGLE_BINS / (2 * math.pi)).long() % ANGLE_BINS
    one_hot = F.one_hot(bins, ANGLE_BINS) * (labels > 0)[..., None]
    return one_hot.transpose(1, 2).reshape(batch, ANGLE_BINS, height, width).float()


def oracle_context(images: Tensor, label_maps: Tensor, max_instances: int) -> Tensor:
    """Context from the ground truth.

    Args:
        images: `[B, 3, H, W]` uint8.
        label_maps: `[B, H, W]` int64 in -1..max_instances; ignored pixels are no foreground.
        max_instances: largest label there can be.

    Returns:
        `[B, 12, H, W]` in [0, 1]: image, foreground, angles.
    """
    foreground = (label_maps > 0).float()[:, None]
    return torch.cat([images.float() / 255, foreground, quantise_angles(label_maps, max_instances)], dim=1)


class ContextPredictor(Protocol):
    """What predicts the context from the image. Any object with these two members is one."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of images, multiples of 32."""
        ...

    def context(self, images: Tensor) -> Tensor:
        """Predict what the decoder and the agent see, without a gradient; row `b` depends on image `b` alone.

        Args:
            images: `[B, 3, H, W]` uint8.

        Returns:
            `[B, 12, H, W]` float32 in [0, 1]: image, foreground, angles in eight bins (see `quantise_angles`).
        """
        ...


@dataclass(frozen=True)
class ContextConfig:
    """Sizes of a context network."""

    architecture: Literal["unet", "fcn8s"] = "unet"
    """A small encoder-decoder, or the FCN-8s on VGG-16 widths of the paper's code."""
    widths: tuple[int, ...] = (24, 32, 48, 64)
    """Channels per resolution of the U-Net, finest first."""
    size: tuple[int, int] = (64, 64)
    """Height and width that it was trained for, multiples of 32."""
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of the training images, RGB in [0, 1]."""
    image_std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Standard deviation of the training images, RGB in [0, 1]."""

    def __post_init__(self) -> None:
        parse_size(self.size)
        if not self.widths:
            raise ValueError("widths must hold at least one number of channels, got none")
        check_sizes(self, "widths")
        check_positive(self, "image_std")
        shrink = 2 ** len(self.widths)
        if self.architecture == "unet" and any(side % shrink for side in self.size):
            raise ValueError(f"{len(self.widths)} widths of a U-Net need sides divisible by {shrink}, got {self.size}")

    @classmethod
    def compact(cls, size: tuple[int, int], **others: Any) -> ContextConfig:
        """A U-Net for CPUs, with further narrow levels for large pictures; `others` are fields that it leaves open."""
        return cls("unet", COMPACT_WIDTHS[-compact_halvings(size) :], size, **others)


class ContextNetwork(nn.Module):
    """Predicts foreground and angles from the image alone (the paper's pre-processing network)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        self.size = config.size
        self.register_buffer("mean", torch.tensor(config.image_mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(config.image_std).view(1, -1, 1, 1))
        outputs = 1 + ANGLE_BINS
        self.body = UNet(config.widths, outputs) if config.architecture == "unet" else FCN8s(outputs)
        channels_last(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of foreground `[B, 1, H, W]` and angles `[B, 8, H, W]` for uint8 images `[B, 3, H, W]`."""
        x = (images.float() / 255 - self.mean) / self.std
        logits = self.body(x.contiguous(memory_format=torch.channels_last))
        return logits[:, :1], logits[:, 1:]

    @torch.no_grad()
    def context(self, images: Tensor) -> Tensor:
        """Context `[B, 12, H, W]` in [0, 1] of uint8 images `[B, 3, H, W]`.

        Angles are soft-maxed and, like the oracle's, fade to zero on the background.
        """
        foreground_logit, angle_logits = self(images)
        foreground = torch.sigmoid(foreground_logit)
        angles = torch.softmax(angle_logits, dim=1) * foreground
        return torch.cat([images.float() / 255, foreground, angles], dim=1)


def context_loss(logits: tuple[Tensor, Tensor], label_maps: Tensor, max_instances: int) -> Tensor:
    """Mean cross-entropy of the foreground over all pixels but ignored ones, and of the angles over instance pixels.

    Args:
        logits: foreground `[B, 1, H, W]` and angles `[B, 8, H, W]`.
        label_maps: `[B, H, W]` int64 in -1..max_instances, -1 = ignored.
        max_instances: largest label there can be.
    """
    foreground_logit, angle_logits = logits
    foreground = (label_maps > 0).float()[:, None]
    angles = quantise_angles(label_maps, max_instances)
    angle_terms = -(torch.log_softmax(angle_logits, dim=1) * angles).sum(1)
    angle_loss = angle_terms.sum() / foreground.sum().clamp_min(1)
    is_known = (label_maps != IGNORED)[:, None]
    over_all = F.binary_cross_entropy_with_logits(foreground_logit, foreground, weight=is_known.float())
    share = is_known.sum() / is_known.numel()
    return over_all / share.clamp_min(1e-9) + angle_loss


class _ConvBlock(nn.Sequential):
    """Two 3x3 convolutions with batch normalisation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """Encoder-decoder with skip connections; starts at half resolution to stay cheap."""

    def __init__(self, widths: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(IMAGE_CHANNELS, widths[0], 3, stride=2, padding=1)
        self.down = nn.ModuleList(_ConvBlock(i, o) for i, o in pairwise(widths))
        self.first = _ConvBlock(widths[0], widths[0])
        self.up = nn.ModuleList(
            _ConvBlock(coarse + fine, fine) for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        # The last step up to full resolution sees the image again and has few channels.
        self.fine = nn.Conv2d(widths[0], 4 * 8, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(8 + IMAGE_CHANNELS, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, out_channels, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, out_channels, H, W]` of normalised images `[B, 3, H, W]`."""
        levels = [self.first(torch.relu(self.stem(images)))]
        for block in self.down:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for block in self.up:
            fine = levels.pop()
            x = block(torch.cat([F.interpolate(x, scale_factor=2), fine], dim=1))
        x = F.pixel_shuffle(torch.relu(self.fine(x)), 2)
        logits: Tensor = self.head(torch.cat([x, images], dim=1))
        return logits


class FCN8s(nn.Module):
    """FCN-8s on VGG-16 widths (Long et al., CVPR 2015), as in the paper's code."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        widths = ((64, 64), (128,), (256, 256, 256), (512, 512, 512), (512, 512, 512))
        self.blocks = nn.ModuleList()
        channels = IMAGE_CHANNELS
        for block_widths in widths:
            layers: list[nn.Module] = []
            for out in block_widths:
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True)]
                channels = out
            self.blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.fc = nn.Sequential(
            nn.Conv2d(512, 4096, 7, padding=3), nn.ReLU(inplace=True), nn.Dropout2d(),
            nn.Conv2d(4096, 4096, 1), nn.ReLU(inplace=True), nn.Dropout2d(),
        )  # fmt: skip
        self.scores = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in (256, 512, 4096))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, out_channels, H, W]` of normalised images `[B, 3, H, W]`."""
        levels = []
        x = images
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        logits: Tensor = self.scores[2](self.fc(x))
        for score, level in ((self.scores[1], levels[3]), (self.scores[0], levels[2])):
            logits = F.interpolate(logits, scale_factor=2, mode="bilinear") + score(level)
        return F.interpolate(logits, scale_factor=8, mode="bilinear")
