"""Colours of predictions and of true instances, over black or over their image.

Predicted masks are coloured by their order as in Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019,
Fig. 4: blue is the first, red the last. True instances have no order; they get muted colours."""

from __future__ import annotations

import colorsys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from acis_env.metrics import check_ground_truth, check_label_map
from acis_env.ops.labels import IGNORED
from acis_env.rendering.pictures import Picture, check_count, check_image

ORDER_ANCHORS = ((30, 60, 255), (0, 205, 255), (40, 200, 60), (255, 225, 0), (255, 140, 0), (230, 15, 25))
ROWS = 256
"""Rows that are painted at a time."""
HATCHING = (150, 150, 150)  # stripes over ignored pixels, on
HATCHED = (70, 70, 70)
SURPLUS = (255, 255, 255)  # a prediction beyond the number of instances


def order_colours(n: int) -> Picture:
    """Colours of the 1st to the `n`-th prediction, `[n, 3]` uint8: blue, cyan, green, yellow, orange, red (Fig. 4).

    A single prediction is blue. `n` below 0 is a `ValueError`.
    """
    check_count("n", n)
    position = np.linspace(0, len(ORDER_ANCHORS) - 1, n)
    channels = [
        np.interp(position, np.arange(len(ORDER_ANCHORS)), channel) for channel in zip(*ORDER_ANCHORS, strict=True)
    ]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def instance_colours(n: int) -> Picture:
    """Colours of `n` true instances, `[n, 3]` uint8: muted, without an order, unlike those of `order_colours`.

    `n` below 0 is a `ValueError`.
    """
    check_count("n", n)
    # Steps of the golden ratio keep any run of hues apart; three tones keep apart those that come round again.
    tones = ((0.38, 0.93), (0.5, 0.68), (0.22, 0.8))
    colours = [colorsys.hsv_to_rgb((0.06 + 0.618034 * k) % 1, *tones[k % 3]) for k in range(n)]
    return np.round(255 * np.array(colours).reshape(n, 3)).astype(np.uint8)


def colour_by_order(label_map: NDArray[Any], num_colours: int | None = None) -> Picture:
    """Colour predictions by their order: label `k` gets the `k`-th order colour, the background is black.

    Args:
        label_map: `[H, W]`, any integer dtype; label = step of the prediction, 0 = background.
        num_colours: length of the colour scale; default: the largest label. Labels beyond it are white.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: `label_map` is not a matrix of non-negative integers, or `num_colours` is negative.
    """
    check_label_map("label_map", label_map)
    return _paint(label_map, order_colours(int(label_map.max(initial=0)) if num_colours is None else num_colours))


def colour_instances(label_map: NDArray[Any]) -> Picture:
    """Colour true instances in muted colours, the background black, and hatch ignored pixels in grey.

    Args:
        label_map: `[H, W]`, any integer dtype, 0 = background, -1 = ignored. A label has the same colour in every
            label map.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: `label_map` is not a matrix of integers from -1 on.
    """
    check_ground_truth("label_map", label_map)
    painted = _paint(label_map, instance_colours(int(label_map.max(initial=0))))
    ignored = label_map == IGNORED
    if ignored.any():
        painted[ignored] = _hatching(label_map.shape)[ignored]
    return painted


def overlay(image: Picture, label_map: NDArray[Any], alpha: float = 0.5, num_colours: int | None = None) -> Picture:
    """Draw predictions over their image, tinted by order, with an opaque border inside every instance.

    Args:
        image: `[3, H, W]` uint8, RGB.
        label_map: `[H, W]`, any integer dtype; label = step of the prediction, 0 = background.
        alpha: weight of the colour inside an instance, in [0, 1].
        num_colours: length of the colour scale; default: the largest label. Labels beyond it are white.

    Returns:
        `[H, W, 3]` uint8; background pixels are those of the image.

    Raises:
        ValueError: an argument breaks the above.
    """
    check_image(image, label_map)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    colours = colour_by_order(label_map, num_colours)
    border, pixels = _is_border(label_map), image.transpose(1, 2, 0)
    drawn = np.empty_like(colours)
    for first in range(0, len(drawn), ROWS):  # a large picture has no room for all in float64
        rows = slice(first, first + ROWS)
        weight = np.where(border[rows], 1.0, alpha * (label_map[rows] > 0))[..., None]
        drawn[rows] = np.round((1 - weight) * pixels[rows] + weight * colours[rows])
    return drawn


def _paint(label_map: NDArray[Any], colours: Picture) -> Picture:
    """Paint label `k` in the `k`-th of `colours` `[n, 3]`, the rest black or, beyond `n`, white: `[H, W, 3]`."""
    palette = np.concatenate([np.zeros_like(colours, shape=(1, 3)), colours, np.array([SURPLUS], np.uint8)])
    painted = np.empty((*label_map.shape, 3), np.uint8)
    for first in range(0, len(painted), ROWS):
        rows = slice(first, first + ROWS)
        painted[rows] = palette[np.clip(label_map[rows].astype(np.int64), 0, len(colours) + 1)]
    return painted


def _hatching(shape: tuple[int, ...]) -> Picture:
    """Diagonal stripes `[H, W, 3]`, wider in larger pictures."""
    width = 2 + min(shape) // 150
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    is_stripe = (rows + columns) // width % 2 == 0
    return np.where(is_stripe[..., None], np.array(HATCHING, np.uint8), np.array(HATCHED, np.uint8))


def _is_border(label_map: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of instances `[H, W]` near another label; the image edge is no border. Thicker in larger images."""
    size = 3 + 2 * (min(label_map.shape) // 300)
    neighbourhood = np.ones((size, size), np.uint8)
    # The morphology of OpenCV has no wide integers.
    labels: NDArray[Any] = label_map.astype(np.uint16 if label_map.max(initial=0) < 2**16 else np.float64)
    return np.asarray((cv2.dilate(labels, neighbourhood) != cv2.erode(labels, neighbourhood)) & (label_map > 0))
