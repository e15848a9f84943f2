"""Label maps of whole pictures, out of masks that are known in windows."""

from pathlib import Path

import numpy as np
import pytest

from acis_env.datasets import FolderScenes, Leaves
from acis_env.datasets.preprocessing import Squeeze, Tile, parse_preprocessing
from acis_env.metrics import segmentation_metrics
from agents.models.composition import DEFAULT, Composition, PictureMasks, compose_label_map, fill_foreground

NUCLEI = Path(__file__).parents[4] / "shared" / "data" / "bbbc038" / "val"


def there(label_map, preprocessing):
    """The true masks in every window, as probabilities."""
    scaled = preprocessing.scale_labels(label_map)
    windows = [window.cut_labels(scaled) for window in preprocessing.windows(label_map.shape)]
    return [(found == np.arange(1, found.max() + 1)[:, None, None]).astype(np.float32) for found in windows]


def compose_windows(masks, size, preprocessing, rule=DEFAULT, soft=False, most=None, foregrounds=None):
    """The label map of a picture, and its masks in the order of prediction."""
    found = PictureMasks.joined(masks, size, preprocessing, rule, most)
    return found.label_map(rule, foregrounds), found.soft() if soft else found.hard(rule.threshold)


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
def test_the_shorter_side_keeps_the_foreground_of_the_nuclei_although_it_crops():
    preprocessing = parse_preprocessing("shorter-side", (256, 256))
    values = []
    for scene in FolderScenes(NUCLEI):
        back, _ = compose_windows(there(scene.label_map, preprocessing), scene.label_map.shape, preprocessing)
        both = ((back > 0) & (scene.label_map > 0)).sum()
        values.append(2 * both / ((back > 0).sum() + (scene.label_map > 0).sum()))
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
    label_map, soft = compose_windows([masks], (4, 4), Squeeze((4, 4)), Composition(0.5), soft=True)
    np.testing.assert_array_equal(label_map, [[1, 2, 2, 2]] * 4)
    np.testing.assert_array_equal(soft, masks)
    label_map, hard = compose_windows([masks], (8, 8), Squeeze((4, 4)), Composition(0.7))
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


@pytest.mark.parametrize("number", [1, 3, 5])
def test_of_masks_of_one_instance_that_share_its_pixels_one_stays(number):
    preprocessing = Tile((32, 32), 1.0, 0.5)
    rows, columns = np.mgrid[:32, :32]
    disc = (rows - 16) ** 2 + (columns - 12) ** 2 < 36
    masks = disc * np.where((rows + columns) % number == np.arange(number)[:, None, None], 0.9, 0.8).astype(np.float32)
    nothing = np.zeros((0, 32, 32), np.float32)
    label_map, found = compose_windows([masks, nothing], (32, 48), preprocessing)
    assert len(found) == number
    expected = np.pad(disc, ((0, 0), (0, 16)))
    np.testing.assert_array_equal(label_map > 0, expected)
    assert len(np.unique(label_map[expected])) == 1


def test_no_more_masks_are_kept_than_asked_for():
    masks = np.eye(3, dtype=np.float32)[:, :, None].repeat(3, 2)
    for most, expected in ((2, [1, 2, 0]), (0, [0, 0, 0]), (None, [1, 2, 3]), (9, [1, 2, 3])):
        label_map, kept = compose_windows([masks], (3, 3), Squeeze((3, 3)), most=most)
        assert label_map[:, 0].tolist() == expected
        assert len(kept) == max(expected)


def nearest_by_hand(label_map, foreground, distance, pitch):
    """All labels that filling may give every pixel: those at the least distance, if that is near enough."""
    owned = [(int(y), int(x)) for y, x in np.argwhere(label_map > 0)]
    found = np.empty(label_map.shape, object)
    for y, x in np.ndindex(label_map.shape):
        far = {(v, u): np.hypot((v - y) * pitch[0], (u - x) * pitch[1]) for v, u in owned}
        least = min(far.values())
        near = {int(label_map[place]) for place, value in far.items() if value <= least + 1e-9}
        fills = label_map[y, x] == 0 and foreground[y, x] and least <= distance
        found[y, x] = near if fills else {int(label_map[y, x])}
    return found


