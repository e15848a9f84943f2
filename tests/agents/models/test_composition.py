"""Label maps of whole pictures, out of masks that are known in windows."""

from pathlib import Path

import numpy as np
import pytest

from acis_env.datasets import FolderScenes, Leaves
from acis_env.datasets.preprocessing import Squeeze, Tile, parse_preprocessing
from acis_env.metrics import segmentation_metrics
from agents.models.composition import compose_label_map, compose_windows

NUCLEI = Path(__file__).parents[4] / "shared" / "data" / "bbbc038" / "val"


def there(label_map, preprocessing):
    """The true masks in every window, as probabilities."""
    scaled = preprocessing.scale_labels(label_map)
    windows = [window.cut_labels(scaled) for window in preprocessing.windows(label_map.shape)]
    return [(found == np.arange(1, found.max() + 1)[:, None, None]).astype(np.float32) for found in windows]


def round_trip(label_map, preprocessing):
    """Best Dice of the instances after there and back, mean over the scene."""
    back, masks = compose_windows(there(label_map, preprocessing), label_map.shape, preprocessing)
    assert back.max() == len(masks)
    return segmentation_metrics(back, label_map)["sbd"]


@pytest.mark.parametrize("name", ["shorter-side", "squeeze", "tile", "tile:0.5"])
def test_plants_of_the_size_of_cvppp_are_the_same_after_there_and_back(name):
    preprocessing = parse_preprocessing(name, (224, 224))
    assert (
        np.mean([round_trip(scene.label_map, preprocessing) for scene in Leaves("test", (530, 500), length=6)]) > 0.97
    )


@pytest.mark.skipif(not NUCLEI.is_dir(), reason="needs the nuclei in shared/")
@pytest.mark.parametrize(("name", "size"), [("shorter-side", (512, 512)), ("tile", (128, 128)), ("tile", (96, 160))])
def test_real_nuclei_are_the_same_after_there_and_back(name, size):
    preprocessing = parse_preprocessing(name, size)
    values = [round_trip(scene.label_map, preprocessing) for scene in FolderScenes(NUCLEI)]
    assert np.mean(values) >= 0.97


@pytest.mark.skipif(not NUCLEI.is_dir(), reason="needs the nuclei in shared/")
def test_the_shorter_side_loses_nothing_of_the_nuclei_but_what_it_crops():
    preprocessing = parse_preprocessing("shorter-side", (256, 256))
    for scene in FolderScenes(NUCLEI):
        label_map = scene.label_map
        shown = preprocessing.masks_back(np.ones((1, 256, 256), np.float32), label_map.shape)[0] > 0
        label_map = np.where(np.isin(label_map, label_map[~shown]), 0, label_map)  # without those at the cut
        back, _ = compose_windows(there(label_map, preprocessing), label_map.shape, preprocessing)
        assert segmentation_metrics(back, label_map)["sbd"] >= 0.97


def test_an_instance_in_four_windows_is_one_mask_and_neighbours_stay_two():
    label_map = np.zeros((50, 50), np.int32)
    label_map[10:25, 10:40], label_map[25:40, 10:40] = 1, 2
    preprocessing = Tile((32, 32))
    back, masks = compose_windows(there(label_map, preprocessing), (50, 50), preprocessing)
    np.testing.assert_array_equal(back, label_map)
    np.testing.assert_array_equal(masks, [label_map == 1, label_map == 2])


def test_masks_return_as_probabilities_and_overlaps_go_to_the_most_probable():
    masks = np.zeros((2, 4, 4), np.float32)
    masks[0, :, :3], masks[1, :, 1:] = 0.6, 0.9
    label_map, soft = compose_windows([masks], (4, 4), Squeeze((4, 4)), threshold=0.5, soft=True)
    np.testing.assert_array_equal(label_map, [[1, 2, 2, 2]] * 4)
    np.testing.assert_array_equal(soft, masks)
    label_map, hard = compose_windows([masks], (8, 8), Squeeze((4, 4)), threshold=0.7)
    assert set(np.unique(label_map)) == {0, 2}
    assert not hard[0].any()


def test_where_windows_overlap_the_larger_probability_of_an_instance_counts():
    preprocessing = Tile((32, 32))
    windows = preprocessing.windows((32, 56))
    assert [window.x for window in windows] == [0, 24]
    weak, strong = np.full((1, 32, 32), 0.6, np.float32), np.full((1, 32, 32), 0.8, np.float32)
    _, soft = compose_windows([weak, strong], (32, 56), preprocessing, soft=True)
    np.testing.assert_array_equal(
        soft, [np.where(np.arange(56) < 24, np.float32(0.6), np.float32(0.8))[None].repeat(32, 0)]
    )


def test_no_more_masks_are_kept_than_asked_for():
    masks = np.eye(3, dtype=np.float32)[:, :, None].repeat(3, 2)
    for most, expected in ((2, [1, 2, 0]), (0, [0, 0, 0]), (None, [1, 2, 3]), (9, [1, 2, 3])):
        label_map, kept = compose_windows([masks], (3, 3), Squeeze((3, 3)), most=most)
        assert label_map[:, 0].tolist() == expected
        assert len(kept) == max(expected)


def test_windows_without_masks_make_an_empty_label_map():
    preprocessing = Tile((32, 32))
    nothing = [np.zeros((0, 32, 32), np.float32)] * len(preprocessing.windows((50, 60)))
    label_map, masks = compose_windows(nothing, (50, 60), preprocessing)
    assert not label_map.any()
    assert masks.shape == (0, 50, 60)
    assert compose_label_map(nothing[0]).shape == (32, 32)
