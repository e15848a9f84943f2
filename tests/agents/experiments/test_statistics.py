"""Intervals against values worked out by hand from the table of Student's t."""

import math

import pytest

from agents.experiments.statistics import Interval, mean_interval, paired_interval


def test_the_interval_of_five_values_is_that_of_students_t():
    found = mean_interval([1, 2, 3, 4, 5])
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)  # t for 4 degrees of freedom, 97.5 %
    assert found.mean == 3
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert str(found) == "3.000 ± 1.963"


def test_two_values_leave_a_very_wide_interval():
    found = mean_interval([0.0, 1.0])
    assert found.high == pytest.approx(0.5 + 12.7062 * 0.5, abs=1e-4)


def test_pairs_remove_what_the_seeds_share():
    first, second = [10.0, 20.0, 30.0], [9.0, 18.0, 29.0]
    found = paired_interval(first, second)
    assert found.mean == pytest.approx(4 / 3)
    assert found.high - found.mean == pytest.approx(4.302653 * math.sqrt(1 / 3) / math.sqrt(3), abs=1e-5)


def test_a_single_value_decides_nothing():
    found = mean_interval([5.0])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.is_positive == "undecided"
    assert str(found) == "5.000"


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(0.1, 0.3, "holds"), (-0.3, -0.1, "does not hold"), (-0.1, 0.3, "undecided"), (0.0, 0.4, "undecided")],
)
def test_a_claim_is_answered_by_the_side_of_zero_on_which_the_interval_lies(low, high, answer):
    assert Interval((low + high) / 2, low, high, 5).is_positive == answer


def test_values_that_are_missing_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"values must be finite numbers, at least one, got \[\]"):
        mean_interval([])
    with pytest.raises(ValueError, match="nan"):
        mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="got 2 and 1 values"):
        paired_interval([1.0, 2.0], [1.0])
