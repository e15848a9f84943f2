"""A data set at a glance."""

import numpy as np
import pytest

from acis_env.datasets import Scene
from acis_env.rendering import draw_overview


def columns_with(picture, colour):
    return np.flatnonzero((picture == colour).all(axis=2).any(axis=0))


def test_scenes_stand_two_beside_each_other_and_histograms_below(scenes):
    heights = [draw_overview(scenes[:number], {}).shape[0] for number in (1, 2, 3)]
    assert heights[0] == heights[1] < heights[2]
    with_charts = draw_overview(scenes[:1], {"instances": {"train": [1, 2]}, "empty": {"train": []}})
    assert with_charts.shape[0] > heights[0]


def test_an_image_is_shown_beside_its_instances():
    image = np.zeros((3, 20, 20), np.uint8)
    image[0] = 255
    picture = draw_overview([Scene(image, np.zeros((20, 20), np.int32), "red")], {})
    assert columns_with(picture, (255, 0, 0)).max() < columns_with(picture, (0, 0, 0)).max()


def test_large_scenes_are_reduced_and_those_without_labels_shown():
    scene = Scene(np.zeros((3, 600, 1200), np.uint8), None, "large")
    assert draw_overview([scene, scene], {}).shape[1] < 1100


def test_an_overview_of_nothing_is_refused():
    with pytest.raises(ValueError, match="scenes must hold at least one"):
        draw_overview([], {})
