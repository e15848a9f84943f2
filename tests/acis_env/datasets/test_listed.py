"""Scenes of listed pictures: what is read when, and which are chosen."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import FolderScenes
from acis_env.datasets.listed import Listed, ListedScenes, keep_largest
from acis_env.datasets.pairs import list_pairs
from acis_env.pictures import Reading


def write_pair(folder, name, label_map, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (*label_map.shape, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"{name}_rgb.png")
    Image.fromarray(label_map.astype(np.uint16)).save(folder / f"{name}_label.png")


def squares(*sides, height=24, width=80):
    """Label map with one square per side in px, from left to right."""
    label_map = np.zeros((height, width), np.int32)
    for place, side in enumerate(sides):
        label_map[2 : 2 + side, 16 * place + 1 : 16 * place + 1 + side] = place + 1
    return label_map


@pytest.fixture
def folder(tmp_path):
    for name, sides in {"a": (3, 5), "b": (9,), "c": (2, 4, 6, 8, 10)}.items():
        write_pair(tmp_path, name, squares(*sides), seed=ord(name))
    return tmp_path


def open_listed(folder, **options):
    return ListedScenes(folder, list_pairs(folder, Reading()), **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_instances": 2},
        {"max_instances": 2},
        {"min_area": 20},
        {"scale": 0.5},
        {"crop": "centre", "crop_size": 20, "min_instances": 0},
        {"crop": "random", "crop_size": (12, 20), "crops_per_image": 3, "seed": 5},
    ],
)
def test_pairs_give_the_scenes_of_a_folder(folder, assert_same_scenes, options):
    found, expected = open_listed(folder, **options), FolderScenes(folder, **options)
    assert_same_scenes(list(found), list(expected))
    assert found.max_instances == expected.max_instances


def test_the_largest_instances_are_kept_and_others_ignored(folder):
    scenes = open_listed(folder, largest=2)
    assert scenes.max_instances == 2
    label_map = scenes[2].label_map
    np.testing.assert_array_equal(label_map == 1, squares(0, 0, 0, 8) > 0)
    np.testing.assert_array_equal(label_map == 2, squares(0, 0, 0, 0, 10) > 0)
    np.testing.assert_array_equal(label_map == -1, squares(2, 4, 6) > 0)
    assert (scenes[0].label_map >= 0).all()


def test_of_equally_large_instances_the_lower_labels_are_kept():
    np.testing.assert_array_equal(keep_largest(np.array([[1, 2, 3, 3, 0, -1]], np.int32), 2), [[1, -1, 2, 2, 0, -1]])


def test_where_the_number_is_known_no_label_is_read(folder):
    def read():
        pytest.fail("read")

    pictures = [replace(picture, labels=read, count=3) for picture in list_pairs(folder, Reading())]
    assert ListedScenes(folder, pictures, max_instances=3).max_instances == 3
    with pytest.raises(ValueError, match="no scene has 4 to any number instances of at least 1 px; seen were 3 to 3"):
        ListedScenes(folder, pictures, min_instances=4)


def test_labels_are_read_once_per_process(folder):
    reads = []

    def read(picture):
        reads.append(picture.name)
        return picture.labels()

    pictures = [replace(p, labels=partial(read, p), variant="watched") for p in list_pairs(folder, Reading())]
    assert ListedScenes(folder, pictures).max_instances == 5
    assert len(ListedScenes(folder, pictures)) == 3
    assert sorted(reads) == ["a", "b", "c"]


def test_scenes_have_another_fingerprint_with_other_options_or_another_file(folder):
    found = {open_listed(folder, **options).fingerprint for options in ({}, {"largest": 2}, {"min_area": 4})}
    assert len(found) == 3
    assert open_listed(folder).fingerprint in found
    write_pair(folder, "c", squares(3))
    assert open_listed(folder).fingerprint not in found


def test_two_pictures_of_one_name_are_refused(folder):
    with pytest.raises(ValueError, match="names of images must differ, got 'a' twice"):
        ListedScenes(folder, 2 * list_pairs(folder, Reading())[:1])


def test_a_label_that_has_changed_is_read_again(folder):
    assert open_listed(folder).max_instances == 5
    write_pair(folder, "c", squares(3))
    assert open_listed(folder).max_instances == 2


def test_images_are_decoded_when_their_scene_is_asked_for(folder):
    header = (folder / "b_rgb.png").read_bytes()[:60]
    (folder / "b_rgb.png").write_bytes(header)
    scenes = open_listed(folder)
    assert scenes[0].name == "a"
    with pytest.raises(ValueError, match=r"b_rgb.png cannot be decoded"):
        scenes[1]


def test_missing_images_are_found_at_opening_and_counted(folder):
    (folder / "a_rgb.png").unlink()
    (folder / "c_rgb.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"a has no image: .*a_rgb.png does not exist; 2 of 3 images are missing"
    ):
        open_listed(folder)


def test_image_and_label_of_different_sizes_are_an_error_with_both_and_their_files(folder):
    Image.fromarray(np.ones((24, 79), np.uint8)).save(folder / "b_label.png")
    with pytest.raises(ValueError, match=r"b_rgb.png is 24x80 but its label map is 24x79 .*b_label.png"):
        open_listed(folder)


def test_an_image_of_one_pixel_is_a_scene(tmp_path):
    write_pair(tmp_path, "a", np.ones((1, 1), np.int32))
    assert open_listed(tmp_path)[0].label_map.tolist() == [[1]]


def test_three_hundred_instances_stay_apart(tmp_path):
    write_pair(tmp_path, "a", np.arange(301).reshape(7, 43))
    assert open_listed(tmp_path).max_instances == open_listed(tmp_path)[0].num_instances == 300


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"largest": 0}, "largest must be None or an int from 1 on, got 0"),
        ({"min_instance": 1}, "unknown 'min_instance', the nearest are 'min_instances'"),
        ({"max_instances": 0}, "max_instances must be at least min_instances=1, got 0"),
    ],
)
def test_options_outside_of_their_range_are_refused(folder, options, problem):
    with pytest.raises(ValueError, match=problem):
        open_listed(folder, **options)


def test_a_listed_picture_reads_itself(folder):
    picture = list_pairs(folder, Reading())[0]
    assert isinstance(picture, Listed)
    assert picture.read_image().shape == (3, 24, 80)
    np.testing.assert_array_equal(picture.read_labels(), squares(3, 5))
