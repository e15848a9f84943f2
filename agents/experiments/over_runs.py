"""The section of a report on what its few runs say beyond means: statistics of `bootstrap.py`, of SBD."""

from __future__ import annotations

from agents.experiments.bootstrap import (
    CAUTION,
    LEVELS,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from agents.experiments.markdown import table
from agents.experiments.methods import CONTROL, PAPER_REFERENCE, REFINED_CONTROL
from agents.experiments.plots import Curve, draw_plots
from agents.experiments.results import Results, mean_of, scene_by_scene

MEASURE = "sbd"
"""Name of the score in the results."""
IQM = "IQM of SBD"
PROFILE = "Performance profile"
"""Titles of a column and a plot."""
ABOUT = (
    "The score of a run is its mean SBD. IQM: interquartile mean, that of the middle half of all runs (of fewer than"
    " four, of all). Better than another: probability that a run scores more than a run of the other, ties by half."
    " Performance profile: share of scenes that score more than an SBD, mean over runs."
)
"""What the table and the plot show."""


def over_runs(results: Results) -> str:
    """Interquartile means, probabilities of improvement over the references, and performance profiles."""
    scores = {method: [list(results.values(method, mean_of(MEASURE)).values())] for method in results.cells}
    references = [name for name in (PAPER_REFERENCE, CONTROL, REFINED_CONTROL) if name in scores]
    rows = []
    for method, runs in scores.items():
        better = [
            "" if method == other else str(probability_of_improvement(runs, scores[other])) for other in references
        ]
        rows.append([method, str(len(runs[0])), str(interquartile_mean(runs)), *better])
    profiles = {method: _profile(results, method) for method in results.cells}
    return "\n\n".join([
        "## Over runs",
        f"{ABOUT} {CAUTION}",
        table(["", "runs", IQM, *(f"better than {name}" for name in references)], rows),
        *draw_plots(results, "profile", profiles, "SBD", "share of scenes above", PROFILE),
    ])  # fmt: skip


def _profile(results: Results, method: str) -> Curve:
    runs = [scene_by_scene(MEASURE)(result) for result in results.cells[method].values()]
    return LEVELS, list(performance_profile([runs]))
