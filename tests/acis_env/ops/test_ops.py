"""What a CPU does faster, against the obvious version in torch."""

import copy
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from acis_env import dynamics
from acis_env.ops import agreement, owners, planes, sums
from acis_env.ops.sums import KnownRuns, find_runs, sum_by_label, sum_by_pixel, sum_by_run


def random_maps(batch=3, size=(9, 7), num_instances=4, seed=0):
    """Soft masks and label maps `[B, H, W]`."""
    rng = np.random.default_rng(seed)
    label_maps = rng.integers(0, num_instances + 1, (batch, *size))
    return torch.from_numpy(rng.random((batch, *size), dtype=np.float32)), torch.from_numpy(label_maps)


# Sums


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int64])
def test_sums_by_run_are_sums_by_pixel(dtype):
    masks, label_maps = random_maps(batch=5)
    label_maps[1:3] = 5  # one run each, side by side
    by_run = sum_by_run(masks, find_runs(label_maps.to(dtype), 5), 5)
    torch.testing.assert_close(by_run, sum_by_pixel(masks, label_maps, 5))


def test_label_maps_are_looked_at_once_until_they_are_forgotten_or_others(monkeypatch):
    looked = []
    monkeypatch.setattr(sums, "find_runs", lambda *args: looked.append(args) or find_runs(*args))
    (masks, label_maps), known = random_maps(), KnownRuns()
    expected = sum_by_pixel(masks, label_maps, 4)
    for _ in range(3):
        torch.testing.assert_close(sum_by_label(masks, label_maps, 4, known), expected)
    assert len(looked) == 1
    _, others = random_maps(seed=1)
    torch.testing.assert_close(sum_by_label(masks, others, 4, known), sum_by_pixel(masks, others, 4))
    assert len(looked) == 2
    others.copy_(label_maps)
    known.clear()
    torch.testing.assert_close(sum_by_label(masks, others, 4, known), expected)
    assert len(looked) == 3


def test_label_maps_are_looked_at_again_for_another_number_of_instances():
    (masks, label_maps), known = random_maps(), KnownRuns()
    assert sum_by_label(masks, label_maps, 4, known).shape == (3, 5)
    assert sum_by_label(masks, label_maps, 6, known).shape == (3, 7)
    with pytest.raises(ValueError, match=r"label_maps must hold -1\.\.2, got 0 to 4"):
        sum_by_label(masks, label_maps, 2, known)


def test_copies_know_nothing():
    (masks, label_maps), known = random_maps(), KnownRuns()
    sum_by_label(masks, label_maps, 4, known)
    for again in (copy.deepcopy(known), pickle.loads(pickle.dumps(known))):
        assert again._known is None


def test_masks_with_a_gradient_are_summed_by_pixel():
    masks, label_maps = random_maps()
    masks.requires_grad_()
    found = sum_by_label(masks, label_maps, 4, KnownRuns())
    found[:, 1].sum().backward()
    assert torch.equal(masks.grad, (label_maps == 1).float())
    with torch.no_grad():
        assert not sum_by_label(masks, label_maps, 4).requires_grad


# Runs that travel with a state


@pytest.fixture
def state(make_vec):
    envs = make_vec(5)
    envs.reset(seed=0, options={"scene_index": [0, 1, 2, 3, 4]})
    return envs.state


@pytest.fixture
def step(pretrained):
    decoder = pretrained.autoencoder.frozen_decoder(refine=False)
    return lambda state, seed=0: dynamics.step(
        state, torch.randn(len(state), 4, generator=torch.Generator().manual_seed(seed)), decoder
    )


def test_an_episode_looks_at_its_label_maps_once(state, step, monkeypatch):
    monkeypatch.setattr(sums, "find_runs", None)  # known since the areas were counted
    for seed in range(3):
        before = state
        state, reward = step(state, seed)
        state = dynamics.hold(before, state, reward > 1)
    assert state.runs is before.runs


@pytest.mark.parametrize(
    "change",
    [
        lambda state, other: state.select(torch.tensor([4, 3, 2, 1, 0])),
        lambda state, other: state.select(slice(2, 4)),
        lambda state, other: state.map(lambda x: x.flip(0)),
        lambda state, other: replace(state, label_map=other.label_map, areas=other.areas),
        lambda state, other: state.write(torch.arange(5), other) or state,
        lambda state, other: copy.deepcopy(state),
    ],
    ids=["select", "slice", "map", "replace", "write", "copy"],
)
def test_runs_are_always_those_of_the_label_map(state, step, change):
    step(state)  # knows its runs
    other = state.select(torch.tensor([3, 4, 1, 0, 2]))
    step(other)
    changed = change(state, other)
    fresh = replace(changed, label_map=changed.label_map.clone(), runs=KnownRuns())
    after, reward = step(changed)
    expected, expected_reward = step(fresh)
    assert torch.equal(reward, expected_reward)
    assert torch.equal(after.scores, expected.scores)


