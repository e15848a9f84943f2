"""Windows of pictures: where they lie, what is in them, and data sets of random ones."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.datasets.scene import IGNORED, Scene
from acis_env.datasets.windows import RandomCrops, Window, anywhere, centred, covering, cut_scene

PICTURE = np.arange(1, 13).reshape(3, 4)


@pytest.mark.parametrize(
    ("window", "image", "labels"),
    [
        (Window(1, 1, 2, 2), [[6, 7], [10, 11]], [[1, 2], [3, 4]]),
        (Window(-1, 2, 2, 3), [[3, 4, 4], [3, 4, 4]], [[-1, -1, -1], [1, 2, -1]]),
        (
            Window(-1, -1, 5, 2),
            [[1, 1], [1, 1], [5, 5], [9, 9], [9, 9]],
            [[-1, -1], [-1, 1], [-1, 2], [-1, 3], [-1, -1]],
        ),
    ],
)
def test_a_window_repeats_the_border_of_an_image_and_ignores_what_is_beyond_it_in_a_label_map(window, image, labels):
    np.testing.assert_array_equal(window.cut_image(PICTURE), image)
    np.testing.assert_array_equal(window.cut_labels(PICTURE), labels)


def test_what_is_pasted_back_lies_where_it_was_cut():
    for window in (Window(1, 1, 2, 2), Window(-1, 2, 2, 3), Window(-2, -2, 9, 9)):
        empty = np.zeros((2, 3, 4), int)
        window.paste(window.cut_image(np.stack([PICTURE, 2 * PICTURE])), empty)
        rows, columns = np.indices((3, 4))
        inside = (rows >= window.y) & (rows < window.y + window.height)
        inside &= (columns >= window.x) & (columns < window.x + window.width)
        np.testing.assert_array_equal(empty, np.where(inside, [PICTURE, 2 * PICTURE], 0))


def test_instances_that_are_too_small_in_the_window_become_background():
    label_map = np.array([[5, 5, 7, 7], [5, 0, 7, 7]])
    np.testing.assert_array_equal(Window(0, 1, 2, 3).cut_labels(label_map, min_area=2), [[0, 1, 1], [0, 1, 1]])


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.data())
@settings(max_examples=100, deadline=None)
def test_covering_windows_leave_nothing_out_and_overlap_as_much_as_asked(h, w, height, width, data):
    overlap = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    windows = covering((h, w), (height, width), overlap)
    seen = np.zeros((h, w), int)
    for window in windows:
        window.cut(seen)[...] += 1
    assert seen.min() >= 1
    for starts, side, length, least in (
        (sorted({window.y for window in windows}), height, h, overlap[0]),
        (sorted({window.x for window in windows}), width, w, overlap[1]),
    ):
        assert all(first + side - second >= least for first, second in pairwise(starts))
        assert len(starts) <= max(1, -(-(length - least) // (side - least)))  # no more than are needed
    assert len(set(windows)) == len(windows)


def test_a_window_anywhere_is_in_the_picture_and_reaches_all_of_it():
    generator = np.random.default_rng(0)
    starts = {(w.y, w.x) for w in (anywhere((5, 9), (3, 8), generator) for _ in range(100))}
    assert starts == {(y, x) for y in range(3) for x in range(2)}
    assert anywhere((5, 9), (8, 4), generator).y == centred((5, 9), (8, 4)).y == -2


class Scenes(list):
    max_instances = 3


def make_scene(size=(40, 90), name="road", labelled=True):
    label_map = np.zeros(size, np.int32)
    label_map[5:15, 5:15], label_map[20:30, 40:50], label_map[10:30, 70:85] = 1, 2, 3
    image = np.stack([label_map * 50, *np.indices(size)]).astype(np.uint8)
    foreground = label_map == 3
    return Scene(image, label_map if labelled else None, name, foreground)


def test_a_cut_scene_shows_the_same_pixels_everywhere():
    scene = cut_scene(make_scene(), Window(10, 65, 24, 40))
    assert scene.name == "road@10,65"
    assert scene.image.shape == (3, 24, 40)
    inside = np.s_[:24, :25]
    np.testing.assert_array_equal(scene.image[1][inside], np.indices((24, 25))[0] + 10)
    np.testing.assert_array_equal(scene.image[2][inside], np.indices((24, 25))[1] + 65)
    np.testing.assert_array_equal(scene.label_map[inside] == 1, scene.image[0][inside] == 150)
    np.testing.assert_array_equal(scene.foreground, scene.label_map == 1)
    assert (scene.label_map[:, 25:] == IGNORED).all()


def test_random_crops_are_rectangles_with_an_instance_and_the_same_each_time():
    scenes = Scenes([make_scene(), make_scene(name="street")])
    crops = RandomCrops(scenes, (16, 32), crops_per_image=6, seed=1)
    assert len(crops) == 12
    assert crops.max_instances == 3
    first, again = list(crops), list(RandomCrops(scenes, (16, 32), crops_per_image=6, seed=1))
    assert [scene.name for scene in first] == [scene.name for scene in again]
    for crop in first:
        y, x = map(int, crop.name.split("@")[1].split(","))
        picture = scenes[0 if crop.name.startswith("road") else 1]
        np.testing.assert_array_equal(crop.image, picture.image[:, y : y + 16, x : x + 32])
        np.testing.assert_array_equal(crop.label_map > 0, picture.label_map[y : y + 16, x : x + 32] > 0)
        assert crop.num_instances >= 1
    other = RandomCrops(scenes, (16, 32), crops_per_image=6, seed=2)
    assert [scene.name for scene in other] != [scene.name for scene in first]
    assert len({scene.name for scene in first}) > 6


def test_the_crops_of_a_picture_do_not_depend_on_the_other_pictures():
    alone = RandomCrops(Scenes([make_scene(name="street")]), (16, 32), crops_per_image=2)
    beside = RandomCrops(Scenes([make_scene(), make_scene(name="street")]), (16, 32), crops_per_image=2)
    assert [scene.name for scene in alone] == [beside[2].name, beside[3].name]


def test_the_fullest_crop_is_taken_where_none_has_instances_enough():
    def count(least, seed):
        (crop,) = RandomCrops(Scenes([make_scene()]), (30, 60), min_instances=least, seed=seed)
        return crop.num_instances

    assert {count(0, seed) for seed in range(9)} == {2, 3}  # whichever comes first
    assert {count(9, seed) for seed in range(9)} == {3}


def test_an_unlabelled_picture_has_crops_too():
    (crop,) = RandomCrops(Scenes([make_scene(labelled=False)]), (16, 32))
    assert crop.label_map is None
    assert crop.image.shape == (3, 16, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 5)}, "size of crops"),
        ({"size": (5, 5), "crops_per_image": 0}, "crops_per_image must be at least 1, got 0"),
        ({"size": (5, 5), "min_instances": -1}, "min_instances must be at least 0, got -1"),
        ({"size": (5, 5), "min_area": 0}, "min_area must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RandomCrops(Scenes([make_scene()]), **options)
