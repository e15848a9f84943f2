"""Curves make one picture, and histograms another."""

import numpy as np
import pytest
from PIL import Image

from acis_env.rendering import (
    draw_histograms,
    plot_curves,
)


def test_curves_of_different_length_and_with_gaps_make_one_picture(tmp_path):
    path = tmp_path / "new" / "dice.png"
    steps = np.arange(1, 6)
    curves = {"actor-critic": (steps, [0.9, 0.8, np.nan, 0.7, 0.6]), "baseline": ([1, 2], [0.9, 0.7])}
    plot_curves(path, curves, "time step", "Dice", "Dice per time step")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] > picture.shape[0] > 300
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)} <= colours  # one colour per curve


def bars(picture, colour):
    """Columns of a picture that hold `colour` somewhere."""
    return int((picture == colour).all(axis=2).any(axis=0).sum())


def test_every_whole_number_has_a_bar_of_its_own():
    blue = (121, 173, 210)  # the first of matplotlib's colours, over white
    few, many = (draw_histograms({"instances": {"train": values}}) for values in ([1, 3], [1, 2, 3]))
    assert bars(many, blue) == pytest.approx(1.5 * bars(few, blue), abs=4)


def test_panels_lie_side_by_side():
    one = {"train": [1.5, 2.5]}
    narrow, wide = draw_histograms({"a": one}), draw_histograms({"a": one, "b": {**one, "val": [3.0]}})
    assert wide.shape[0] == narrow.shape[0]
    assert wide.shape[1] == pytest.approx(2 * narrow.shape[1], abs=2)


@pytest.mark.parametrize("panels", [{}, {"a": {}}, {"a": {"train": []}}])
def test_histograms_without_values_are_refused(panels):
    with pytest.raises(ValueError, match="must hold"):
        draw_histograms(panels)
