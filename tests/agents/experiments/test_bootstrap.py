"""Statistics of few runs against slow, obvious oracles, and against the library of the article."""

import itertools
import math

import numpy as np
import pytest

from agents.experiments.bootstrap import (
    CAUTION,
    LEVELS,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)


def middle_half(scores):
    ordered = sorted(itertools.chain.from_iterable(scores))
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def share_won(first, second):
    """Mean over sets of the share of pairs that the first wins, ties by half."""
    shares = []
    for own, other in zip(first, second, strict=True):
        points = [1.0 if a > b else 0.5 if a == b else 0.0 for a in own for b in other]
        shares.append(sum(points) / len(points))
    return sum(shares) / len(shares)


def every_draw(scores):
    """All equally likely outcomes of drawing as many runs anew within each set."""
    return itertools.product(*(itertools.product(own, repeat=len(own)) for own in scores))


def middle(values):
    return np.quantile(values, [0.025, 0.975])


def test_the_interquartile_mean_leaves_out_the_best_and_the_worst_quarter_over_all_sets():
    assert interquartile_mean([[0, 1, 2, 3, 100, 1, 2, 3]]).mean == 2
    scores = np.random.default_rng(0).uniform(size=(3, 5))
    assert interquartile_mean(scores).mean == pytest.approx(middle_half(scores))


def test_fewer_than_four_runs_have_the_plain_mean():
    assert interquartile_mean([[0.0, 0.3, 0.9]]).mean == pytest.approx(0.4)


def test_the_interval_is_that_of_all_possible_draws_within_the_sets():
    scores = np.random.default_rng(1).uniform(size=(2, 3)) + np.array([[0.0], [5.0]])
    expected = middle([middle_half(draw) for draw in every_draw(scores)])
    found = interquartile_mean(scores)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)
    pooled = middle([middle_half([draw]) for draw in itertools.product(scores.ravel(), repeat=6)])
    assert found.high < pooled[1] - 0.5  # where draws mix the sets, their difference makes the interval wide


def test_the_probability_of_improvement_counts_pairs_of_runs_of_one_set():
    first, second = [[3.0, 1.0], [10.0, 10.0]], [[2.0, 1.0, 0.0], [10.0, 20.0, 30.0]]
    found = probability_of_improvement(first, second)
    assert found.mean == pytest.approx(((3 + 1.5) / 6 + 1 / 6) / 2) == pytest.approx(share_won(first, second))
    assert probability_of_improvement(second, first).mean == pytest.approx(1 - found.mean)


def test_the_interval_of_the_probability_draws_the_runs_of_both_agents():
    generator = np.random.default_rng(2)
    first, second = generator.normal(0.5, 1, size=(1, 4)), generator.normal(size=(1, 3))
    draws = list(itertools.product(every_draw(first), every_draw(second)))
    found = probability_of_improvement(first, second)
    assert (found.low, found.high) == pytest.approx(middle([share_won(*draw) for draw in draws]), abs=0.02)


def test_equal_agents_improve_upon_each_other_with_a_probability_of_a_half():
    scores = np.random.default_rng(3).uniform(size=(2, 4))
    found = probability_of_improvement(scores, scores)
    assert found.mean == 0.5
    assert found.low < 0.5 < found.high


def test_a_profile_is_the_share_of_scenes_above_each_level_and_every_set_counts_the_same():
    generator = np.random.default_rng(4)
    scores = [generator.uniform(size=(3, 7)), generator.uniform(size=(3, 20)) ** 2]
    found = performance_profile(scores)
    for level, interval in zip(LEVELS, found, strict=True):
        shares = [sum(score > level for score in own.ravel()) / own.size for own in scores]
        assert interval.mean == pytest.approx(sum(shares) / 2)
    means = [interval.mean for interval in found]
    assert means == sorted(means, reverse=True)
    assert found[-1].mean == 0  # nothing scores more than 1


def test_a_profile_draws_runs_as_a_whole():
    good, bad = np.full(100, 0.9), np.full(100, 0.1)
    half = performance_profile([[good, bad]])[25]
    assert (half.mean, half.low, half.high) == (0.5, 0, 1)  # scenes drawn one by one would stay close to a half


def test_a_single_run_has_no_interval():
    for found in (
        interquartile_mean([[0.5], [0.7]]),
        probability_of_improvement([[0.5]], [[0.4, 0.6]]),
        probability_of_improvement([[0.5, 0.6]], [[0.4]]),
        performance_profile([[[0.1, 0.9]]])[10],
    ):
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert found.is_positive == "undecided"
    assert str(interquartile_mean([[0.5], [0.7]])) == "0.600"


def test_the_same_scores_have_the_same_interval_every_time():
    scores = np.random.default_rng(5).uniform(size=(1, 5))
    assert interquartile_mean(scores) == interquartile_mean(scores)
    assert probability_of_improvement(scores, scores + 0.1) == probability_of_improvement(scores, scores + 0.1)
    assert performance_profile([scores.T]) == performance_profile([scores.T])


def test_an_interval_is_written_with_its_ends():
    found = interquartile_mean([[0.0, 1.0]])
    assert str(found) == "0.500 [0.000, 1.000]"


@pytest.mark.parametrize(("runs", "percent"), [(3, 75), (5, 90)])
def test_few_runs_cover_the_truth_as_seldom_as_reports_say(runs, percent):
    generator = np.random.default_rng(6)
    found = [interquartile_mean(generator.normal(size=(1, runs))) for _ in range(200)]
    share = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert share == pytest.approx(percent / 100, abs=0.06)
    assert f"{percent} %" in CAUTION


def test_scores_that_are_missing_or_not_finite_or_of_other_sets_are_refused():
    for scores in ([[]], [[0.5, math.nan]], [0.5, 0.6]):
        with pytest.raises(ValueError, match="scores must be finite numbers"):
            interquartile_mean(scores)
    with pytest.raises(ValueError, match="scores must be finite numbers"):
        performance_profile([[[0.5, math.nan]]])
    with pytest.raises(ValueError, match="must be scores on the same sets, got 2 and 1 sets"):
        probability_of_improvement([[1.0], [2.0]], [[1.0]])


def test_numbers_are_those_of_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    library = pytest.importorskip("rliable.library")
    generator = np.random.default_rng(7)
    first, second = generator.uniform(size=(3, 5)), generator.uniform(size=(3, 7)) + 0.1
    found, better = interquartile_mean(first), probability_of_improvement(first, second)
    assert found.mean == pytest.approx(metrics.aggregate_iqm(first.T))
    assert better.mean == pytest.approx(metrics.probability_of_improvement(first.T, second.T))
    scenes = generator.uniform(size=(4, 30))
    profile = [interval.mean for interval in performance_profile([scenes])]
    assert profile == pytest.approx(library.score_distributions(scenes, LEVELS))

    def estimate(function, scores, repeats):
        return library.get_interval_estimates({"": scores}, lambda *s: np.array([function(*s)]), reps=repeats)[1][""]

    expected = estimate(metrics.aggregate_iqm, first.T, 2000)[:, 0]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)
    expected = estimate(metrics.probability_of_improvement, [first.T, second.T], 500)[:, 0]
    assert (better.low, better.high) == pytest.approx(expected, abs=0.05)
