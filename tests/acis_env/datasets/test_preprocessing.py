"""Scenes become pictures of the networks' size, and masks find the way back."""

import numpy as np
import pytest

from acis_env.datasets.preprocessing import Squeeze, resize_image, resize_label_map, resize_masks


@pytest.mark.parametrize("size", [(20, 30), (64, 96), (96, 32), (333, 517)])
def test_resizing_labels_takes_the_pixel_under_each_new_centre(size):
    label_map = (np.indices((40, 40)) // 4 * np.array([10, 1])[:, None, None]).sum(0) + 1
    resized = resize_label_map(label_map, size)
    rows = np.floor((np.arange(size[0]) + 0.5) * 40 / size[0]).astype(int)
    columns = np.floor((np.arange(size[1]) + 0.5) * 40 / size[1]).astype(int)
    np.testing.assert_array_equal(resized, label_map[np.ix_(rows, columns)])


def test_shrinking_an_image_averages_over_the_pixels_it_merges():
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 96), dtype=np.uint8)
    means = image.reshape(3, 32, 2, 32, 3).mean((2, 4))
    np.testing.assert_allclose(resize_image(image, (32, 32)), means, atol=0.51)


def test_image_and_labels_stay_aligned_when_resized():
    mask = np.zeros((50, 70), np.uint8)
    mask[10:40, 20:60] = 1
    for size in [(32, 32), (160, 224), (32, 96)]:
        image = resize_image(np.stack([mask * 200] * 3), size)
        label_map = resize_label_map(mask, size)
        rows, columns = (np.arange(length) for length in size)
        for weights, axis in ((rows, 1), (columns, 0)):
            centre_in_image = np.average(weights, weights=image[0].sum(axis, dtype=float))
            centre_in_labels = np.average(weights, weights=label_map.sum(axis))
            assert abs(centre_in_image - centre_in_labels) < 0.5


def test_masks_keep_their_place_when_resized():
    masks = np.zeros((2, 4, 4), np.float32)
    masks[0, :, 2:] = 1
    masks[1, 0] = 1
    resized = resize_masks(masks, (8, 16))
    assert resized.shape == (2, 8, 16)
    assert resized[0, :, :6].max() == resized[1, 3:].max() == 0
    assert resized[0, :, 10:].min() == resized[1, 0].min() == 1
    assert resize_masks(masks[:0], (8, 16)).shape == (0, 8, 16)


@pytest.mark.parametrize("size", [(50, 70), (64, 96), (96, 64), (160, 224)])
def test_masks_of_the_squeezed_instances_return_to_where_these_were(size):
    label_map = np.zeros((50, 70), np.int32)
    label_map[4:30, 6:28] = 1
    label_map[12:46, 34:66] = 2
    squeeze = Squeeze(size)
    squeezed = squeeze.label_map(label_map)
    assert squeezed.shape == size
    masks = np.stack([squeezed == 1, squeezed == 2]).astype(np.float32)
    returned = squeeze.masks_back(masks, (50, 70)) >= 0.5
    for mask, label in zip(returned, (1, 2), strict=True):
        instance = label_map == label
        assert 2 * (mask & instance).sum() / (mask.sum() + instance.sum()) > 0.97


def test_a_picture_that_has_the_size_already_stays_as_it_is():
    rng = np.random.default_rng(0)
    image, label_map = rng.integers(0, 256, (3, 8, 9), dtype=np.uint8), rng.integers(0, 4, (8, 9), dtype=np.int32)
    masks = rng.random((2, 8, 9), dtype=np.float32)
    squeeze = Squeeze((8, 9))
    np.testing.assert_array_equal(squeeze.image(image), image)
    np.testing.assert_array_equal(squeeze.label_map(label_map), label_map)
    np.testing.assert_array_equal(squeeze.masks_back(masks, (8, 9)), masks)


def test_squeezing_drops_instances_below_the_smallest_area():
    label_map = np.zeros((64, 64), np.int32)
    label_map[:40] = 1
    label_map[60:62, 60:62] = 2
    assert Squeeze((32, 32)).label_map(label_map).max() == 2
    assert Squeeze((32, 32)).label_map(label_map, min_area=2).max() == 1
