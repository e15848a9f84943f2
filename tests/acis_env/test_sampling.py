"""Batches of scenes: which are drawn, and that each is augmented by itself."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from acis_env.augment import Augmentation
from acis_env.datasets import PackedScenes
from acis_env.sampling import SceneSampler, draw_batch, draw_indices, iteration_generator, load_batch

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
    batch = draw_batch(packed, 12, Augmentation(), np.random.default_rng(0))
    assert batch.images.shape == (12, 3, 32, 32)
    assert set(batch.indices.tolist()) <= {0, 1, 2, 3, 4}


def test_the_generator_alone_decides_on_a_batch(packed):
    first, second, third = (draw_batch(packed, 4, Augmentation(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.indices, second.indices)
    assert not torch.equal(first.images, third.images)


# The order of scenes


def shown(sampler, number):
    return [sampler.next() for _ in range(number)]


def test_the_random_sampler_draws_every_scene_and_repeats_some_at_once():
    sampler = SceneSampler("random", 5)
    sampler.seed(0)
    order = shown(sampler, 200)
    assert set(order) == set(range(5))
    assert all(20 <= order.count(scene) <= 60 for scene in range(5))
    assert any(first == second for first, second in pairwise(order))


def test_the_shuffling_sampler_shows_every_scene_once_in_every_epoch():
    sampler = SceneSampler("shuffle", 6)
    sampler.seed(0)
    epochs = [tuple(shown(sampler, 6)) for _ in range(20)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) > 10


@pytest.mark.parametrize(("seed", "first"), [(0, 0), (3, 3), (7, 2), (10**12 + 1, 1)])
def test_the_sequential_sampler_begins_at_its_seed_modulo_the_number_of_scenes(seed, first):
    sampler = SceneSampler("sequential", 5)
    sampler.seed(seed)
    assert shown(sampler, 7) == [(first + offset) % 5 for offset in range(7)]


@pytest.mark.parametrize("name", ["random", "shuffle", "sequential"])
def test_a_seed_begins_the_same_order_anew(name):
    used, fresh = SceneSampler(name, 7), SceneSampler(name, 7)
    used.seed(1)
    shown(used, 10)
    for sampler in (used, fresh):
        sampler.seed(4)
    expected = shown(fresh, 20)
    assert shown(used, 20) == expected
    used.seed(5)
    assert shown(used, 20) != expected


@pytest.mark.parametrize("name", ["random", "shuffle"])
def test_without_a_seed_the_order_is_not_repeated(name):
    assert shown(SceneSampler(name, 50), 20) != shown(SceneSampler(name, 50), 20)


@pytest.mark.parametrize("name", ["random", "shuffle", "sequential"])
@pytest.mark.parametrize("taken", [0, 3, 5, 12])
def test_a_sampler_goes_on_as_the_one_that_gave_the_state(name, taken):
    sampler, other = SceneSampler(name, 5), SceneSampler(name, 5)
    sampler.seed(2)
    shown(sampler, taken)
    state = sampler.get_state()
    expected = shown(sampler, 15), sampler.generator.random(3).tolist()
    for target in (other, sampler):
        target.set_state(state)
        assert (shown(target, 15), target.generator.random(3).tolist()) == expected


def test_a_state_is_shared_with_no_sampler():
    sampler = SceneSampler("shuffle", 5)
    sampler.seed(2)
    sampler.next()
    state = sampler.get_state()
    kept = copy.deepcopy(state)
    shown(sampler, 3)
    assert state == kept
    sampler.set_state(state)
    shown(sampler, 3)
    assert state == kept


@pytest.mark.parametrize("name", ["random", "shuffle", "sequential"])
def test_a_sampler_foretells_what_comes_next_and_is_not_changed_by_it(name):
    asked, other = SceneSampler(name, 5), SceneSampler(name, 5)
    for sampler in (asked, other):
        sampler.seed(3)
    for _ in range(40):
        foretold = [asked.peek() for _ in range(2)]
        assert foretold == [other.next()] * 2
        assert asked.next() == foretold[0]
        assert asked.generator.random() == other.generator.random()
        assert asked.get_state() == other.get_state()


def test_the_scenes_of_a_batch_are_foretold_by_its_generator(packed):
    for usable in (None, [4, 1, 0, 2]):
        foretold = draw_indices(5, 3, iteration_generator(0, 8), usable)
        assert draw_batch(packed, 3, COLOURFUL, iteration_generator(0, 8), usable).indices.tolist() == foretold
