"""Curves make one picture."""

import numpy as np
from PIL import Image

from acis_env.rendering import (
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
