"""What turns actions into masks: the protocol, and the pre-trained decoder, which follows it.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, sections 4 (action) and 5.2 (pre-training,
State Pyramid). After pre-training the decoder is frozen: it is part of the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env import tree
from acis_env.configs import check_positive, check_sizes
from acis_env.networks import (
    COMPACT_WIDTHS,
    CONTEXT_CHANNELS,
    ContextNormaliser,
    TrunkConfig,
    compact_halvings,
    parse_size,
)
from acis_env.precision import to_float32

Conditioning = Any
"""Whatever a decoder keeps of the context: a tree (see `tree`) of tensors `[B, ...]`."""


class Decoder(Protocol):
    """What turns actions into masks: `D` of Eq. (3). Any object with these four members is one.

    The environment never trains it. Where masks are differentiable with respect to the latent code, agents can learn
    through them; where they are not, by rewards alone.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a mask, multiples of 32."""
        ...

    @property
    def latent_size(self) -> int:
        """Length `l` of an action."""
        ...

    def condition(self, context: Tensor) -> Conditioning:
        """Compute what does not change in an episode; called once, when it begins.

        Args:
            context: `[B, 12, H, W]` in [0, 1]: image, foreground, angles.

        Returns:
            A tensor `[B, ...]` in memory of its own, or a tuple, list or dict of such, or a dataclass that
            `acis_env.tree.register` decorates; row `b` depends on scene `b` alone. A decoder that ignores the context
            returns ().
        """
        ...

    def __call__(self, latent: Tensor, conditioning: Conditioning, /) -> Tensor:
        """Decode one mask for each scene.

        Args:
            latent: `[B, l]` float32; actions in [-1, 1] times the environment's `action_scale`.
            conditioning: what `condition` returned for these `B` scenes.

        Returns:
            Soft masks `[B, 1, H, W]` float32 in [0, 1].
        """
        ...


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of a mask autoencoder. The defaults are those of the paper's code for CVPPP."""

    size: tuple[int, int] = (224, 224)
    """Height and width of a mask, multiples of 32."""
    latent_size: int = 16
    """Length `l` of an action."""
    hidden: int = 256
    """Width of the linear layer behind the latent code."""
    bottleneck_channels: int = 16
    """Channels of the coarsest feature map (the paper: `l`)."""
    decoder_widths: tuple[int, ...] = (96, 64, 48, 32, 16)
    """Channels of the decoder's convolutions; each doubles the resolution."""
    encoder: TrunkConfig = TrunkConfig()
    """The encoder's trunk; an actor with the same trunk can start from it."""
    state_pyramid: bool = True
    """False takes the context from the decoder (the paper's ablation NoSP)."""
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of the training images, RGB in [0, 1]."""
    image_std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Standard deviation of the training images, RGB in [0, 1]."""

    def __post_init__(self) -> None:
        parse_size(self.size)
        if not self.decoder_widths:
            raise ValueError("decoder_widths must hold at least one number of channels, got none")
        check_sizes(self, "latent_size", "hidden", "bottleneck_channels", "decoder_widths")
        check_positive(self, "image_std")

    @classmethod
    def compact(cls, size: tuple[int, int], **others: Any) -> AutoencoderConfig:
        """Sizes for CPUs, at a fraction of the cost per mask; `others` are fields that these leave open.

        Large pictures have further layers at the fine end, narrow ones, so that a mask costs less per pixel.
        """
        halvings = compact_halvings(size)
        return cls(
            size=size,
            bottleneck_channels=32,
            decoder_widths=(64, 48, 32, 16, 8, 8)[:halvings],
            encoder=TrunkConfig(COMPACT_WIDTHS[-halvings:], features=256, downsample="stride"),
            **others,
        )


@tree.register
@dataclass(frozen=True)
class DecoderConditioning:
    """The context's share of every convolution of a `MaskDecoder`."""

    stages: tuple[Tensor, ...]  # shares in all stages but the last, pixels [B, h + 1, 2, w + 1, 2, C]
    cells: Tensor  # [B, 4 C, h + 1, w + 1], of the last stage (see `UpsampleConv`)
    head: Tensor  # [B, 1, H, W]


CPU_CHUNK_PIXELS = 8 * 224 * 224
"""Pixels that a CPU decodes at a time; with more, each mask takes longer."""


