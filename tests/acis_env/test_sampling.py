"""Batches of scenes: which are drawn, and that each is augmented by itself."""

import numpy as np
import pytest
import torch

from acis_env.augment import DIHEDRAL, Augmentation
from acis_env.datasets import PackedScenes
from acis_env.sampling import draw_batch, iteration_generator, load_batch

COLOURFUL = Augmentation(rotation=30, brightness=0.3, contrast=0.2)


@pytest.fixture
def packed(scenes):
    return PackedScenes(scenes, (32, 32))


def test_a_batch_without_augmentation_holds_the_scenes_in_the_order_asked_for(packed, scenes):
    batch = load_batch(packed, [3, 0, 3])
    assert batch.indices.tolist() == [3, 0, 3]
    assert (batch.images.dtype, batch.label_maps.dtype) == (torch.uint8, torch.int64)
    for row, index in enumerate([3, 0, 3]):
        np.testing.assert_array_equal(batch.images[row], scenes[index].image)
        np.testing.assert_array_equal(batch.label_maps[row], scenes[index].label_map)


def test_a_scene_is_augmented_the_same_alone_and_in_a_batch(packed):
    together = load_batch(packed, [1, 4, 0], COLOURFUL, [np.random.default_rng(seed) for seed in (5, 6, 7)])
    for row, (index, seed) in enumerate(zip([1, 4, 0], (5, 6, 7), strict=True)):
        alone = load_batch(packed, [index], COLOURFUL, [np.random.default_rng(seed)])
        assert torch.equal(alone.images[0], together.images[row])
        assert torch.equal(alone.label_maps[0], together.label_maps[row])


def test_the_same_scene_is_augmented_differently_within_a_batch(packed):
    generator = np.random.default_rng(0)
    batch = load_batch(packed, [1] * 8, COLOURFUL, [generator] * 8)
    assert len({image.numpy().tobytes() for image in batch.images}) == 8


def test_an_iteration_draws_the_same_whatever_was_drawn_before():
    expected = iteration_generator(3, 7).random(4)
    iteration_generator(3, 6).random(100)
    np.testing.assert_array_equal(iteration_generator(3, 7).random(4), expected)


@pytest.mark.parametrize("other", [(4, 7, 0), (3, 8, 0), (3, 7, 1)])
def test_another_seed_iteration_or_stream_draws_other_numbers(other):
    assert not np.array_equal(iteration_generator(3, 7, 0).random(4), iteration_generator(*other).random(4))


def test_a_batch_repeats_no_scene_while_there_are_enough(packed):
    for seed in range(10):
        batch = draw_batch(packed, 5, None, np.random.default_rng(seed))
        assert sorted(batch.indices.tolist()) == [0, 1, 2, 3, 4]


def test_a_batch_larger_than_the_data_set_repeats_scenes(packed):
    batch = draw_batch(packed, 12, DIHEDRAL, np.random.default_rng(0))
    assert batch.images.shape == (12, 3, 32, 32)
    assert set(batch.indices.tolist()) <= {0, 1, 2, 3, 4}


def test_the_generator_alone_decides_on_a_batch(packed):
    first, second, third = (draw_batch(packed, 4, DIHEDRAL, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.indices, second.indices)
    assert not torch.equal(first.images, third.images)
