"""Pictures of scenes and episodes: arrays in, uint8 RGB arrays or files out, without a window.

Predicted masks are coloured by their order as in Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019,
Fig. 4: blue is the first, red the last. True instances have no order; they get muted colours."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from acis_env.files import replacing
from acis_env.metrics import check_label_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]  # [H, W, 3] in [0, 255], RGB

ORDER_ANCHORS = ((30, 60, 255), (0, 205, 255), (40, 200, 60), (255, 225, 0), (255, 140, 0), (230, 15, 25))
SURPLUS = (255, 255, 255)  # a prediction beyond the number of instances
PAPER, INK, SOFT_INK, FAINT = (255, 255, 255), (20, 20, 20), (95, 95, 95), (215, 215, 215)
GAP = 6  # px between panels


def order_colours(n: int) -> Picture:
    """Colours of the 1st to the `n`-th prediction, `[n, 3]` uint8: blue, cyan, green, yellow, orange, red (Fig. 4).

    A single prediction is blue. `n` below 0 is a `ValueError`.
    """
    _check_count("n", n)
    position = np.linspace(0, len(ORDER_ANCHORS) - 1, n)
    channels = [
        np.interp(position, np.arange(len(ORDER_ANCHORS)), channel) for channel in zip(*ORDER_ANCHORS, strict=True)
    ]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def instance_colours(n: int) -> Picture:
    """Colours of `n` true instances, `[n, 3]` uint8: muted, without an order, unlike those of `order_colours`.

    `n` below 0 is a `ValueError`.
    """
    _check_count("n", n)
    # Steps of the golden ratio keep any run of hues apart; three tones keep apart those that come round again.
    tones = ((0.38, 0.93), (0.5, 0.68), (0.22, 0.8))
    colours = [colorsys.hsv_to_rgb((0.06 + 0.618034 * k) % 1, *tones[k % 3]) for k in range(n)]
    return np.round(255 * np.array(colours).reshape(n, 3)).astype(np.uint8)


def colour_by_order(label_map: NDArray[Any], num_colours: int | None = None) -> Picture:
    """Predictions coloured by order: label `k` gets the `k`-th order colour, the background is black.

    Args:
        label_map: `[H, W]`, any integer dtype; label = step of the prediction, 0 = background.
        num_colours: length of the colour scale; default: the largest label. Labels beyond it are white.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: `label_map` is not a matrix of non-negative integers, or `num_colours` is negative.
    """
    check_label_map("label_map", label_map)
    return _paint(label_map, order_colours(int(label_map.max(initial=0)) if num_colours is None else num_colours))


def colour_instances(label_map: NDArray[Any]) -> Picture:
    """True instances in muted colours, the background black.

    Args:
        label_map: `[H, W]`, any integer dtype, 0 = background. A label has the same colour in every label map.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: `label_map` is not a matrix of non-negative integers.
    """
    check_label_map("label_map", label_map)
    return _paint(label_map, instance_colours(int(label_map.max(initial=0))))


def overlay(image: Picture, label_map: NDArray[Any], alpha: float = 0.5, num_colours: int | None = None) -> Picture:
    """Predictions over their image, tinted by order, with an opaque border inside every instance.

    Args:
        image: `[3, H, W]` uint8, RGB.
        label_map: `[H, W]`, any integer dtype; label = step of the prediction, 0 = background.
        alpha: weight of the colour inside an instance, in [0, 1].
        num_colours: as for `colour_by_order`.

    Returns:
        `[H, W, 3]` uint8; background pixels are those of the image.

    Raises:
        ValueError: an argument breaks the above.
    """
    _check_image(image, label_map)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    colours = colour_by_order(label_map, num_colours)
    weight = np.where(_is_border(label_map), 1.0, alpha * (label_map > 0))[..., None]
    return np.round((1 - weight) * image.transpose(1, 2, 0) + weight * colours).astype(np.uint8)


def episode_frame(
    image: Picture,
    ground_truth: NDArray[Any],
    prediction: NDArray[Any],
    step: int,
    num_instances: int,
    potential: float | None = None,
    min_panel: int = 160,
) -> Picture:
    """One frame of an episode: the image, the true instances and the masks so far, side by side.

    The masks have the order colours of an episode of `num_instances` steps; those of later steps are white. A row of
    cells below them, one per instance, fills up with the steps.

    Args:
        image: `[3, H, W]` uint8, RGB.
        ground_truth: `[H, W]`, any integer dtype, 0 = background.
        prediction: `[H, W]`, any integer dtype; label = step of the prediction, 0 = background.
        step: number of masks predicted so far, at least 0.
        num_instances: number of true instances `N`, at least 0.
        potential: of the masks so far, `phi_t` of Eq. (4); left out of the caption if None.
        min_panel: least height of a panel in pixels; panels are enlarged by whole factors.

    Returns:
        `[H', W', 3]` uint8. `H'` and `W'` are even, as video codecs ask, and depend on nothing but `H`, `W` and
        `min_panel`, so that all frames of an episode are equal in size.

    Raises:
        ValueError: an argument breaks the above.
    """
    _check_image(image, ground_truth, "ground_truth")
    _check_image(image, prediction, "prediction")
    _check_count("step", step)
    _check_count("num_instances", num_instances)
    pictures = (image.transpose(1, 2, 0), colour_instances(ground_truth), colour_by_order(prediction, num_instances))
    panels = [_enlarge(picture, min_panel) for picture in pictures]
    height, width = panels[0].shape[:2]
    progress = f"step {step}" if potential is None else f"step {step}, potential {potential:.2f}"
    captions = (
        _text("image", "", width=width, height=height),
        _text("ground truth", f"instances: {num_instances}", width=width, height=height),
        _text("prediction", progress, width=width, height=height),
    )
    columns = [_below(caption, panel) for caption, panel in zip(captions, panels, strict=True)]
    columns[-1] = _below(columns[-1], _step_cells(step, num_instances, width))
    return _on_page(_beside(*columns))


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    headings: Sequence[str],
    captions: Sequence[str] | None = None,
    min_panel: int = 160,
    order_legend: bool = True,
) -> Picture:
    """A table of pictures: a heading over every column, a caption under every row.

    Args:
        rows: pictures `[h, w, 3]` uint8, one per heading in every row; sizes may differ.
        headings: one per column.
        captions: one per row, or None for none.
        min_panel: least height of a panel in pixels; pictures are enlarged by whole factors.
        order_legend: whether a bar below the table explains the order colours, "first ... last".

    Returns:
        `[H', W', 3]` uint8, `H'` and `W'` even.

    Raises:
        ValueError: no rows, a row without one picture per heading, captions without one per row, or a picture that
            is not `[h, w, 3]` uint8.
    """
    _check_table(rows, headings, captions)
    table = [[_enlarge(picture, min_panel) for picture in row] for row in rows]
    widths = [max(picture.shape[1] for picture in column) for column in zip(*table, strict=True)]
    height = max(picture.shape[0] for row in table for picture in row)
    titles = [_text(heading, width=width, height=height) for heading, width in zip(headings, widths, strict=True)]
    parts = [_beside(*titles)]
    for index, row in enumerate(table):
        cells = [_extend(picture, picture.shape[0], width) for picture, width in zip(row, widths, strict=True)]
        parts.append(_beside(*cells))
        if captions is not None:
            caption = _text(captions[index], width=parts[0].shape[1], height=height, colour=SOFT_INK)
            parts.append(_extend(caption, caption.shape[0] + GAP, caption.shape[1]))  # nearer to its own row
    if order_legend:
        parts.append(_order_legend(height))
    return _on_page(_below(*parts))


def write_png(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write a picture `[H, W, 3]` uint8 as PNG.

    The folder is created. The file appears complete or not at all; an older one stays until then.

    Raises:
        ValueError: `picture` is not `[H, W, 3]` uint8, or has no pixels.
    """
    _check_picture("picture", picture)
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
        _check_picture(f"frames[{index}]", frame)
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


