"""The generated plants: reproducible, separate splits, and every leaf in plain sight."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from acis_env.datasets.leaves import Leaves
from acis_env.datasets.scene import Scene


def same(first: Scene, second: Scene) -> bool:
    return np.array_equal(first.image, second.image) and np.array_equal(first.label_map, second.label_map)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(Leaves("train", min_leaves=2, max_leaves=10, length=60))


def test_the_same_index_gives_the_same_scene_twice() -> None:
    assert same(Leaves("val")[3], Leaves("val")[3])


def test_two_indices_give_different_scenes() -> None:
    assert not same(Leaves("val")[3], Leaves("val")[4])


def test_another_seed_gives_other_scenes() -> None:
    assert not same(Leaves(seed=0)[0], Leaves(seed=1)[0])


def test_the_splits_share_no_scene() -> None:
    images = [scene.image.tobytes() for split in ("train", "val", "test") for scene in Leaves(split, length=10)]
    assert len(set(images)) == 30


def test_a_scene_does_not_depend_on_the_length_of_the_dataset() -> None:
    assert same(Leaves(length=8)[7], Leaves(length=500)[7])


def test_a_scene_does_not_depend_on_which_scenes_were_drawn_before() -> None:
    dataset = Leaves()
    dataset[0]
    assert same(dataset[5], Leaves()[5])


def test_images_and_label_maps_have_the_shapes_and_types_of_a_scene(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (3, 64, 64)
        assert scene.image.dtype == np.uint8
        assert scene.label_map.shape == (64, 64)
        assert scene.label_map.dtype == np.int32


def test_labels_are_consecutive_and_within_the_range_asked_for(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.unique(scene.label_map).tolist() == list(range(scene.num_instances + 1))
        assert 2 <= scene.num_instances <= 10


def test_every_number_of_leaves_occurs(scenes: list[Scene]) -> None:
    assert {scene.num_instances for scene in scenes} == set(range(2, 11))


def test_every_leaf_shows_at_least_twelve_pixels_and_mostly_in_one_piece(scenes: list[Scene]) -> None:
    for scene in scenes:
        for label in range(1, scene.num_instances + 1):
            leaf = (scene.label_map == label).astype(np.uint8)
            largest = cv2.connectedComponentsWithStats(leaf)[2][1:, cv2.CC_STAT_AREA].max()
            assert largest >= max(12, 2 / 3 * leaf.sum())


def test_leaves_are_greener_than_what_lies_around_them(scenes: list[Scene]) -> None:
    for scene in scenes:
        red, green, blue = scene.image.astype(float)
        greenness = 2 * green - red - blue
        assert greenness[scene.label_map > 0].mean() > greenness[scene.label_map == 0].mean() + 15


def test_a_plant_reaches_over_most_of_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        rows, columns = np.nonzero(scene.label_map)
        assert max(np.ptp(rows), np.ptp(columns)) >= 0.7 * 64


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (120, 75), (224, 224)])
def test_twenty_leaves_fit_into_pictures_of_other_sizes(size: tuple[int, int]) -> None:
    dataset = Leaves("test", size, min_leaves=20, max_leaves=20, length=3)
    assert dataset.max_instances == 20
    for scene in dataset:
        assert scene.image.shape == (3, *size)
        assert scene.num_instances == 20
        assert np.bincount(scene.label_map.ravel())[1:].min() >= 12 * (min(size) / 64) ** 2


def test_a_plant_can_have_a_single_leaf() -> None:
    assert [scene.num_instances for scene in Leaves(min_leaves=1, max_leaves=1, length=3)] == [1, 1, 1]


def test_the_default_lengths_are_those_of_the_splits() -> None:
    assert [len(Leaves(split)) for split in ("train", "val", "test")] == [4000, 200, 200]


def test_a_negative_index_counts_from_the_end() -> None:
    dataset = Leaves(length=5)
    assert same(dataset[-1], dataset[4])
    assert same(dataset[-5], dataset[0])


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_out_of_range_raises(index: int) -> None:
    with pytest.raises(IndexError, match=rf"{index} .* 5 scenes"):
        Leaves(length=5)[index]


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("split", {"split": "validation"}),
        ("size", {"size": (31, 64)}),
        ("size", {"size": (64, 64, 3)}),
        ("min_leaves", {"min_leaves": 0}),
        ("min_leaves", {"min_leaves": 6, "max_leaves": 5}),
        ("max_leaves", {"max_leaves": 21}),
        ("length", {"length": 0}),
        ("seed", {"seed": -1}),
    ],
)
def test_a_bad_argument_raises_naming_it(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must"):
        Leaves(**arguments)