def test_environments_in_two_threads_do_not_disturb_each_other(make_vec, random_actions, assert_same):
    actions = random_actions(40, 3)

    def play(seed):
        envs = make_vec(3)
        return [envs.reset(seed=seed)] + [envs.step(action) for action in actions]

    alone = [play(seed) for seed in (1, 2)]
    together, barrier = {}, threading.Barrier(2)

    def run(seed):
        barrier.wait()
        together[seed] = play(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same([together[1], together[2]], alone)


def test_one_object_asked_by_two_threads_answers_both():
    # Worse than what happens to environments: both want other label maps from the same object, all the time.
    known, failures = KnownRuns(), []

    def ask(seed):
        masks, label_maps = random_maps(seed=seed)
        expected = sum_by_pixel(masks, label_maps, 4)
        for _ in range(300):
            found = sum_by_label(masks, label_maps, 4, known)
            if not torch.allclose(found, expected):
                failures.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# Scores, owners, planes


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_scores_by_numpy_are_those_by_torch(name):
    masks, label_maps = random_maps(num_instances=3)
    found = sum_by_pixel(masks, label_maps, 5)
    areas = sum_by_pixel(torch.ones_like(masks), label_maps, 5)[:, 1:]
    by_numpy, by_torch = agreement.agreement(found, areas, name), agreement.formula(found, areas, name)
    torch.testing.assert_close(by_numpy, by_torch)
    assert (by_numpy[:, 3:] == 0).all()
    assert by_numpy[:, :3].min() > 0
    assert agreement.agreement(found.requires_grad_(), areas, name).requires_grad


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16])
def test_owners_by_numpy_are_those_by_torch_and_those_of_a_loop_over_pixels(dtype):
    (mask, owner), (before, _) = random_maps(), random_maps(seed=1)
    owner, newest = owner.to(dtype), torch.tensor([5, 6, 7])
    mask[0, 0] = before[0, 0]  # ties stay whose they were
    by_numpy = owners.claim_by_numpy(owner, mask, before, newest)
    assert torch.equal(by_numpy, owners.claim_by_torch(owner, mask, before, newest))
    assert torch.equal(by_numpy, owners.claim(owner, mask, before, newest))
    assert by_numpy.dtype == dtype
    for b, y, x in np.ndindex(*mask.shape):
        assert by_numpy[b, y, x] == (newest[b] if mask[b, y, x] > before[b, y, x] else owner[b, y, x])


def test_values_are_rounded_to_the_nearest_of_256_levels():
    values = torch.tensor([0, 0.4 / 255, 0.6 / 255, 100.3 / 255, 254.4 / 255, 254.6 / 255, 1])
    for rounded in (planes.to_uint8, planes.round_by_opencv, planes.round_by_torch):
        assert rounded(values).tolist() == [0, 0, 1, 100, 254, 255, 255]


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (1, 7), (0, 3, 2)])
def test_planes_are_rounded_alike_by_both(shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(planes.to_uint8(values), planes.round_by_torch(values))


@pytest.mark.parametrize("is_known", [True, False])
def test_a_lazy_copy_is_a_copy_whatever_torch_knows(monkeypatch, is_known):
    if not is_known:
        monkeypatch.delattr(torch, "_lazy_clone", raising=False)
    original = torch.arange(6.0)
    copied = planes.lazy_copy(original)
    original[0] = 10
    copied[1] = 20
    assert original.tolist() == [10, 1, 2, 3, 4, 5]
    assert copied.tolist() == [0, 20, 2, 3, 4, 5]


def test_episodes_are_the_same_without_the_private_functions_of_torch(
    make_vec, random_actions, assert_same, monkeypatch
):
    def play():
        envs = make_vec(3)
        return [envs.reset(seed=0)] + [envs.step(action) for action in random_actions(6, 3)]

    with_them = play()
    monkeypatch.delattr(torch, "_lazy_clone", raising=False)
    assert_same(play(), with_them)