def _paint(label_map: NDArray[Any], colours: Picture) -> Picture:
    """`[H, W, 3]`: label `k` in the `k`-th of `colours` `[n, 3]`, the background black, labels beyond `n` white."""
    palette = np.concatenate([np.zeros_like(colours, shape=(1, 3)), colours, np.array([SURPLUS], np.uint8)])
    return palette[np.minimum(label_map.astype(np.int64), len(colours) + 1)]


def _is_border(label_map: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of instances `[H, W]` near another label; the image edge is no border. Thicker in larger images."""
    size = 3 + 2 * (min(label_map.shape) // 300)
    neighbourhood = np.ones((size, size), np.uint8)
    labels = label_map.astype(np.float64)  # the morphology of OpenCV has no wide integers
    return np.asarray((cv2.dilate(labels, neighbourhood) != cv2.erode(labels, neighbourhood)) & (label_map > 0))


def _enlarge(picture: Picture, min_panel: int) -> Picture:
    """`picture` with every pixel as a square, the smallest that makes it at least `min_panel` high."""
    factor = max(1, -(-min_panel // picture.shape[0]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _extend(picture: Picture, height: int, width: int) -> Picture:
    """`picture` in the upper left corner of a sheet `[height, width, 3]`."""
    sheet = _sheet(height, width)
    sheet[: picture.shape[0], : picture.shape[1]] = picture
    return sheet


def _sheet(height: int, width: int) -> Picture:
    return np.full((height, width, 3), PAPER, np.uint8)


def _beside(*pictures: Picture) -> Picture:
    """Pictures from left to right with gaps, tops aligned."""
    height = max(picture.shape[0] for picture in pictures)
    parts = [_sheet(height, GAP)] * (2 * len(pictures) - 1)
    parts[::2] = [_extend(picture, height, picture.shape[1]) for picture in pictures]
    return np.concatenate(parts, axis=1)


def _below(*pictures: Picture) -> Picture:
    """Pictures from top to bottom with gaps, left sides aligned."""
    return _beside(*(picture.transpose(1, 0, 2) for picture in pictures)).transpose(1, 0, 2)


def _on_page(picture: Picture) -> Picture:
    """`picture` with a margin; height and width are even."""
    height, width = picture.shape[0] + 2 * GAP, picture.shape[1] + 2 * GAP
    page = _sheet(height + height % 2, width + width % 2)
    page[GAP : GAP + picture.shape[0], GAP : GAP + picture.shape[1]] = picture
    return page


def _text(*lines: str, width: int, height: int, colour: tuple[int, int, int] = INK) -> Picture:
    """A strip `[h, width, 3]` of lines of text in a size that suits panels of `height`; softer from the second on.

    Lines that are too long get smaller letters; the height of the strip does not depend on what they say.
    """
    size = min(max(height / 400, 0.45), 0.9)
    line_height = round(38 * size)
    strip = _sheet(line_height * len(lines), width)
    for index, line in enumerate(lines):
        (line_width, _), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        fitted = size * min(1.0, max(width - 4, 1) / max(line_width, 1))
        start = (0, round((index + 0.72) * line_height))
        ink = colour if index == 0 else SOFT_INK
        cv2.putText(strip, line, start, cv2.FONT_HERSHEY_SIMPLEX, fitted, ink, 1, cv2.LINE_AA)
    return strip


def _step_cells(step: int, num_instances: int, width: int) -> Picture:
    """A bar `[h, width, 3]` of one cell per instance, in the order colours up to `step` and grey after it."""
    bar = np.full((10, width, 3), FAINT, np.uint8)
    if num_instances:
        cell = np.arange(width) * num_instances // width
        colours = order_colours(num_instances)[cell]
        bar[:, cell < step] = colours[cell < step]
        bar[:, np.flatnonzero(np.diff(cell))] = PAPER
    return bar


def _order_legend(height: int) -> Picture:
    """A bar of the order colours that reads "first ... last prediction", for panels of `height`."""
    first = _text("first", width=round(height / 5), height=height)
    last = _text("last prediction", width=round(height / 1.6), height=height)
    bar = _sheet(first.shape[0], round(height / 1.6))
    bar[len(bar) // 5 : -len(bar) // 5] = order_colours(bar.shape[1])
    return _beside(first, bar, last)


def _quantised(frames: Sequence[Picture]) -> list[Image.Image]:
    """Frames with one palette and no dither, so that what stands still neither flickers nor is stored again."""
    sample = np.concatenate([frame[::2, ::2] for frame in frames])
    palette = Image.fromarray(sample).quantize(256, method=Image.Quantize.MAXCOVERAGE)
    return [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def _check_count(name: str, count: int) -> None:
    if count < 0:
        raise ValueError(f"{name} must be at least 0, got {count}")


def _check_image(image: Picture, label_map: NDArray[Any], name: str = "label_map") -> None:
    check_label_map(name, label_map)
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be uint8 [3, H, W] with pixels, got {image.dtype} {list(image.shape)}")
    if label_map.shape != image.shape[1:]:
        raise ValueError(f"{name} must be [H, W] = {list(image.shape[1:])} as image, got {list(label_map.shape)}")


def _check_picture(name: str, picture: Picture) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f"{name} must be uint8 [H, W, 3] with pixels, got {picture.dtype} {list(picture.shape)}")


def _check_table(rows: Sequence[Sequence[Picture]], headings: Sequence[str], captions: Sequence[str] | None) -> None:
    if len(rows) == 0 or len(headings) == 0:
        raise ValueError(f"rows and headings must not be empty, got {len(rows)} and {len(headings)}")
    for index, row in enumerate(rows):
        if len(row) != len(headings):
            raise ValueError(f"rows[{index}] must hold {len(headings)} pictures as headings, got {len(row)}")
        for column, picture in enumerate(row):
            _check_picture(f"rows[{index}][{column}]", picture)
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"captions must hold one per row, {len(rows)}, got {len(captions)}")
