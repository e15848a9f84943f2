"""Bad arguments of the functions that draw are refused by name."""

import numpy as np
import pytest

from acis_env.rendering import (
    colour_by_order,
    colour_instances,
    contact_sheet,
    episode_frame,
    order_colours,
    overlay,
)


def scene(height=20, width=30, num_instances=3):
    """A noisy image and vertical stripes as instances, with background between them."""
    image = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    label_map = np.zeros((height, width), np.int32)
    for label in range(1, num_instances + 1):
        start = (label - 1) * width // num_instances
        label_map[4:-4, start + 1 : start + width // num_instances - 1] = label
    return image, label_map


IMAGE, LABELS = scene()
PICTURE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: order_colours(-1), "n must be at least 0, got -1"),
        (lambda: colour_by_order(LABELS / 2), "label_map must have an integer dtype, got float64"),
        (lambda: colour_instances(LABELS - 1), "label_map must hold labels >= 0 .* got -1"),
        (lambda: overlay(IMAGE / 255, LABELS), r"image must be uint8 \[3, H, W\] .* got float64 \[3, 20, 30\]"),
        (lambda: overlay(IMAGE, LABELS.T), r"label_map must be .* \[20, 30\] as image, got \[30, 20\]"),
        (lambda: overlay(IMAGE, LABELS, alpha=2), r"alpha must lie in \[0, 1\], got 2"),
        (lambda: episode_frame(IMAGE, LABELS.T, LABELS, 0, 3), "ground_truth must be"),
        (lambda: episode_frame(IMAGE, LABELS, LABELS.T, 0, 3), "prediction must be"),
        (lambda: episode_frame(IMAGE, LABELS, LABELS, -1, 3), "step must be at least 0, got -1"),
        (lambda: contact_sheet([], ["image"]), "must not be empty, got 0 and 1"),
        (lambda: contact_sheet([[PICTURE]], ["a", "b"]), r"rows\[0\] must hold 2 pictures .* got 1"),
        (lambda: contact_sheet([[PICTURE[0]]], ["a"]), r"rows\[0\]\[0\] must be uint8 \[H, W, 3\]"),
        (lambda: contact_sheet([[PICTURE]], ["a"], []), "captions must hold one per row, 1, got 0"),
    ],
)
def test_a_bad_argument_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