class StatePyramid(nn.Module):
    """The context at every resolution of the decoder, by repeated Gaussian smoothing and halving.

    The fixed kernel is depthwise 4x4, stride 2, a Gaussian of 2/3 pixel standard deviation.
    """

    kernel: Tensor

    def __init__(self, levels: int, channels: int = CONTEXT_CHANNELS) -> None:
        super().__init__()
        self.levels = levels
        # On the CPU: on the device "meta", where weights are checked, this arithmetic would import torch._dynamo, which
        # takes over a second.
        positions = torch.arange(4, dtype=torch.float32, device="cpu") - 1.5
        profile = torch.exp(-(positions**2) / (2 * (2 / 3) ** 2))
        kernel = torch.outer(profile, profile)
        kernel = (kernel / kernel.sum()).to(torch.get_default_device())
        self.register_buffer("kernel", kernel.expand(channels, 1, 4, 4).contiguous())

    def forward(self, context: Tensor) -> list[Tensor]:
        """Levels `[B, C, H / 2^k, W / 2^k]` for k = 0..levels, finest first, of at most so many `channels`."""
        pyramid = [context]
        for _ in range(self.levels):
            finest = pyramid[-1]
            channels = finest.shape[1]
            pyramid.append(F.conv2d(finest, self.kernel[:channels], stride=2, padding=1, groups=channels))
        return pyramid


class UpsampleConv(nn.Module):
    """Nearest upsampling x2, replication padding and a 3x3 convolution, in one operation.

    Four taps per output pixel instead of nine: upsampled neighbours are equal, so the 3x3 kernel is one of four 2x2
    kernels, by the pixel's parity, and all four are one convolution at low resolution. Exact up to rounding.
    """

    folded: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, 3, bias=bias)  # for its initialisation
        self.weight = conv.weight
        self.bias = conv.bias
        self.register_buffer("folded", None, persistent=False)
        self.register_load_state_dict_post_hook(_fold_again)  # type: ignore[no-untyped-call]

    def freeze(self) -> None:
        """Fold once and for all, since the weights will not change any more unless others are loaded."""
        folded, before = self._fold(), self.folded
        if before is None or before.is_inference() or _form(before) != _form(folded):
            self.folded = folded
        else:
            before.copy_(folded)  # a CUDA graph that another environment has recorded reads from this memory

    def forward(self, x: Tensor) -> Tensor:
        """From a picture with its border, `[B, in, h + 2, w + 2]`, to cells of four pixels, `[B, 4 out, h + 1, w + 1]`.

        Cell `(r, c)` holds rows 2r - 1, 2r and columns 2c - 1, 2c of the picture `[B, out, 2h, 2w]`; its channels are
        the pixels `(0, 0), (0, 1), (1, 0), (1, 1)`, each with all of `out`. The outermost pixels are that picture's
        border: they equal their neighbours, as those that they are made from do.
        """
        weight = self._fold() if self.folded is None or self.weight.requires_grad else self.folded
        bias = None if self.bias is None else self.bias.repeat(4)
        return F.conv2d(x, weight, bias)

    def _fold(self) -> Tensor:
        fold = self.weight.new_tensor([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]])  # [parity, tap of 2, tap of 3]
        folded = torch.einsum("pua,oiab,qvb->pqoiuv", fold, self.weight, fold).flatten(0, 2)
        return folded.contiguous(memory_format=torch.channels_last)


def border(x: Tensor) -> Tensor:
    """`[B, C, h, w]` with its outermost pixels repeated, `[B, C, h + 2, w + 2]`, channels last."""
    return F.pad(x, (1, 1, 1, 1), mode="replicate").contiguous(memory_format=torch.channels_last)


def pixels(cells: Tensor) -> Tensor:
    """The pixels `[B, h, w, 2, 2, C]` of cells `[B, 4 C, h, w]`, not copied."""
    batch, _, height, width = cells.shape
    return cells.permute(0, 2, 3, 1).view(batch, height, width, 2, 2, -1)


def picture(rows: Tensor) -> Tensor:
    """`[B, h, 2, w, 2, C]` as `[B, C, 2h, 2w]`, channels last."""
    batch, height, _, width, _, channels = rows.shape
    return rows.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.device, tensor.dtype


def _fold_again(module: UpsampleConv, _: object) -> None:
    if module.folded is not None:
        module.freeze()


