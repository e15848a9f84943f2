"""Plots of curves with their intervals over seeds, those of the paper's methods apart from those beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acis_env.files import replacing
from agents.experiments.methods import METHODS
from agents.experiments.results import Results
from agents.experiments.statistics import Interval

Curve = tuple[NDArray[np.float64], list[Interval]]
"""`x` `[n]`, and `n` intervals over seeds."""
NUM_COLOURS = 10
"""Number of curves in a plot before colours repeat."""
MOST_MARKERS = 45
"""Number of points of a curve up to which each has a marker."""


def draw_plots(
    results: Results,
    name: str,
    curves: Mapping[str, Curve],
    xlabel: str,
    ylabel: str,
    title: str,
    level: float | None = None,
) -> list[str]:
    """Draw `curves`, by method, into `<name>.png`, those beyond the paper into another file; returns links to them."""
    links = []
    for suffix, methods in plotted(results).items():
        shown = {method: curves[method] for method in methods if method in curves}
        if shown:
            path = results.folder / f"{name}{suffix}.png"
            plot_intervals(path, shown, xlabel, ylabel, f"{title}, 95 % intervals", level)
            links.append(f"![{title}]({path.name})")
    return links


def plotted(results: Results) -> dict[str, list[str]]:
    """Methods that share a plot, by what is added to its name: the paper's; those beyond it, with their rivals."""
    beyond = [method for method in results.cells if method in METHODS and METHODS[method].rival]
    rivals = {METHODS[method].rival for method in beyond}
    paper = [method for method in results.cells if method not in beyond]
    groups = {"": paper, "_beyond": [method for method in results.cells if method in rivals or method in beyond]}
    return {suffix: group for suffix, group in groups.items() if group and not (suffix == "" and rivals >= set(group))}


def plot_intervals(
    path: Path,
    curves: Mapping[str, Curve],
    xlabel: str,
    ylabel: str,
    title: str,
    level: float | None = None,
    dpi: int = 150,
) -> None:
    """Draw curves with their intervals as bands into one PNG, and a dashed line at `level`."""
    from matplotlib.figure import Figure  # takes a second

    figure = Figure(figsize=(7.6, 4.0), dpi=dpi, layout="constrained")
    axes = figure.subplots()
    for index, (name, (x, intervals)) in enumerate(curves.items()):
        style = "-" if index < NUM_COLOURS else ":"
        means = [i.mean for i in intervals]
        marker = "o" if len(x) <= MOST_MARKERS else None
        line = axes.plot(x, means, style, label=name, linewidth=1.6, marker=marker, markersize=3)[0]
        if all(np.isfinite(i.high) for i in intervals):
            low, high = [i.low for i in intervals], [i.high for i in intervals]
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if level is not None:
        axes.axhline(level, color="0.4", linestyle="--", linewidth=1.0)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, loc="left", fontsize="large")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png")
