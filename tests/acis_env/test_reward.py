"""The reward against brute force over all permutations and scores written straight from their definitions."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.matching import from_scratch as potential
from acis_env.reward import instance_areas, overlap, score

TIED = st.sampled_from([0.0, 0.25, 0.5, 1.0])
SCORES = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(TIED | st.floats(0, 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda values: np.array(values).reshape(shape)
    )
)


def best_over_permutations(scores):
    """Largest total of a square score matrix, zeros standing for staying unmatched."""
    side = max(scores.shape)
    square = np.zeros((side, side))
    square[: scores.shape[0], : scores.shape[1]] = scores
    return max(sum(square[row, column] for row, column in enumerate(order)) for order in permutations(range(side)))


def score_by_definition(mask, target, name):
    common = (mask * target).sum()
    total = mask.sum() + target.sum()
    if total == 0:
        return 0.0
    return 2 * common / total if name == "dice" else common / (total - common)


def random_scenes(batch=3, size=(9, 7), num_instances=4, seed=0):
    """Soft masks `[B, H, W]` and label maps whose scenes hold `num_instances` or fewer."""
    rng = np.random.default_rng(seed)
    label_maps = np.stack([rng.integers(0, num_instances + 1 - scene, size) for scene in range(batch)])
    masks = rng.random((batch, *size), dtype=np.float32)
    return torch.from_numpy(masks), torch.from_numpy(label_maps)


def assign(scores):
    """Assignment `[T]` and potential of a whole score matrix `[T, N]`."""
    phi, assignment = potential_of(scores, *scores.shape)
    return np.array(assignment), phi


def potential_of(scores, steps, count):
    """Potential and assignment of one scene alone."""
    assignment, phi = potential(torch.as_tensor(scores)[None], torch.tensor([steps]), torch.tensor([count]))
    return float(phi), assignment[0].tolist()


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 4), (2, 5), (4, 4), (5, 2), (6, 3), (3, 6)])
def test_the_potential_is_the_best_over_all_permutations(shape):
    rng = np.random.default_rng(sum(shape))
    for _ in range(10):
        scores = rng.random(shape)
        _, phi = assign(scores)
        assert phi == pytest.approx(best_over_permutations(scores), abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(SCORES)
def test_the_potential_is_the_best_over_all_permutations_with_ties_and_zeros(scores):
    _, phi = assign(scores)
    assert phi == pytest.approx(best_over_permutations(scores), abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(SCORES)
def test_the_assignment_is_one_to_one_and_attains_the_potential(scores):
    assignment, phi = assign(scores)
    assert assignment.shape == (len(scores),)
    pairs = [(row, column) for row, column in enumerate(assignment) if column >= 0]
    columns = [column for _, column in pairs]
    assert len(set(columns)) == len(columns)
    assert all(column < scores.shape[1] for column in columns)
    assert sum(scores[pair] for pair in pairs) == pytest.approx(phi, abs=1e-6)


def test_a_greedy_choice_does_not_do():
    # Greedy takes 0.9 first and is left with 0.0; the best total is 0.8 + 0.7.
    phi, assignment = potential_of([[0.9, 0.8], [0.7, 0.0]], steps=2, count=2)
    assert phi == pytest.approx(1.5)
    assert assignment == [1, 0]


def test_a_later_prediction_can_take_an_instance_from_an_earlier_one():
    scores = [[0.6, 0.5], [0.9, 0.1]]
    assert potential_of(scores, steps=1, count=2) == (pytest.approx(0.6), [0, -1])
    assert potential_of(scores, steps=2, count=2) == (pytest.approx(1.4), [1, 0])


def test_a_surplus_prediction_takes_the_place_of_a_worse_one():
    scores = [[0.3], [0.8], [0.5]]
    assert potential_of(scores, steps=1, count=1) == (pytest.approx(0.3), [0, -1, -1])
    assert potential_of(scores, steps=2, count=1) == (pytest.approx(0.8), [-1, 0, -1])
    assert potential_of(scores, steps=3, count=1) == (pytest.approx(0.8), [-1, 0, -1])


def test_scores_without_any_agreement_have_no_potential():
    phi, assignment = potential_of(np.zeros((3, 2)), steps=3, count=2)
    assert phi == 0
    matched = [column for column in assignment if column >= 0]
    assert len(set(matched)) == len(matched)


def test_a_scene_without_instances_has_no_potential():
    assert potential_of(np.ones((2, 3)), steps=2, count=0) == (0, [-1, -1])


def test_each_scene_of_a_batch_has_its_own_steps_and_instances():
    rng = np.random.default_rng(1)
    scores = rng.random((4, 5, 4), dtype=np.float32)
    steps, counts = [0, 2, 5, 3], [4, 1, 4, 2]
    assignment, phi = potential(torch.from_numpy(scores), torch.tensor(steps), torch.tensor(counts))
    assert assignment.shape == (4, 5)
    assert assignment.dtype == torch.int64
    for scene, (taken, count) in enumerate(zip(steps, counts, strict=True)):
        valid = scores[scene, :taken, :count]
        assert float(phi[scene]) == pytest.approx(best_over_permutations(valid) if taken else 0, abs=1e-6)
        assert (assignment[scene, taken:] == -1).all()
        assert (assignment[scene] < count).all()


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_scores_equal_those_of_dense_masks(name):
    masks, label_maps = random_scenes()
    scores = score(masks, label_maps, instance_areas(label_maps, 4), name)
    for scene in range(3):
        for instance in range(4):
            target = (label_maps[scene] == instance + 1).double().numpy()
            expected = score_by_definition(masks[scene].double().numpy(), target, name)
            if target.any():
                assert float(scores[scene, instance]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("dice", [3 / 5.5, 0.5 / 3.5]), ("iou", [1.5 / 4, 0.25 / 3.25])])
def test_scores_of_a_scene_worked_out_by_hand(name, expected):
    # The mask sums to 2.5: 1.5 on instance 1 (3 pixels), 0.25 on instance 2 (1 pixel) and 0.75 on background.
    label_map = torch.tensor([[[1, 1, 0], [1, 2, 0]]])
    mask = torch.tensor([[[1.0, 0.5, 0.75], [0.0, 0.25, 0.0]]])
    scores = score(mask, label_map, instance_areas(label_map, 2), name)
    torch.testing.assert_close(scores, torch.tensor([expected]))


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_padding_scores_zero(name):
    masks, label_maps = random_scenes(num_instances=3)
    masks[0] = 1
    masks[1] = 0
    scores = score(masks, label_maps, instance_areas(label_maps, 6), name)
    for scene, count in enumerate(label_maps.flatten(1).amax(1).tolist()):
        assert (scores[scene, count:] == 0).all()
        assert torch.isfinite(scores[scene]).all()
    assert scores[0, :3].min() > 0


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_a_mask_scores_one_with_the_instance_it_equals_and_zero_with_all_others(name):
    _, label_maps = random_scenes()
    areas = instance_areas(label_maps, 4)
    scores = score((label_maps == 2).float(), label_maps, areas, name)
    expected = torch.zeros(3, 4)
    expected[:, 1] = 1
    torch.testing.assert_close(scores, expected)


def test_areas_and_overlaps_equal_counts_of_pixels():
    masks, label_maps = random_scenes()
    areas, sums = instance_areas(label_maps, 5), overlap(masks, label_maps, 5)
    for scene in range(3):
        for instance in range(5):
            inside = label_maps[scene] == instance + 1
            assert int(areas[scene, instance]) == int(inside.sum())
            assert float(sums[scene, instance]) == pytest.approx(float(masks[scene][inside].sum()), abs=1e-5)


@pytest.mark.parametrize(("label", "found"), [(5, "0 to 5"), (-2, "-2 to 1")])
def test_a_label_outside_of_the_range_is_named(label, found):
    label_maps = torch.tensor([[[0, 0], [1, 1]], [[0, label], [1, 1]]])
    with pytest.raises(ValueError, match=rf"label_maps must hold -1\.\.4, got {found}"):
        overlap(torch.ones(2, 2, 2), label_maps, 4)


def test_the_gradient_of_a_score_reaches_the_masks():
    masks, label_maps = random_scenes()
    areas = instance_areas(label_maps, 4)
    masks.requires_grad_()
    scores = score(masks, label_maps, areas)
    torch.testing.assert_close(scores, score(masks.detach(), label_maps, areas))
    scores.sum().backward()
    assert masks.grad is not None
    assert (masks.grad != 0).any()


def test_the_overlap_with_a_large_instance_keeps_its_digits():
    # A running float32 sum of 0.1 over 4 million pixels is off by far more than 1.
    label_maps = torch.ones(1, 2000, 2000, dtype=torch.int64)
    sums = overlap(torch.full((1, 2000, 2000), 0.1), label_maps, 1)
    assert float(sums) == pytest.approx(400_000, abs=1)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_finding_an_instance_twice_earns_nothing_the_second_time(name):
    label_map = torch.tensor([[[1, 1, 0, 2], [1, 1, 0, 2]]])
    areas = instance_areas(label_map, 2)
    first = score((label_map == 1).float(), label_map, areas, name)[0]
    assert potential_of(torch.stack([first, first]), steps=1, count=2)[0] == pytest.approx(1)
    assert potential_of(torch.stack([first, first]), steps=2, count=2)[0] == pytest.approx(1)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_the_order_of_the_predictions_does_not_change_the_final_potential(name):
    masks, label_maps = random_scenes(batch=5)
    label_map = label_maps[:1].expand(5, -1, -1)
    scores = score(masks, label_map, instance_areas(label_map, 4), name)
    forwards, _ = potential_of(scores, steps=5, count=4)
    backwards, _ = potential_of(scores.flip(0), steps=5, count=4)
    assert forwards == pytest.approx(backwards, abs=1e-6)
    assert forwards > 0


@settings(max_examples=50, deadline=None)
@given(SCORES)
def test_the_potential_never_falls_as_predictions_are_added(scores):
    steps, instances = scores.shape
    so_far = [potential_of(scores, taken, instances)[0] for taken in range(steps + 1)]
    assert so_far[0] == 0
    assert (np.diff(so_far) >= -1e-6).all()
    assert so_far[-1] <= min(steps, instances) + 1e-6