@pytest.mark.parametrize("pitch", [(1, 1), (0.5, 0.25), (3, 1)])
@pytest.mark.parametrize("distance", [0.5, 1, 2, 2.5, 100])
def test_a_pixel_of_the_foreground_goes_to_the_nearest_label_within_the_distance(distance, pitch):
    random = np.random.default_rng(0)
    for _ in range(5):
        label_map = np.where(random.random((9, 11)) < 0.1, random.integers(1, 5, (9, 11)), 0).astype(np.int32)
        foreground = random.random((9, 11)) < 0.7
        filled = fill_foreground(label_map, foreground, distance, pitch)
        expected = nearest_by_hand(label_map, foreground, distance, pitch)
        assert all(filled[place] in expected[place] for place in np.ndindex(filled.shape))
        assert filled.dtype == np.int32


def test_nothing_is_filled_at_a_distance_of_zero_or_where_there_is_no_mask():
    label_map, everywhere = np.eye(4, dtype=np.int32), np.ones((4, 4), bool)
    np.testing.assert_array_equal(fill_foreground(label_map, everywhere, 0), label_map)
    assert not fill_foreground(np.zeros_like(label_map), everywhere, 9).any()


def test_distances_are_measured_in_pixels_of_the_networks_and_masks_stay_as_they_are():
    """A picture of twice the networks' height and four times their width; a mask in the first column."""
    masks = np.zeros((1, 8, 8), np.float32)
    masks[0, :, :1] = 1
    everywhere, size = [np.ones((8, 8), np.float32)], (16, 32)
    widths = {}
    for fill in (0, 1, 2):
        label_map, hard = compose_windows(
            [masks], size, Squeeze((8, 8)), Composition(fill=fill), foregrounds=everywhere
        )
        widths[fill] = int((label_map[0] == 1).sum())
        assert hard.sum() == 16 * widths[0]
    assert [widths[fill] - widths[0] for fill in (0, 1, 2)] == [0, 4, 8]


def test_filling_in_windows_uses_the_foreground_of_all_of_them():
    preprocessing = Tile((32, 32))
    windows = preprocessing.windows((32, 56))
    masks = np.zeros((1, 32, 32), np.float32)
    masks[0, :, 28:] = 1
    foregrounds = [np.ones((32, 32), np.float32), np.zeros((32, 32), np.float32)]
    found = [masks if window.x == 0 else masks[:0] for window in windows]
    label_map, _ = compose_windows(found, (32, 56), preprocessing, Composition(fill=100), foregrounds=foregrounds)
    np.testing.assert_array_equal(label_map, (np.arange(56) < 32)[None].repeat(32, 0))
    with pytest.raises(ValueError, match=r"fill = 2\.0 needs the predicted foreground"):
        compose_windows(found, (32, 56), preprocessing, Composition(fill=2.0))


@pytest.mark.parametrize("name", ["squeeze", "tile"])
def test_the_first_predicted_mask_keeps_what_it_holds(name):
    size, preprocessing = (24, 24), parse_preprocessing(name, (32, 32))
    masks = np.random.default_rng(0).integers(0, 6, (4, 32, 32)).astype(np.float32) / 5
    rule = Composition(0.5, "first-predicted")
    label_map, hard = compose_windows([masks], size, preprocessing, rule)
    for y, x in np.ndindex(size):
        holders = np.flatnonzero(hard[:, y, x])
        assert label_map[y, x] == (holders[0] + 1 if len(holders) else 0)
    flat = compose_label_map(masks, rule)
    assert all(
        flat[place] == next((t + 1 for t in range(4) if masks[t][place] >= 0.5), 0) for place in np.ndindex(32, 32)
    )


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"threshold": 1.0}, r"threshold must be in \(0, 1\), got 1.0"),
        ({"fill": -1.0}, "fill must be a number of pixels, at least 0, got -1.0"),
        ({"fill": float("inf")}, "fill must be .*, got inf"),
        ({"overlaps": "largest"}, "overlaps must be one of most-probable, first-predicted, got 'largest'"),
    ],
)
def test_what_is_no_rule_is_named(values, named):
    with pytest.raises(ValueError, match=named):
        Composition(**values)


def test_windows_without_masks_make_an_empty_label_map():
    preprocessing = Tile((32, 32))
    nothing = [np.zeros((0, 32, 32), np.float32)] * len(preprocessing.windows((50, 60)))
    label_map, masks = compose_windows(nothing, (50, 60), preprocessing)
    assert not label_map.any()
    assert masks.shape == (0, 50, 60)
    assert compose_label_map(nothing[0]).shape == (32, 32)
