"""Predictions are coloured by their order, true instances are not mistaken for them."""

import numpy as np
import pytest

from acis_env.rendering import (
    colour_by_order,
    colour_instances,
    episode_frame,
    instance_colours,
    order_colours,
    overlay,
)
from tests.acis_env.rendering.conftest import scene


def distances(a, b):
    return np.linalg.norm(a[:, None].astype(float) - b[None].astype(float), axis=-1)


@pytest.mark.parametrize("n", [2, 3, 9, 21])
def test_order_runs_from_blue_to_red(n):
    first, last = order_colours(n)[[0, -1]].tolist()
    assert first[2] > 200 > 2 * max(first[:2])
    assert last[0] > 200 > 2 * max(last[1:])


def test_neighbours_in_the_order_are_told_apart_up_to_the_longest_episode():
    colours = order_colours(21)
    assert colours.shape == (21, 3)
    assert colours.dtype == np.uint8
    assert distances(colours, colours)[~np.eye(21, dtype=bool)].min() > 20


def test_no_prediction_and_a_single_one_have_colours_too():
    assert order_colours(0).shape == (0, 3)
    assert order_colours(1).tolist() == order_colours(5)[:1].tolist()


def test_a_true_instance_is_not_mistaken_for_a_prediction():
    assert distances(instance_colours(21), order_colours(21)).min() > 40


def test_true_instances_next_in_number_are_told_apart():
    colours = instance_colours(21)
    assert np.diag(distances(colours, colours), k=1).min() > 60
    assert instance_colours(4).tolist() == colours[:4].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_a_label_gets_the_colour_of_its_step(dtype):
    label_map = np.array([[0, 1, 3]], dtype)
    assert colour_by_order(label_map)[0].tolist() == [[0, 0, 0], *order_colours(3)[[0, 2]].tolist()]
    assert colour_by_order(label_map, 9)[0, 2].tolist() == order_colours(9)[2].tolist()


def test_a_prediction_beyond_the_scale_is_white():
    assert colour_by_order(np.array([[2, 3, 255]], np.uint8), 2)[0, 1:].tolist() == [[255] * 3] * 2
    assert colour_by_order(np.array([[0, 1]]), 0)[0].tolist() == [[0] * 3, [255] * 3]


def test_true_instances_lie_on_black():
    picture = colour_instances(np.array([[0, 2]]))
    assert picture[0].tolist() == [[0, 0, 0], instance_colours(2)[1].tolist()]


def test_an_overlay_leaves_the_background_and_its_arguments_untouched():
    image, label_map = scene()
    image_before, labels_before = image.copy(), label_map.copy()
    picture = overlay(image, label_map)
    background = label_map == 0
    assert (picture[background] == image.transpose(1, 2, 0)[background]).all()
    assert (image == image_before).all()
    assert (label_map == labels_before).all()


def test_an_overlay_tints_the_inside_and_fills_the_border():
    image = np.zeros((3, 5, 6), np.uint8)
    label_map = np.zeros((5, 6), np.int32)
    label_map[:, 3:] = 1  # reaches three edges of the image, which are no borders
    picture = overlay(image, label_map, alpha=0.5)
    colour = order_colours(1)[0].astype(int)
    assert (picture[:, 3] == colour).all()
    assert (abs(picture[:, 4:] - colour / 2) <= 0.5).all()


def test_two_touching_instances_are_separated_by_a_border():
    picture = overlay(np.zeros((3, 1, 6), np.uint8), np.array([[1, 1, 1, 2, 2, 2]]), alpha=0.0)
    assert picture.any(axis=-1)[0].tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("size", [(32, 48), (320, 400)])
def test_ignored_pixels_of_the_truth_are_hatched_in_grey_and_no_other_pixel_changes(size):
    _, label_map = scene(*size)
    ignored = np.zeros(size, bool)
    ignored[:, size[1] // 2 :] = True
    picture = colour_instances(np.where(ignored, -1, label_map))
    assert (picture[~ignored] == colour_instances(label_map)[~ignored]).all()
    greys = np.unique(picture[ignored], axis=0)
    assert len(greys) == 2
    assert (greys == greys[:, :1]).all()
    assert (greys > 50).all()  # neither the background's black
    assert distances(greys, instance_colours(21)).min() > 20  # nor an instance


def test_ignored_pixels_of_a_frame_are_hatched_in_the_truth_and_not_in_the_prediction():
    image, label_map = scene()
    void = np.where(np.arange(30) > 20, -1, label_map)
    plain = episode_frame(image, label_map, label_map, 3, 3, min_panel=1)
    frame = episode_frame(image, void, label_map, 3, 3, min_panel=1)
    columns = (plain != frame).any((0, 2)).nonzero()[0]
    assert 0 < len(columns) <= 9  # of one panel only
