"""Cityscapes: cars by their numbers, and pixels that nobody can judge."""

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import open_scenes
from acis_env.datasets.cityscapes import recognise_cityscapes
from acis_env.testing.trees import WRITERS


@pytest.fixture
def tree(tmp_path):
    WRITERS["cityscapes"](tmp_path)
    return tmp_path


def open_streets(root, split="train", **options):
    return open_scenes("dataset:cityscapes", split, (64, 128), {"root": root, **options})


def values_of(tree, name="aachen/aachen_000000_000019", split="train"):
    """The file of labels, and what it holds."""
    path = tree / "gtFine" / split / f"{name}_gtFine_instanceIds.png"
    return path, np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("split", ["train", "val"])
def test_streets_load_as_they_were_written(tmp_path, assert_same_scenes, split):
    written = WRITERS["cityscapes"](tmp_path)[split]
    assert_same_scenes(open_streets(tmp_path, split, min_instances=0), written)


def test_streets_without_a_car_are_left_out(tree):
    scenes = open_streets(tree)
    assert [scene.num_instances for scene in scenes] == [3, 2]
    assert scenes.max_instances == 3


def test_cars_are_counted_as_a_slow_look_at_every_value_says(tree):
    scene = open_streets(tree)[0]
    _, values = values_of(tree)
    cars = {value for value in values.ravel().tolist() if value // 1000 == 26}
    assert scene.num_instances == len(cars) == 3
    for y, x in np.ndindex(*values.shape):
        value = values[y, x]
        is_ignored = value in (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 26, 29, 30)
        assert scene.label_map[y, x] == (-1 if is_ignored else value - 26000 + 1 if value >= 26000 else 0)


def test_classes_are_chosen_by_name_or_id_and_groups_of_others_are_background(tree):
    people = open_streets(tree, classes="person")
    assert [scene.num_instances for scene in people] == [1, 1, 1]
    _, values = values_of(tree)
    np.testing.assert_array_equal(people[0].label_map == 1, values == 24000)
    assert (people[0].label_map[values == 26] == 0).all()
    both = open_streets(tree, classes=["person", 26])
    assert [scene.num_instances for scene in both] == [4, 1, 3]


def test_a_class_without_instances_is_refused(tree):
    with pytest.raises(ValueError, match="classes must be things of Cityscapes: unknown 'cars', the nearest are 'car'"):
        open_streets(tree, classes="cars")
    with pytest.raises(ValueError, match="unknown '7'"):
        open_streets(tree, classes=7)


@pytest.mark.parametrize("split", ["test", "trainextra"])
def test_a_split_without_labels_is_answered_by_those_there_are(tree, split):
    with pytest.raises(FileNotFoundError, match=f"split '{split}' must be one of train, val"):
        open_streets(tree, split)


def test_a_missing_label_is_named(tree):
    path, _ = values_of(tree)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path}: no such image"):
        open_streets(tree)


def test_a_label_of_another_size_is_an_error_with_both_sizes(tree):
    path, values = values_of(tree)
    Image.fromarray(values[:-1].astype(np.uint16)).save(path)
    with pytest.raises(ValueError, match=rf"is 64x128 but its label map is 63x128 .*by {path}"):
        open_streets(tree)


def test_the_layout_is_recognised(tree):
    assert "instanceIds" in recognise_cityscapes(tree)
    assert recognise_cityscapes(tree / "gtFine") is None
