"""Curves in a PNG."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acis_env.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> None:
    """Draw named curves into one PNG, e.g. a learning curve or the Dice per time step (Fig. 3).

    Short curves get a marker per point; not-a-number leaves a gap. A legend appears with the second curve. Folder
    and file are treated as by `write_png`.

    Args:
        path: the PNG.
        curves: name to `(x, y)`, both `[n]`, `n` at least 1; drawn in the given order.
        xlabel: name of the x axis with its unit.
        ylabel: name of the y axis with its unit.
        title: above the axes.

    Raises:
        ValueError: no curves, or `x` and `y` that are not vectors of equal, positive length.
    """
    if not curves:
        raise ValueError("curves must hold at least one curve, got none")
    points = {name: (np.asarray(x), np.asarray(y)) for name, (x, y) in curves.items()}
    for name, (x, y) in points.items():
        if x.ndim != 1 or x.shape != y.shape or not x.size:
            raise ValueError(f"curves[{name!r}] must be x [n] and y [n], got {list(x.shape)} and {list(y.shape)}")
    figure = _draw_curves(points, xlabel, ylabel, title)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _draw_curves(
    points: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], xlabel: str, ylabel: str, title: str
) -> Figure:
    # Importing matplotlib takes a second, which an environment that draws no curve need not wait for.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in points.items():
        axes.plot(x, y, label=name, linewidth=1.8, marker="o" if len(x) <= 30 else "", markersize=4.5)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, loc="left", fontsize="large")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if all(np.issubdtype(x.dtype, np.integer) for x, _ in points.values()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no step 2.5
    if len(points) > 1:
        axes.legend(frameon=False)
    return figure
