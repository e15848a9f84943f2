"""Frames of an episode are equal in size, and show the masks so far."""

import numpy as np
import pytest

from acis_env.rendering import (
    episode_frame,
    order_colours,
)
from tests.acis_env.rendering.conftest import episode, scene


@pytest.mark.parametrize("min_panel", [16, 33, 160])
def test_frames_of_an_episode_are_equal_in_size_and_even(min_panel):
    (shape,) = {frame.shape for frame in episode(min_panel=min_panel)}
    height, width, channels = shape
    assert height % 2 == width % 2 == 0
    assert height >= min_panel
    assert channels == 3


@pytest.mark.parametrize(("height", "width"), [(20, 30), (21, 30), (20, 31), (21, 31)])
def test_odd_images_have_even_frames(height, width):
    image, label_map = scene(height, width)
    frame = episode_frame(image, label_map, label_map, 3, 3, min_panel=1)
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0


def test_a_frame_does_not_change_size_with_what_its_captions_say():
    image, label_map = scene()
    plain = episode_frame(image, label_map, label_map, 0, 3)
    wordy = episode_frame(image, label_map, label_map, 123456789, 3, potential=123456789.0)
    assert plain.shape == wordy.shape
    assert (plain != wordy).any()


def test_a_frame_shows_the_image_pixel_for_pixel_enlarged():
    image, label_map = scene()  # 20 rows become 40 at a factor of 2
    frame = episode_frame(image, label_map, label_map, 3, 3, min_panel=40)
    enlarged = image.transpose(1, 2, 0).repeat(2, axis=0).repeat(2, axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(frame[:, :80], enlarged.shape)
    assert (windows == enlarged).all(axis=(-3, -2, -1)).sum() == 1


def test_a_frame_shows_exactly_the_masks_so_far():
    frames = episode()
    colours = order_colours(3)
    shown = [[(frame == colour).all(axis=-1).any() for colour in colours] for frame in frames]
    assert shown == [[step > k for k in range(3)] for step in range(4)]


def test_a_scene_without_instances_has_a_frame():
    image, label_map = scene()
    assert episode_frame(image, 0 * label_map, label_map, 3, 0).shape == episode()[0].shape
