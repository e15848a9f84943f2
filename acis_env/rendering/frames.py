"""Frames of an episode."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.rendering.colours import colour_by_order, colour_instances, order_colours
from acis_env.rendering.layout import FAINT, PAPER, below, beside, enlarge, on_page, text
from acis_env.rendering.pictures import Picture, check_count, check_image


def episode_frame(
    image: Picture,
    ground_truth: NDArray[Any],
    prediction: NDArray[Any],
    step: int,
    num_instances: int,
    potential: float | None = None,
    min_panel: int = 160,
) -> Picture:
    """Draw one frame of an episode: the image, the true instances and the masks so far, side by side.

    The masks have the order colours of an episode of `num_instances` steps; those of later steps are white. A row of
    cells below them, one per instance, fills up with the steps.

    Args:
        image: `[3, H, W]` uint8, RGB.
        ground_truth: `[H, W]`, any integer dtype, 0 = background, -1 = ignored, which is hatched.
        prediction: `[H, W]`, any integer dtype; label = step of the prediction, 0 = background.
        step: number of masks predicted so far, at least 0.
        num_instances: number of true instances `N`, at least 0.
        potential: potential of the masks so far, `phi_t` of Eq. (4); left out of the caption if None.
        min_panel: least height of a panel in pixels; panels are enlarged by whole factors.

    Returns:
        `[H', W', 3]` uint8. `H'` and `W'` are even, as video codecs ask, and depend on nothing but `H`, `W` and
        `min_panel`, so that all frames of an episode are equal in size.

    Raises:
        ValueError: an argument breaks the above.
    """
    check_image(image, ground_truth, "ground_truth", is_ground_truth=True)
    check_image(image, prediction, "prediction")
    check_count("step", step)
    check_count("num_instances", num_instances)
    pictures = (image.transpose(1, 2, 0), colour_instances(ground_truth), colour_by_order(prediction, num_instances))
    panels = [enlarge(picture, min_panel) for picture in pictures]
    height, width = panels[0].shape[:2]
    progress = f"step {step}" if potential is None else f"step {step}, potential {potential:.2f}"
    captions = (
        text("image", "", width=width, height=height),
        text("ground truth", f"instances: {num_instances}", width=width, height=height),
        text("prediction", progress, width=width, height=height),
    )
    columns = [below(caption, panel) for caption, panel in zip(captions, panels, strict=True)]
    columns[-1] = below(columns[-1], _step_cells(step, num_instances, width))
    return on_page(beside(*columns))


def _step_cells(step: int, num_instances: int, width: int) -> Picture:
    """A bar `[h, width, 3]` of one cell per instance, in the order colours up to `step` and grey after it."""
    bar = np.full((10, width, 3), FAINT, np.uint8)
    if num_instances:
        cell = np.arange(width) * num_instances // width
        colours = order_colours(num_instances)[cell]
        bar[:, cell < step] = colours[cell < step]
        bar[:, np.flatnonzero(np.diff(cell))] = PAPER
    return bar
