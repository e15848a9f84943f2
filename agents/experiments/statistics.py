"""Means over seeds and what they leave open: Student's t-intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Answer = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; infinitely wide for a single value."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {self.high - self.mean:.3f}"

    @property
    def is_positive(self) -> Answer:
        """Whether the mean is above zero, as far as the interval tells."""
        if self.low > 0:
            return "holds"
        return "does not hold" if self.high < 0 else "undecided"


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent `values` with Student's t-interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"values must be finite numbers, at least one, got {list(values)}")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    half = float(stats.t.ppf((1 + confidence) / 2, sample.size - 1)) * error
    return Interval(mean, mean - half, mean + half, sample.size)


def paired_interval(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval:
    """`mean_interval` of the differences `first - second` of pairs, e.g. of two methods with the same seed.

    Raises:
        ValueError: the two differ in length.
    """
    if len(first) != len(second):
        raise ValueError(f"first and second must be pairs, got {len(first)} and {len(second)} values")
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], confidence)
