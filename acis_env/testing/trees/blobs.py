"""Small pictures of coloured discs, for trees of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def draw_discs(number: int, size: tuple[int, int], seed: int) -> NDArray[np.int32]:
    """Label map `[H, W]` of `number` discs that do not touch, labels 1..N row by row.

    Raises:
        ValueError: there is no room for so many of 4 px and more across.
    """
    height, width = size
    rows = max(1, round((number * height / width) ** 0.5))
    columns = -(-number // rows)
    cell_height, cell_width = height // rows, width // columns
    if min(cell_height, cell_width) < 8:
        raise ValueError(f"number of discs must fit into {height}x{width}, got {number}")
    generator = np.random.default_rng(seed)
    label_map = np.zeros(size, np.int32)
    y, x = np.ogrid[:height, :width]
    for label in range(1, number + 1):
        row, column = divmod(label - 1, columns)
        radius = generator.uniform(2, min(cell_height, cell_width) / 2 - 2)
        centre_y = generator.uniform(row * cell_height + radius + 1, (row + 1) * cell_height - radius - 1)
        centre_x = generator.uniform(column * cell_width + radius + 1, (column + 1) * cell_width - radius - 1)
        label_map[(y + 0.5 - centre_y) ** 2 + (x + 0.5 - centre_x) ** 2 <= radius**2] = label
    return label_map


def paint(label_map: NDArray[np.int32], seed: int) -> NDArray[np.uint8]:
    """A picture `[3, H, W]` of a label map `[H, W]`: a colour for each instance, a dark ground, and noise."""
    generator = np.random.default_rng(seed)
    colours = generator.integers(80, 220, (int(label_map.max(initial=0)) + 1, 3))
    colours[0] = 40, 30, 20
    noise = generator.integers(-20, 21, (*label_map.shape, 3))
    return (colours[np.maximum(label_map, 0)] + noise).transpose(2, 0, 1).astype(np.uint8)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    """Write pixels `[H, W]` or `[H, W, C]` in the format that the name says; folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
