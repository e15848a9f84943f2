"""Scenes become pictures of the networks' size, and masks find the way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.datasets.preprocessing import (
    PREPROCESSINGS,
    HalveCrop,
    ShorterSide,
    Squeeze,
    Tile,
    parse_preprocessing,
    resize_image,
    resize_label_map,
    resize_masks,
)
from acis_env.datasets.scene import IGNORED

CVPPP = (530, 500)
PROTOCOL = (224, 224)


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


def test_bicubic_resizing_reproduces_a_slope_and_is_no_average():
    slope = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8), (3, 60, 60))
    grown = resize_image(slope, (90, 90), bicubic=True)[0, 45, 15:75]
    np.testing.assert_allclose(grown, ((np.arange(15, 75) + 0.5) * 60 / 90 - 0.5) * 4, atol=1)
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    assert (resize_image(noise, (16, 16), bicubic=True) != resize_image(noise, (16, 16))).any()


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_image_and_labels_stay_aligned(name):
    mask = np.zeros((100, 140), np.uint8)
    mask[30:70, 50:90] = 1
    for size in [(32, 32), (160, 224), (32, 96)]:
        preprocessing = parse_preprocessing(name, size)
        image = preprocessing.image(np.stack([mask * 200] * 3))
        label_map = preprocessing.label_map(mask)
        assert image.shape == (3, *size)
        assert label_map.shape == size
        known = label_map != IGNORED
        assert np.abs(image[0, known] / 200.0 - label_map[known]).mean() < 0.05
        if not known.all():  # where the window hangs over, the dark border of the image goes on
            assert image[0, ~known].max() == 0


def test_masks_keep_their_place_when_resized():
    masks = np.zeros((2, 4, 4), np.float32)
    masks[0, :, 2:] = 1
    masks[1, 0] = 1
    resized = resize_masks(masks, (8, 16))
    assert resized.shape == (2, 8, 16)
    assert resized[0, :, :6].max() == resized[1, 3:].max() == 0
    assert resized[0, :, 10:].min() == resized[1, 0].min() == 1
    assert resize_masks(masks[:0], (8, 16)).shape == (0, 8, 16)


def dice(mask, instance):
    return 2 * (mask & instance).sum() / (mask.sum() + instance.sum())


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
        assert dice(mask, label_map == label) > 0.97


def scene_dice(preprocessing, label_map):
    """Mean Dice of the instances after there and back; what is cut off counts as missed."""
    there = preprocessing.label_map(label_map)
    masks = (there == np.arange(1, there.max() + 1)[:, None, None]).astype(np.float32)
    returned = preprocessing.masks_back(masks, label_map.shape) >= 0.5
    instances = [label_map == label for label in range(1, label_map.max() + 1)]
    return float(np.mean([max((dice(mask, instance) for mask in returned), default=0) for instance in instances]))


def test_halving_and_cropping_loses_the_border_that_the_shorter_side_keeps():
    label_map = np.zeros(CVPPP, np.int32)
    label_map[14:40, 200:300] = 1  # within 41 px of the upper side
    label_map[200:300, 200:300] = 2
    halved = HalveCrop(PROTOCOL)
    assert halved.scaled_size(CVPPP) == (265, 250)
    (window,) = halved.windows(CVPPP)
    assert window.y * 2 <= 41 <= 2 * (window.y + 1)
    assert halved.label_map(label_map).max() == 1
    assert ShorterSide(PROTOCOL).label_map(label_map).max() == 2
    assert scene_dice(halved, label_map) == pytest.approx(0.5, abs=0.02)
    assert scene_dice(halved, np.where(label_map == 2, 1, 0)) > 0.97


def test_the_shorter_side_of_cvppp_becomes_224_and_13_rows_are_cropped():
    shorter = ShorterSide(PROTOCOL)
    assert shorter.scaled_size(CVPPP) == (237, 224)
    (window,) = shorter.windows(CVPPP)
    assert (window.y, window.x) == (6, 0)
    image = np.random.default_rng(0).integers(0, 256, (3, *CVPPP), dtype=np.uint8)
    np.testing.assert_array_equal(shorter.image(image), resize_image(image, (237, 224), bicubic=True)[:, 6:230])


def test_a_picture_that_has_the_size_already_stays_as_it_is():
    rng = np.random.default_rng(0)
    image, label_map = rng.integers(0, 256, (3, 8, 9), dtype=np.uint8), rng.integers(0, 4, (8, 9), dtype=np.int32)
    masks = rng.random((2, 8, 9), dtype=np.float32)
    for preprocessing in (Squeeze((8, 9)), ShorterSide((8, 9)), Tile((8, 9))):
        np.testing.assert_array_equal(preprocessing.image(image), image)
        np.testing.assert_array_equal(preprocessing.label_map(label_map), label_map)
        np.testing.assert_array_equal(preprocessing.masks_back(masks, (8, 9)), masks)


@pytest.mark.parametrize("kind", [Squeeze, ShorterSide])
def test_instances_below_the_smallest_area_are_dropped(kind):
    label_map = np.zeros((64, 64), np.int32)
    label_map[:40] = 1
    label_map[60:62, 60:62] = 2
    assert kind((32, 32)).label_map(label_map).max() == 2
    assert kind((32, 32)).label_map(label_map, min_area=2).max() == 1


def test_the_last_instance_in_the_window_is_never_too_small():
    label_map = np.zeros((64, 128), np.int32)
    label_map[4:6, 60:64], label_map[20:22, 64:66], label_map[40, 2] = 1, 2, 3
    found = ShorterSide((32, 32)).label_map(label_map, min_area=9)
    assert found.max() == 1
    assert (found == 1).sum() == 2
    assert not ShorterSide((32, 32)).label_map(np.where(label_map == 3, 1, 0), min_area=9).any()  # it is cropped


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([(32, 32), (32, 64), (64, 32)]), st.data())
@settings(max_examples=60, deadline=None)
def test_pictures_of_any_size_have_windows_of_the_networks_size_and_come_back_at_their_own(h, w, size, data):
    preprocessing = parse_preprocessing(data.draw(st.sampled_from([*PREPROCESSINGS, "tile:0.5", "tile:1.5:0.5"])), size)
    rng = np.random.default_rng(h * 100 + w)
    image, label_map = rng.integers(0, 256, (3, h, w), dtype=np.uint8), np.ones((h, w), np.int32)
    images, windows = preprocessing.images(image), preprocessing.windows((h, w))
    assert images.shape == (len(windows), 3, *size)
    np.testing.assert_array_equal(preprocessing.image(image), images[0])
    assert set(np.unique(preprocessing.label_map(label_map))) <= {IGNORED, 1}
    whole = np.max(
        [preprocessing.masks_back(np.ones((1, *size), np.float32), (h, w), k) for k in range(len(windows))], 0
    )
    assert whole.shape == (1, h, w)
    assert whole.min() >= 0
    assert whole.max() <= 1
    if isinstance(preprocessing, Tile | Squeeze):
        assert whole.min() == 1  # nothing is lost
    assert preprocessing.masks_back(np.zeros((0, *size), np.float32), (h, w)).shape == (0, h, w)


@pytest.mark.parametrize("name", [*PREPROCESSINGS, "tile:0.25", "tile:1.0:0.5"])
def test_a_name_is_made_into_what_bears_it(name):
    preprocessing = parse_preprocessing(name, (32, 64))
    assert preprocessing.name == name
    assert parse_preprocessing(preprocessing.name, (32, 64)) == preprocessing
    assert parse_preprocessing(preprocessing, (32, 64)) is preprocessing


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("stretch", "must be one of .*'squeeze'.*got 'stretch'"),
        ("squeeze:2", "got 'squeeze:2'"),
        ("tile:1:0.2:3", "got 'tile:1:0.2:3'"),
        ("tile:half", "two numbers, got 'tile:half'"),
        ("tile:-1", "scale of the preprocessing 'tile' must be a positive number, got -1.0"),
        ("tile:1:0.8", r"overlap of the preprocessing 'tile' must be in \[0, 0.75\], got 0.8"),
        (3, "got 3"),
        (Squeeze((32, 64)), r"networks' size \(32, 32\), got Squeeze"),
    ],
)
def test_what_is_no_preprocessing_is_refused_in_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        parse_preprocessing(given, (32, 32))


def test_a_picture_too_thin_to_be_enlarged_is_refused_with_its_size():
    shorter = ShorterSide((32, 32))
    ask = (
        lambda: shorter.image(np.zeros((3, 1, 100_000), np.uint8)),
        lambda: shorter.label_map(np.zeros((1, 100_000), np.int32)),
        lambda: shorter.masks_back(np.zeros((1, 32, 32), np.float32), (1, 100_000)),
    )
    for call in ask:
        with pytest.raises(ValueError, match=r"1x100000 \(height x width\) to 32x3200000; .*use 'squeeze' or 'tile'"):
            call()
