"""Pictures taken apart into instances: in windows, of which those of several pictures are segmented together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.configs import is_number
from acis_env.datasets.preprocessing import Preprocessing, Tile
from acis_env.networks import FOREGROUND
from acis_env.ops.labels import label_areas
from agents.models.composition import FOREGROUND_LEVEL, PictureMasks
from agents.models.scale import FARTHEST, estimate_scale, foreground_depth

if TYPE_CHECKING:
    from agents.models.agent import Agent

logger = logging.getLogger(__name__)

MAX_WINDOWS = 32
"""Windows that are segmented at a time."""

OVERLAP = 0.5
"""Share of a window that it has in common with its neighbour, so that some window shows most instances whole."""

PictureScale = float | Literal["auto"]
"""Factor on the sides of a picture, or that it is estimated from its predicted foreground."""


@dataclass(frozen=True)
class Segmentation:
    """An image taken apart into instances. Masks are kept as the windows show them, and made large when asked for."""

    label_map: NDArray[np.int32]  # [h, w], 0 = background, label t = the t-th prediction
    parts: PictureMasks
    stopped: bool  # True: by the agent itself, in every window; False: by the cap on steps
    threshold: float | None = 0.5  # from which on a mask holds a pixel; None: `masks` are probabilities

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.parts)

    @property
    def masks(self) -> NDArray[Any]:
        """`[T, h, w]` bool, in the order of prediction, overlaps included; float32 in [0, 1] if these were asked for.

        They are made anew at every call: 60 masks of 1000x1000 take 60 MB, or 240 MB as probabilities.
        """
        return self.parts.soft() if self.threshold is None else self.parts.hard(self.threshold)

    @property
    def order(self) -> list[int]:
        """Labels of the instances that own a pixel of the label map, first predicted first."""
        return [int(label) for label in label_areas(self.label_map).nonzero()[0] if label > 0]


@dataclass(frozen=True)
class Segmented:
    """What the agent finds in a window."""

    masks: NDArray[np.float32]  # [T, H, W] in [0, 1]
    foreground: NDArray[np.float32]  # [H, W] in [0, 1], predicted
    stopped: bool  # by the agent itself


def segment_pictures(
    agent: Agent,
    images: Sequence[NDArray[np.uint8]],
    max_steps: int,
    soft: bool = False,
    scale: PictureScale | None = None,
    overlap: float | None = None,
) -> list[Segmentation]:
    """Take pictures apart, `MAX_WINDOWS` windows at a time, whatever picture they belong to; see `Agent.segment`."""
    channels_first = [as_channels_first(image) for image in images]
    ways = [choose_preprocessing(agent, image, scale, overlap) for image in channels_first]
    cut = [torch.from_numpy(way.images(image)) for way, image in zip(ways, channels_first, strict=True)]
    is_part = [torch.full((len(windows),), len(windows) > 1) for windows in cut]
    found = iter(_segment_windows(agent, torch.cat(cut), torch.cat(is_part), max_steps) if cut else ())
    results, rule = [], agent.composition
    for image, way, windows in zip(channels_first, ways, cut, strict=True):
        own, size = list(islice(found, len(windows))), (image.shape[1], image.shape[2])
        foregrounds = [one.foreground for one in own]
        _warn_if_far(agent, foregrounds, size)
        parts = PictureMasks.joined([one.masks for one in own], size, way, rule)
        stopped, threshold = all(one.stopped for one in own), None if soft else rule.threshold
        results.append(Segmentation(parts.label_map(rule, foregrounds), parts, stopped, threshold))
    return results


def as_channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture `[3, h, w]` of one in either layout.

    Raises:
        ValueError: `image` is not uint8 RGB.
    """
    image = np.asarray(image)
    given = list(image.shape)
    if image.ndim == 3 and image.shape[0] != 3 and image.shape[2] == 3:
        image = image.transpose(2, 0, 1)
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image must be uint8 RGB [h, w, 3], got {image.dtype} {given}")
    return image


