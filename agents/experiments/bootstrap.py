"""What a few runs say: interquartile means, probabilities of improvement and performance profiles.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021. Intervals are
percentiles of a stratified bootstrap: runs are drawn anew, with replacement, within their set of scenes. Their library,
rliable, computes the same and needs several large packages for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import trim_mean

from agents.experiments.statistics import Interval

REPEATS = 10_000
"""Number of times that runs are drawn anew."""
LEVELS = np.linspace(0, 1, 51)
"""Scores at which a performance profile is computed."""
CAUTION = (
    "Brackets are 95 % intervals of a stratified bootstrap. One run has none, and those of few runs are too narrow: of"
    " three normal scores, the interval holds the truth in 75 % of all cases, of five in 90 %; a probability of 0 or 1"
    " says only that no pair of these runs is the other way round."
)
"""What a reader of the intervals must know."""


@dataclass(frozen=True)
class BootstrapInterval(Interval):
    """A statistic, in the place of the mean, and its percentile interval; infinitely wide for a single run."""

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interquartile_mean(scores: ArrayLike) -> BootstrapInterval:
    """Mean of the middle half of all scores: a quarter, rounded down, is left out at either end.

    Args:
        scores: `[K, R]`, of `R` runs on each of `K` sets of scenes.

    Raises:
        ValueError: scores are not finite, or there are none.
    """
    runs = _checked(scores)
    drawn = np.random.default_rng(0).integers(runs.shape[1], size=(REPEATS, *runs.shape))
    samples = np.take_along_axis(runs[None], drawn, 2).reshape(REPEATS, -1)
    value, means = trim_mean(runs.ravel(), 0.25), np.asarray(trim_mean(samples, 0.25, axis=1))
    return _interval(float(value), means, runs.shape)


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> BootstrapInterval:
    """Probability that a run of one agent scores more than a run of another on the same set, mean over sets.

    All pairs of runs count, ties by half: the statistic of Mann and Whitney's test.

    Args:
        first: `[K, R]`, scores of `R` runs on each of `K` sets.
        second: `[K, S]`, of the other agent.

    Raises:
        ValueError: scores are not finite, there are none, or the numbers of sets differ.
    """
    a, b = _checked(first), _checked(second)
    if len(a) != len(b):
        raise ValueError(f"first and second must be scores on the same sets, got {len(a)} and {len(b)} sets")
    wins = (a[:, :, None] > b[:, None]) + 0.5 * (a[:, :, None] == b[:, None])
    generator = np.random.default_rng(0)
    shares = _shares(a, generator), _shares(b, generator)
    samples = np.einsum("nkr,krs,nks->n", shares[0], wins, shares[1], optimize=True) / len(a)
    return _interval(float(wins.mean()), samples, (len(a), min(a.shape[1], b.shape[1])))


def performance_profile(scores: Sequence[Sequence[ArrayLike]]) -> list[BootstrapInterval]:
    """Share of scenes that score more than each of `LEVELS`, mean over runs and sets.

    Runs are drawn anew as a whole, since an agent's scores on many scenes are not independent.

    Args:
        scores: for each set, for each of `R` runs, the scores of its scenes `[n]`.

    Raises:
        ValueError: scores are not finite, there are none, or sets differ in the number of runs.
    """
    means_of_runs = _checked([[np.asarray(scenes, np.float64).mean() for scenes in runs] for runs in scores])
    above = [[(np.asarray(scenes)[:, None] > LEVELS).mean(0) for scenes in runs] for runs in scores]
    profiles = np.array(above)  # [K, R, levels]
    shares = _shares(means_of_runs, np.random.default_rng(0))
    samples = np.einsum("nkr,krt->tn", shares, profiles, optimize=True) / len(profiles)
    means = profiles.mean((0, 1))
    return [_interval(float(mean), own, profiles.shape[:2]) for mean, own in zip(means, samples, strict=True)]


def _checked(scores: ArrayLike) -> NDArray[np.float64]:
    """Scores as `[K, R]`."""
    runs = np.asarray(scores, dtype=np.float64)
    if runs.ndim != 2 or not runs.size or not np.isfinite(runs).all():
        raise ValueError(f"scores must be finite numbers [sets, runs], at least one, got {runs.tolist()}")
    return runs


def _shares(runs: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """What every run of `[K, R]` makes up of its set, each time that `R` are drawn anew: `[REPEATS, K, R]`."""
    sets, count = runs.shape
    times = generator.multinomial(count, np.full(count, 1 / count), size=(REPEATS, sets))
    return np.asarray(times / count, dtype=np.float64)


def _interval(value: float, samples: NDArray[np.float64], shape: tuple[int, ...]) -> BootstrapInterval:
    """The middle 95 % of `samples` of a statistic of scores with the `shape` `(K, R)`."""
    if shape[1] == 1:
        return BootstrapInterval(value, -math.inf, math.inf, shape[0])
    low, high = np.quantile(samples, [0.025, 0.975])
    return BootstrapInterval(value, float(low), float(high), shape[0] * shape[1])
