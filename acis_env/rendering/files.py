"""Pictures, films and curves as files, without a window."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from acis_env.files import replacing
from acis_env.rendering.colours import Picture, check_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_png(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write a picture `[H, W, 3]` uint8 as PNG.

    The folder is created. The file appears complete or not at all; an older one stays until then.

    Raises:
        ValueError: `picture` is not `[H, W, 3]` uint8, or has no pixels.
    """
    check_picture("picture", picture)
    with replacing(path) as unfinished:
        Image.fromarray(picture).save(unfinished, format="PNG", optimize=True)


def write_gif(path: str | os.PathLike[str], frames: Sequence[Picture], fps: float = 2.0) -> None:
    """Write frames `[H, W, 3]` uint8, all of one size, as a GIF that repeats and holds its last frame longer.

    Equal neighbours become one frame of their joint duration. Folder and file are treated as by `write_png`.

    Raises:
        ValueError: no frames, frames that differ in size or are not `[H, W, 3]` uint8, or `fps` outside (0, 50].
    """
    if len(frames) == 0:
        raise ValueError("frames must hold at least one picture, got none")
    for index, frame in enumerate(frames):
        check_picture(f"frames[{index}]", frame)
        if frame.shape != frames[0].shape:
            raise ValueError(
                f"frames must be equal in size, expected {list(frames[0].shape)} as frames[0], "
                f"got {list(frame.shape)} for frames[{index}]"
            )
    if not 0 < fps <= 50:  # the format counts in 1/100 s and browsers slow down below two of them
        raise ValueError(f"fps must lie in (0, 50], got {fps}")
    duration = round(1000 / fps)
    durations = [duration] * (len(frames) - 1) + [max(3 * duration, 1500)]
    images = _quantised(frames)
    with replacing(path) as unfinished:
        images[0].save(unfinished, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)


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


def _quantised(frames: Sequence[Picture]) -> list[Image.Image]:
    """Frames with one palette and no dither, so that what stands still neither flickers nor is stored again."""
    sample = np.concatenate([frame[::2, ::2] for frame in frames])
    palette = Image.fromarray(sample).quantize(256, method=Image.Quantize.MAXCOVERAGE)
    return [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