def choose_preprocessing(
    agent: Agent, image: NDArray[np.uint8], scale: PictureScale | None, overlap: float | None
) -> Preprocessing:
    """The agent's own way to cut the picture `[3, h, w]`, or windows at a scale.

    Raises:
        ValueError: the scale or the overlap is out of range, there is an overlap without windows, or the scale cannot
            be estimated.
    """
    own = agent.preprocessing
    if scale is None:
        if overlap is None:
            return own
        if not isinstance(own, Tile):
            raise ValueError(f"overlap needs windows: give a scale, too; the agent's preprocessing is {own.name!r}")
        return Tile(own.size, own.scale, overlap)
    if scale == "auto":
        scale = _estimate(agent, image)
    if not is_number(scale):
        raise ValueError(f"scale must be a positive number or 'auto', got {scale!r}")
    return Tile(own.size, float(scale), OVERLAP if overlap is None else overlap)


def _estimate(agent: Agent, image: NDArray[np.uint8]) -> float:
    if agent.scale is None:
        raise ValueError("scale='auto': the agent does not say at which scale it was trained: give the scale a number")

    def predict(windows: NDArray[np.uint8]) -> NDArray[np.bool_]:
        context = agent.pretrained.context_network.context(torch.from_numpy(windows).to(agent.device))
        return (context[:, FOREGROUND] >= FOREGROUND_LEVEL).numpy(force=True)

    return estimate_scale(image, agent.pretrained.size, agent.scale.depth, predict)


def _segment_windows(agent: Agent, windows: Tensor, is_part: Tensor, max_steps: int) -> list[Segmented]:
    """What the agent finds in windows `[K, 3, H, W]`; it is not asked where a part of a picture shows no foreground.

    Args:
        agent: segments, `MAX_WINDOWS` at a time.
        windows: uint8.
        is_part: `[K]` bool, whether the picture has other windows.
        max_steps: cap on the number of masks in each window.
    """
    foregrounds: dict[int, NDArray[np.float32]] = {}
    for batch in _batches(is_part.nonzero()[:, 0]):
        context = agent.pretrained.context_network.context(windows[batch].to(agent.device))
        foregrounds |= zip(batch.tolist(), context[:, FOREGROUND].numpy(force=True), strict=True)
    empty = {k for k, foreground in foregrounds.items() if foreground.max() < FOREGROUND_LEVEL}
    nothing = np.zeros((0, *agent.pretrained.size), np.float32)
    found = {k: Segmented(nothing, foregrounds[k], True) for k in empty}
    for batch in _batches(torch.tensor([k for k in range(len(windows)) if k not in empty], dtype=torch.int64)):
        state = agent.source.begin_images(windows[batch].to(agent.device), max_steps)
        prediction = agent.predict_masks(state, max_steps)
        shown = state.context[:, FOREGROUND].numpy(force=True)
        answers = zip(prediction.counted(), shown, prediction.stopped.tolist(), strict=True)
        found |= zip(batch.tolist(), (Segmented(*answer) for answer in answers), strict=True)
    return [found[k] for k in range(len(windows))]


def _batches(indices: Tensor) -> tuple[Tensor, ...]:
    """The indices `[K]` of windows, `MAX_WINDOWS` at a time; no batch is empty."""
    return indices.split(MAX_WINDOWS) if len(indices) else ()


def _warn_if_far(agent: Agent, foregrounds: Sequence[NDArray[np.float32]], size: tuple[int, int]) -> None:
    """Say so if the objects of a picture are far from the size of those that the agent was trained on."""
    seen = foreground_depth([found >= FOREGROUND_LEVEL for found in foregrounds])
    if agent.scale is None or seen is None:
        return
    factor = seen / agent.scale.depth
    if not 1 / FARTHEST <= factor <= FARTHEST:
        height, width = agent.pretrained.size
        logger.warning(
            "objects in a picture of %dx%d look %.2g times as large as in training, where they were about %.0f px wide "
            "in windows of %dx%d: results are poor below %g and above %g times; give the scale of the picture, or "
            "'auto'",
            *size,
            factor,
            agent.scale.width,
            height,
            width,
            1 / FARTHEST,
            FARTHEST,
        )
