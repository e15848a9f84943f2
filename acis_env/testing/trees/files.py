"""Files as the makers of data sets save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def new_tree(folder: str | Path) -> Path:
    """`folder`, created.

    Raises:
        ValueError: it holds something, or is no folder.
    """
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: a tree of files needs a folder that is new or empty")
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_png(path: Path, pixels: NDArray[Any], palette: NDArray[np.uint8] | None = None) -> None:
    """Write a PNG; its folder is created.

    Args:
        path: file to write.
        pixels: `[H, W]` uint8 or uint16, or `[H, W, 3 or 4]` uint8.
        palette: colours `[P, 3]` that `pixels` `[H, W]` are indices of.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(path, format="PNG", compress_level=1)


def coloured(label_map: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A label map `[H, W]` as `[H, W, 3]`: a colour for each instance, in the order of their labels, on black."""
    codes = np.unique(generator.integers(1, 2**24, 4 * int(label_map.max(initial=0))))
    chosen = np.sort(generator.choice(codes, int(label_map.max(initial=0)), replace=False))
    table = np.concatenate([[0], chosen])
    return np.stack([table >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)[label_map]
