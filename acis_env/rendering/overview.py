"""A data set at a glance: some of its scenes above histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from acis_env.datasets.preprocessing import resize_image, resize_label_map
from acis_env.datasets.scene import Scene
from acis_env.rendering.charts import draw_histograms
from acis_env.rendering.colours import colour_instances
from acis_env.rendering.layout import below, beside
from acis_env.rendering.pictures import Picture
from acis_env.rendering.sheets import contact_sheet

PER_ROW = 2
"""Scenes beside each other."""
LARGEST_PANEL = 240
"""Longer side of a scene in px; larger ones are reduced."""


def draw_overview(scenes: Sequence[Scene], histograms: Mapping[str, Mapping[str, ArrayLike]]) -> Picture:
    """Draw scenes with their instances, and below them the histograms that have values.

    Args:
        scenes: at least one.
        histograms: as `draw_histograms` takes them.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        ValueError: there is no scene.
    """
    if not scenes:
        raise ValueError("scenes must hold at least one, got none")
    cells = [_cell(scene) for scene in scenes]
    rows = [beside(*cells[first : first + PER_ROW]) for first in range(0, len(cells), PER_ROW)]
    sheet = below(*rows)
    with_values = {name: groups for name, groups in histograms.items() if any(np.size(v) for v in groups.values())}
    return below(sheet, draw_histograms(with_values)) if with_values else sheet


def _cell(scene: Scene) -> Picture:
    """Image and coloured instances, black where these are not known, below a line each."""
    image = scene.image
    label_map = np.zeros(image.shape[1:], np.int32) if scene.label_map is None else scene.label_map
    count = "no labels" if scene.label_map is None else f"{scene.num_instances} instances"
    headings = scene.name, f"{image.shape[1]}x{image.shape[2]}, {count}"
    scale = LARGEST_PANEL / max(image.shape[1:])
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[2] * scale))
        image, label_map = resize_image(image, size), resize_label_map(label_map, size)
    panels = image.transpose(1, 2, 0), colour_instances(label_map)
    return contact_sheet([panels], headings, min_panel=1 if scale < 1 else 160, order_legend=False)
