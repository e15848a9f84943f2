"""Stopping where the label map is best: exact expectations, and what they teach the termination unit."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from acis_env.metrics import segmentation_metrics
from agents.algorithms import MetricStoppingConfig
from agents.algorithms.metric_stopping import expected_value
from agents.models.agent import Agent
from agents.models.composition import compose_label_map

STOPPING = MetricStoppingConfig(decay=(), replay_size=2)


def expected_by_enumeration(logits, values):
    """Mean value over all sequences of decisions; the last state is an end whatever is decided there."""
    total = torch.zeros((), dtype=logits.dtype)
    for goes_on in product([True, False], repeat=len(logits) - 1):
        probability = torch.ones((), dtype=logits.dtype)
        for logit, decision in zip(logits, goes_on, strict=False):
            probability = probability * (torch.sigmoid(logit) if decision else 1 - torch.sigmoid(logit))
        stop = goes_on.index(False) if False in goes_on else len(logits) - 1
        total = total + probability * values[stop]
    return total


def test_the_expected_value_and_its_gradient_are_those_of_all_sequences_of_decisions():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    values = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    expected = torch.stack([expected_by_enumeration(logits[:, b], values[:, b]) for b in range(3)])
    found = expected_value(logits, values)
    torch.testing.assert_close(found, expected)
    weights = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    by_enumeration = torch.autograd.grad((expected * weights).sum(), logits)[0]
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), logits)[0], by_enumeration)
    assert by_enumeration[:-1].abs().min() > 1e-4  # or the comparison would prove nothing
    assert torch.autograd.gradcheck(lambda x: expected_value(x, values), logits)


def test_certain_decisions_give_the_value_of_one_prefix_even_far_outside_of_what_float32_can_exponentiate():
    values = torch.tensor([[0.1], [0.7], [0.4]])
    for stop, logits in enumerate(([-500.0, 0, 0], [500.0, -500, 0], [500.0, 500, -500])):
        logits = torch.tensor(logits)[:, None].requires_grad_()
        found = expected_value(logits, values)
        found.sum().backward()
        torch.testing.assert_close(found, values[stop])
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "ap"}, "metric must be one of sbd, .* got 'ap'"),
        ({"count_price": -0.1}, "count_price must be at least 0, got -0.1"),
        ({"updates": 0}, "updates must be at least 1, got 0"),
        ({"replay_size": 0}, "replay_size must be at least 1, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MetricStoppingConfig(**fields)


@pytest.mark.parametrize(("metric", "price"), [("sbd", 0.0), ("fbd", 0.0), ("sbd", 0.1)])
def test_a_prefix_is_worth_what_the_measure_says_of_the_label_map_of_its_masks(
    make_algorithm, begin, tiny, metric, price
):
    algorithm = make_algorithm(replace(STOPPING, metric=metric, count_price=price))
    learner, indices = algorithm.learner, [0, 3, 5, 7]
    capacity = learner.core.source.own_scenes.max_instances
    features, values = algorithm.play(begin(tiny, indices))
    state = begin(tiny, indices)
    masks = Agent(learner.actor, tiny).predict_masks(state, capacity, capacity).masks.numpy()
    assert values.shape == (capacity + 1, len(indices))
    assert features.shape[:2] == values.shape
    for scene, label_map in enumerate(state.label_map.numpy()):
        for t in range(capacity + 1):
            found = segmentation_metrics(compose_label_map(masks[scene, :t]), label_map)
            expected = found[metric] - price * found["abs_dic"]
            assert values[t, scene].item() == pytest.approx(expected, abs=1e-6)
    assert values.std(0).min() > 1e-3  # or there would be nothing to learn


def test_the_unit_learns_to_stop_at_the_best_prefix_and_the_policy_stays_as_it_is(make_algorithm, begin, tiny, at):
    algorithm = make_algorithm(replace(STOPPING, learning_rate=3e-2))
    learner = algorithm.learner
    policy = [parameter.clone() for parameter in learner.actor.policy_parameters()]
    before, after = (algorithm.train_iteration(at(seed)) for seed in (0, 1))
    for seed in range(2, 40):
        after = algorithm.train_iteration(at(seed))
    assert after["termination/expected"] > before["termination/expected"] + 0.02
    assert after["termination/expected"] <= after["termination/best"]
    assert all(map(torch.equal, policy, learner.actor.policy_parameters()))
    features, values = algorithm.play(begin(tiny))
    stops = (learner.actor.continue_logit(features)[:-1] < 0).int()
    stop = torch.where(stops.any(0), stops.argmax(0), len(stops))
    assert values.gather(0, stop[None]).mean() > values[-1].mean() + 0.02


def test_a_batch_leaves_the_replay_when_newer_ones_fill_it(make_algorithm, at):
    algorithm = make_algorithm(STOPPING)
    for seed in range(3):
        algorithm.train_iteration(at(seed))
        assert len(algorithm.state_dict()["replay"]) == min(seed + 1, 2)
    kept = algorithm.state_dict()["replay"]
    other = make_algorithm(STOPPING)
    other.load_state_dict([{"previous": {}, "replay": kept}])
    for restored, batch in zip(other.state_dict()["replay"], kept, strict=True):
        assert all(map(torch.equal, restored, batch))


def test_the_unit_forgets_how_long_the_gradients_of_the_cross_entropy_were(make_algorithm, baseline, at):
    learner = make_algorithm(baseline).learner
    baseline.make(learner).train_iteration(at())
    assert learner.termination_optimizer.state
    first = STOPPING.make(learner)
    assert not learner.termination_optimizer.state
    first.train_iteration(at())
    STOPPING.make(learner, first)  # goes on with the same measure
    assert learner.termination_optimizer.state
