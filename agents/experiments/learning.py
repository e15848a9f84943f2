"""The curves of a report: progress while training, and how well the critics predict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.experiments.markdown import number, table
from agents.experiments.plots import draw_plots, plot_intervals
from agents.experiments.results import Result, Results
from agents.experiments.statistics import Interval, mean_interval

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the training at which its progress is tabulated."""


def learning_curves(results: Results) -> str:
    """Scores on the validation scenes while training, by CPU time and by the share of the training."""
    standard = next(iter(results.references["rows"].values()))["reconstruction"]["mean"]
    parts = [
        "## Learning curves",
        "On the validation scenes that are watched while training; dashed is the bound of the standard decoder, on the"
        " scenes that are evaluated.",
    ]
    for measure, title in (("dice_star", "Dice*, true count"), ("sbd", "SBD, own stopping")):
        curves, done = {}, {}
        for method, cells in results.cells.items():
            done[method], values = _means([_watched(result, measure) for result in cells.values()])
            _, seconds = _means([_watched(result, "cpu_seconds") for result in cells.values()])
            curves[method] = np.array([interval.mean / 60 for interval in seconds]), values
        parts += draw_plots(results, f"learning_{measure}", curves, "CPU minutes", title, title, standard[measure])
        rows = []
        for method, (minutes, values) in curves.items():
            places = [np.abs(done[method] - share * done[method][-1]).argmin() for share in SHARES]
            missing = number(results.bound(method, measure) - values[-1].mean)
            rows.append([method, number(minutes[-1], 1), *(str(values[i]) for i in places), missing])
        header = ["", "CPU min", *(f"{share:.0%}" for share in SHARES), "to the bound"]
        parts += [
            f"{title.replace('*', chr(92) + '*')}, by the share of the training that is over:",
            table(header, rows),
        ]
    return "\n\n".join(parts)


def _watched(result: Result, name: str) -> tuple[list[float], list[float]]:
    """Iterations after which a run was evaluated while training, and what was noted there."""
    return [scores["iteration"] for scores in result["history"]], [scores[name] for scores in result["history"]]


def _means(runs: Sequence[tuple[list[float], list[float]]]) -> tuple[np.ndarray, list[Interval]]:
    """Iterations of the first run, and means of the values of all runs there, of each its iterations and its values.

    Runs of two versions of this code may have other iterations: their values are interpolated.
    """
    iterations = np.array(runs[0][0])
    values = np.array([np.interp(iterations, *run) for run in runs])
    return iterations, [mean_interval(list(column)) for column in values.T]


CRITIC_CURVES = {
    "critic/explained_variance": "Explained variance in training",
    "critic/gradient_cosine": "Cosine of the critic's and the score's action gradients",
    "critic/explained_spread": "Explained spread of the candidates of a state",
    "critic/rank_correlation": "Rank correlation of values of the candidates of a state",
}
"""Curves of the critic that are shown, by tag."""


def critic_measures(results: Results) -> str:
    """Measures of how well the critics predict, in training and on held-out scenes; empty if no method has a critic."""
    parts = [*_critic_curves(results), *_explained_variance(results), *_rank_correlation(results)]
    return "\n\n".join(["## Critic", *parts]) if parts else ""


def _critic_curves(results: Results) -> list[str]:
    parts = []
    for tag, title in CRITIC_CURVES.items():
        curves = {}
        for method, cells in results.cells.items():
            runs = [result["curves"][tag] for result in cells.values() if tag in result["curves"]]
            if runs:
                curves[method] = _means([(run["iteration"], run["value"]) for run in runs])
        if curves:
            name = f"{tag.replace('/', '_')}.png"
            plot_intervals(results.folder / name, curves, "iteration", title, f"{title}, 95 % intervals")
            ends = [f"{m}: {values[0]} at first, {values[-1]} in the end" for m, (_, values) in curves.items()]
            parts += [f"![{title}]({name})", f"{title}. {'; '.join(ends)}."]
    return parts


def _explained_variance(results: Results) -> list[str]:
    rows, counts = [], []
    for method, cells in results.cells.items():
        critics = [result["critic"] for result in cells.values() if "critic" in result]
        if critics:
            values = zip(*(critic["explained_variance"] for critic in critics), strict=True)
            rows.append([method, *(str(mean_interval(value)) for value in values)])
            counts = critics[0]["count"]
    if not rows:
        return []
    return [
        "Explained variance of the Monte-Carlo returns of held-out episodes, played with the noise of training, by"
        " time step:",
        table(["", *(f"t = {t + 1}" for t in range(len(counts)))], [["episodes", *map(str, counts)], *rows]),
    ]


def _rank_correlation(results: Results) -> list[str]:
    rows = []
    for method, cells in results.cells.items():
        found = [result["rank_correlation"] for result in cells.values() if "rank_correlation" in result]
        if found:
            rows.append([method, *(str(mean_interval([f[name] for f in found])) for name in ("reward", "return"))])
    if not rows:
        return []
    return [
        "Rank correlation (Spearman) of the critic's values with the true ones, among the candidates of a held-out"
        " state:",
        table(["", "with the reward", "with the return"], rows),
    ]
