"""The augmenting path against SciPy's optimum at every prefix of score sequences, and against scenes done by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from acis_env.matching import extend, from_scratch, match


def nearly_diagonal(rng, shape):
    """Every prediction finds one instance, overlaps the others a little, and some instances are found twice."""
    scores = rng.random(shape) ** 4 * 0.2
    found = rng.integers(0, shape[2], shape[:2])
    np.put_along_axis(scores, found[..., None], rng.uniform(0.4, 1, (*shape[:2], 1)), axis=2)
    return scores


KINDS = {
    "uniform": lambda rng, shape: rng.random(shape),
    "four levels": lambda rng, shape: rng.integers(0, 4, shape) / 4,
    "mostly zero": lambda rng, shape: rng.random(shape) * (rng.random(shape) < 0.2),
    "zero": lambda rng, shape: np.zeros(shape),
    "duplicated rows": lambda rng, shape: rng.random(shape)[:, rng.integers(0, (shape[1] + 1) // 2, shape[1])],
    "nearly diagonal": nearly_diagonal,
    "tiny": lambda rng, shape: rng.random(shape) * 1e-8,
}


def ragged_scenes(num_predictions, capacity, scenes_per_kind, rng):
    """Scores `[B, T, N]` of all kinds, and each scene's own number of instances and time of the first prediction."""
    shape = scenes_per_kind, num_predictions, capacity
    scores = torch.from_numpy(np.concatenate([kind(rng, shape) for kind in KINDS.values()]).astype(np.float32))
    num_instances = torch.from_numpy(rng.choice([0, 1, capacity // 2, capacity, capacity], len(scores)))
    start = torch.from_numpy(rng.integers(0, (num_predictions + 1) // 2, len(scores)))
    return scores, num_instances, start


def prefixes(scores, num_instances, start, noise=None):
    """`steps`, assignment and potential by augmenting paths, as one batch at every time."""
    assignment = torch.full(scores.shape[:2], -1)
    for time in range(1, scores.shape[1] + 1):
        steps = (time - start).clamp_min(0)
        assignment, potential = extend(scores, steps, num_instances, assignment, noise)
        yield steps, assignment, potential


def best_totals(weights, steps, num_instances):
    """SciPy's optimum of each scene in float64."""
    totals = []
    for scene, taken, count in zip(weights.double().numpy(), steps.tolist(), num_instances.tolist(), strict=True):
        valid = scene[:taken, :count]
        totals.append(valid[linear_sum_assignment(valid, maximize=True)].sum())
    return np.array(totals)


def assigned_totals(weights, assignment):
    """Total weight of the assigned pairs of each scene in float64."""
    is_assigned = assignment[:, :, None] == torch.arange(weights.shape[2])
    return (weights.double() * is_assigned).sum((1, 2)).numpy()


def check_one_to_one(assignment, steps, num_instances, capacity):
    """All predictions are assigned, or all instances, each at most once; padding never."""
    taken = torch.nn.functional.one_hot(assignment + 1, capacity + 1).sum(1)[:, 1:]
    assert taken.max() <= 1
    assert (assignment < num_instances[:, None]).all()
    assert (assignment[torch.arange(assignment.shape[1]) >= steps[:, None]] == -1).all()
    assert torch.equal(taken.sum(1), torch.minimum(steps, num_instances))


def test_paths_reach_scipys_optimum_at_every_prefix_whatever_the_scores():
    rng = np.random.default_rng(0)
    num_prefixes = 0
    for capacity in (1, 2, 5, 7, 8, 20, 21):
        for num_predictions in (3, 12, 21, 40):
            scores, num_instances, start = ragged_scenes(num_predictions, capacity, 11, rng)
            before = torch.zeros(len(scores))
            for steps, assignment, potential in prefixes(scores, num_instances, start):
                check_one_to_one(assignment, steps, num_instances, capacity)
                best = best_totals(scores, steps, num_instances)
                np.testing.assert_allclose(assigned_totals(scores, assignment), best, rtol=0, atol=1e-8)
                np.testing.assert_allclose(potential, best, rtol=0, atol=1e-6)
                assert (potential >= before - 1e-6).all()
                before = potential
                num_prefixes += int((steps > 0).sum())
    assert num_prefixes >= 30_000


def test_noise_decides_the_assignment_and_the_potential_does_not_hold_it():
    rng = np.random.default_rng(1)
    for num_predictions, capacity in ((3, 8), (12, 5), (15, 1)):
        scores, num_instances, start = ragged_scenes(num_predictions, capacity, 11, rng)
        noise = torch.from_numpy(rng.normal(0, 0.7, scores.shape).astype(np.float32))
        for steps, assignment, potential in prefixes(scores, num_instances, start, noise):
            check_one_to_one(assignment, steps, num_instances, capacity)
            best = best_totals(scores + noise, steps, num_instances)
            np.testing.assert_allclose(assigned_totals(scores + noise, assignment), best, rtol=0, atol=1e-8)
            np.testing.assert_allclose(potential, assigned_totals(scores, assignment), rtol=0, atol=1e-6)
            expected, expected_potential = from_scratch(scores, steps, num_instances, noise)
            same = (assignment == expected).all(1)
            assert same.float().mean() > 0.99  # with noise hardly any two assignments tie
            torch.testing.assert_close(potential[same], expected_potential[same])


def test_from_scratch_is_scipys_optimum_of_each_scene():
    rng = np.random.default_rng(2)
    scores, num_instances, start = ragged_scenes(9, 6, 5, rng)
    noise = torch.from_numpy(rng.normal(0, 0.5, scores.shape).astype(np.float32))
    steps = 9 - start
    assignment, potential = from_scratch(scores, steps, num_instances)
    check_one_to_one(assignment, steps, num_instances, 6)
    np.testing.assert_allclose(potential, best_totals(scores, steps, num_instances), rtol=0, atol=1e-6)
    assignment, potential = from_scratch(scores, steps, num_instances, noise)
    best = best_totals(scores + noise, steps, num_instances)
    np.testing.assert_allclose(assigned_totals(scores + noise, assignment), best, rtol=0, atol=1e-8)
    np.testing.assert_allclose(potential, assigned_totals(scores, assignment), rtol=0, atol=1e-6)


# The third prediction fits instance 0 alone; the first then moves to instance 1, and the second to instance 2.
CHAIN = torch.tensor([[[0.9, 0.8, 0.0], [0.0, 0.9, 0.8], [0.9, 0.0, 0.0]]])


def test_a_later_mask_assigns_an_earlier_one_again_along_a_path_of_three():
    three = torch.tensor([3])
    found = [(a[0].tolist(), float(phi)) for _, a, phi in prefixes(CHAIN, three, torch.tensor([0]))]
    assert [assignment for assignment, _ in found] == [[0, -1, -1], [0, 1, -1], [1, 2, 0]]
    assert [potential for _, potential in found] == pytest.approx([0.9, 1.8, 2.5])


def test_a_surplus_mask_drops_one_at_the_end_of_a_path_and_it_does_not_come_back():
    # Of two instances: the third prediction takes instance 0, the first moves to 1, the second is dropped; the fourth
    # is worse than both.
    scores = torch.tensor([[[0.6, 0.5], [0.0, 0.1], [0.9, 0.0], [0.5, 0.4]]])
    found = [a[0].tolist() for _, a, _ in prefixes(scores, torch.tensor([2]), torch.tensor([0]))]
    assert found == [[0, -1, -1, -1], [0, 1, -1, -1], [1, -1, 0, -1], [1, -1, 0, -1]]


def test_a_scene_without_predictions_or_without_instances_keeps_its_assignment():
    scores = torch.ones(2, 3, 2)
    assignment, potential = extend(scores, torch.tensor([0, 2]), torch.tensor([2, 0]), torch.full((2, 3), -1))
    assert (assignment == -1).all()
    assert potential.tolist() == [0, 0]


def test_the_arguments_of_a_path_are_left_as_they_were():
    arguments = CHAIN.clone(), torch.tensor([3]), torch.tensor([3]), torch.tensor([[0, 1, -1]]), torch.ones(1, 3, 3)
    copies = [x.clone() for x in arguments]
    extend(*arguments)
    assert all(torch.equal(x, copy) for x, copy in zip(arguments, copies, strict=True))


def test_on_the_cpu_the_environment_matches_from_scratch():
    # An assignment that is not the best one shows which: a path would begin from it.
    steps, count = torch.tensor([3]), torch.tensor([3])
    assignment, potential = match(CHAIN, steps, count, torch.full((1, 3), -1))
    assert assignment.tolist() == [[1, 2, 0]]
    assert float(potential) == pytest.approx(2.5)


@pytest.mark.parametrize("function", [extend, match])
@pytest.mark.parametrize(("num_predictions", "capacity"), [(4, 7), (7, 4), (1, 1)])
def test_a_path_is_found_without_a_look_at_any_value(function, num_predictions, capacity):
    # The meta device holds no values: a wait for the device, or a choice that depends on one, raises.
    scores = torch.zeros(5, num_predictions, capacity, device="meta")
    steps = torch.ones(5, dtype=torch.int64, device="meta")
    before = torch.zeros(5, num_predictions, dtype=torch.int64, device="meta")
    assignment, potential = function(scores, steps, steps, before, scores)
    assert assignment.device.type == potential.device.type == "meta"
    assert (assignment.shape, assignment.dtype) == ((5, num_predictions), torch.int64)
    assert (potential.shape, potential.dtype) == ((5,), torch.float32)
