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
from tests.acis_env.rendering.conftest import scene

IMAGE, LABELS = scene()
PICTURE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: order_colours(-1), "n must be at least 0, got -1"),
        (lambda: colour_by_order(LABELS / 2), "label_map must have an integer dtype, got float64"),
        (lambda: colour_instances(LABELS - 2), "label_map must hold labels >= -1 .* got -2"),
        (lambda: colour_by_order(LABELS - 1), "label_map must hold labels >= 0 .* got -1"),
        (lambda: episode_frame(IMAGE, LABELS, LABELS - 1, 0, 3), "prediction must hold labels >= 0 .* got -1"),
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
