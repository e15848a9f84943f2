"""A contact sheet holds every picture."""

import numpy as np

from acis_env.rendering import (
    contact_sheet,
    order_colours,
)


def test_a_contact_sheet_holds_every_picture_whatever_its_size():
    sizes = [[(10, 12, 7), (40, 9, 8)], [(20, 20, 12), (5, 30, 13)]]  # height, width, grey value
    pictures = [[np.full((h, w, 3), value, np.uint8) for h, w, value in row] for row in sizes]
    sheet = contact_sheet(pictures, ["left", "right"], ["one", "two"], min_panel=20)
    assert sheet.shape[0] % 2 == sheet.shape[1] % 2 == 0
    for (h, w, value), factor in zip(sizes[0] + sizes[1], (2, 1, 1, 4), strict=True):
        assert (sheet == value).all(axis=-1).sum() >= h * w * factor**2


def test_the_legend_of_a_contact_sheet_can_be_left_out():
    rows = [[np.zeros((50, 50, 3), np.uint8)]]
    with_legend = contact_sheet(rows, ["image"])
    without = contact_sheet(rows, ["image"], order_legend=False)
    assert with_legend.shape[0] > without.shape[0]
    for colour in order_colours(2):
        assert (with_legend == colour).all(axis=-1).any()
        assert not (without == colour).all(axis=-1).any()
