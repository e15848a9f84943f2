"""Curves in a PNG, and histograms as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from acis_env.files import replacing
from acis_env.rendering.pictures import Picture

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


def draw_histograms(panels: Mapping[str, Mapping[str, ArrayLike]], bins: int = 30) -> Picture:
    """Draw histograms side by side.

    Args:
        panels: by the name of their x axis, with unit; each holds named values `[n]`, drawn over each other. Integers
            that differ by less than `bins` have a bar each.
        bins: bars of other values.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: no panel, or one without any value.
    """
    if not panels:
        raise ValueError("panels must hold at least one, got none")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(3.6 * len(panels), 2.8), dpi=110, layout="constrained")
    for axes, (xlabel, groups) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        values = {name: np.asarray(numbers) for name, numbers in groups.items()}
        together = np.concatenate([numbers.ravel() for numbers in values.values()]) if values else np.zeros(0)
        if not together.size:
            raise ValueError(f"panels[{xlabel!r}] must hold values, got none")
        edges = _edges(together, bins)
        for name, numbers in values.items():
            axes.hist(numbers, edges, label=name, alpha=0.6)
        axes.set(xlabel=xlabel, ylabel="number")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if np.issubdtype(together.dtype, np.integer):
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        if len(values) > 1:
            axes.legend(frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return np.array(Image.open(drawn).convert("RGB"))


def _edges(values: NDArray[Any], bins: int) -> NDArray[Any]:
    lowest, highest = values.min(), values.max()
    if np.issubdtype(values.dtype, np.integer) and highest - lowest < bins:
        return np.arange(lowest, highest + 2) - 0.5
    return np.histogram_bin_edges(values, bins)


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
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))  # there is no step 2.5
    if len(points) > 1:
        axes.legend(frameon=False)
    return figure