class MaskDecoder(nn.Module):
    """Decodes an action, given the context, to one soft mask at full resolution: `D` of Eq. (3).

    Every convolution over features and context is kept as two, whose sum it is: the context's share is
    computed once per episode by `condition`.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        height, width = config.size
        stages = len(config.decoder_widths)
        if height % 2**stages or width % 2**stages:
            raise ValueError(f"{stages} decoder widths need sides divisible by {2**stages}, got {config.size}")
        self.config = config
        self.size, self.latent_size = config.size, config.latent_size
        self.coarse = (config.bottleneck_channels, height >> stages, width >> stages)
        self.normalise = ContextNormaliser(config.image_mean, config.image_std)
        self.pyramid = StatePyramid(stages)
        self.hidden = nn.Linear(config.latent_size, config.hidden)
        self.expand = nn.Linear(config.hidden, self.coarse[0] * self.coarse[1] * self.coarse[2])
        inputs = (config.bottleneck_channels, *config.decoder_widths[:-1])
        self.convs = nn.ModuleList(
            UpsampleConv(i, o, bias=False) for i, o in zip(inputs, config.decoder_widths, strict=True)
        )
        self.context_convs = nn.ModuleList(UpsampleConv(CONTEXT_CHANNELS, o) for o in config.decoder_widths)
        self.head = nn.Conv2d(config.decoder_widths[-1], 1, 1, bias=False)
        self.context_head = nn.Conv2d(CONTEXT_CHANNELS, 1, 1)

    def condition(self, context: Tensor) -> DecoderConditioning:
        """The share of `context` `[B, 12, H, W]` in every convolution, constant over an episode."""
        context = self.normalise(context)
        if not self.config.state_pyramid:
            context = torch.zeros_like(context)
        *coarser, finest = reversed(self.pyramid(context))
        *inner, last = (conv(border(level)) for conv, level in zip(self.context_convs, coarser, strict=True))
        stages = tuple(pixels(cells).transpose(2, 3).contiguous() for cells in inner)
        return DecoderConditioning(stages, last, self.context_head(finest))

    def logits(self, latent: Tensor, conditioning: DecoderConditioning) -> Tensor:
        """Mask logits `[B, 1, H, W]` of `latent` `[B, l]`."""
        return self._grow(self._begin(latent), conditioning)

    def forward(self, latent: Tensor, conditioning: DecoderConditioning) -> Tensor:
        """Soft masks `[B, 1, H, W]` float32 in (0, 1) of `latent` `[B, l]`."""
        coarse = self._begin(latent)
        size = max(CPU_CHUNK_PIXELS // (self.size[0] * self.size[1]), 1)
        if latent.device.type != "cpu" or len(latent) <= size or torch.is_grad_enabled():
            return torch.sigmoid_(self._grow(coarse, conditioning))
        masks = latent.new_empty(len(latent), 1, *self.size)
        for first in range(0, len(latent), size):
            chunk = slice(first, first + size)
            part = tree.map_tensors(lambda share: share[chunk], conditioning)  # noqa: B023 (called at once)
            torch.sigmoid(self._grow(coarse[chunk], part), out=masks[chunk])
        return masks

    def _begin(self, latent: Tensor) -> Tensor:
        """The coarsest feature map, `[B, C, h, w]`."""
        return F.leaky_relu(self.expand(F.leaky_relu(self.hidden(latent)))).view(-1, *self.coarse)

    def _grow(self, coarse: Tensor, conditioning: DecoderConditioning) -> Tensor:
        """Mask logits of the coarsest feature map."""
        # In place where the memory is new: these are the largest tensors of a step.
        x = border(coarse)  # all later pictures bring theirs along
        *inner, last = self.convs
        for conv, share in zip(inner, conditioning.stages, strict=True):
            rows = share + pixels(conv(x)).transpose(2, 3)  # a sum is laid out as its first term
            x = picture(F.leaky_relu_(rows))
        # The head is 1x1, so it comes before the pixels of the last stage are brought to their places.
        cells = F.leaky_relu_(last(x).add_(conditioning.cells))
        logits = pixels(cells) @ self.head.weight.flatten()
        logits = picture(logits.transpose(2, 3)[..., None])[:, :, 1:-1, 1:-1]
        mask_logits: Tensor = to_float32(conditioning.head + logits)
        return mask_logits

    def freeze(self) -> MaskDecoder:
        """Exclude the decoder from all training; gradients still flow through it to the latent."""
        self.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, UpsampleConv):
                module.freeze()
        # Laid out by columns, a large matrix times few vectors is read at twice the speed.
        self.expand.weight.data = self.expand.weight.data.T.contiguous().T
        return self.eval()
