"""Pictures that come in through the page, within bounds."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acis_env.pictures import Reading

MOST_BYTES = 20 * 2**20
"""Size of a file that is taken."""
MOST_PIXELS = 16_000_000
"""Pixels of a picture that is taken."""
LONGEST_NAME = 80
"""Bytes of a file's name that are kept."""


def too_long() -> ValueError:
    """The error of a file that is too large, for whoever does not keep all of it."""
    return ValueError(f"a picture must have at most {MOST_BYTES // 2**20} MB, and this file has more")


def read_upload(name: str, content: bytes) -> NDArray[np.uint8]:
    """The picture `[h, w, 3]` uint8, RGB, of a file.

    Args:
        name: the file's, for errors.
        content: all bytes of it, of any format that `acis segment` reads.

    Raises:
        ValueError: it is too large in bytes or pixels, or no picture; in one line that begins with the name.
    """
    if len(content) > MOST_BYTES:
        raise too_long()
    shown = re.sub(r"[^\w.-]+", "_", Path(name).name).encode()[-LONGEST_NAME:].decode(errors="ignore").lstrip(".")
    shown = shown or "picture"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / shown
        path.write_bytes(content)
        try:
            reading = Reading()
            height, width = reading.size(path)
            if height * width > MOST_PIXELS:
                raise ValueError(
                    f"{path} must have at most {MOST_PIXELS // 10**6} million pixels, got {height}x{width} "
                    "(height x width)"
                )
            return reading.picture(path)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", "")) from error
