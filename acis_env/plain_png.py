"""PNG files of the plainest kind, read with a few calls: Pillow takes longer to open a small one than to decode it.

What is unusual about a file, damage included, is left to Pillow and its errors: None stands for it. So a file is read
here only if every chunk is known and has the checksum that was written with it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HARMLESS = {b"IHDR", b"IDAT", b"IEND", b"PLTE", b"pHYs", b"tEXt", b"tIME"}
"""Chunks that neither turn nor animate the picture, nor change its values."""
BEGINNING = 4096
"""Bytes at the beginning of a file, in which a plain one says what its size is."""
GREY = (8, 0, 0, 0, 0)
"""Bits of a value, kind of colour, ways of compressing, filtering and interlacing of a plain grey picture."""


def plain_size(path: Path) -> tuple[int, int] | None:
    """Height and width by the beginning of a file; None if Pillow has to look."""
    try:
        with path.open("rb", buffering=0) as file:
            data = file.read(BEGINNING)
    except OSError:
        return None
    found = None
    for kind, content in _chunks(data):
        if kind == b"IDAT":
            return found
        if kind == b"IHDR":
            found = _size(content)
    return None


def plain_grey(path: Path) -> NDArray[np.uint8] | None:
    """Values `[H, W]` of an 8-bit grey picture; None if it is of another kind, or Pillow has to look."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    chunks = list(_chunks(data))
    kinds = [kind for kind, _ in chunks]
    if kinds[:1] != [b"IHDR"] or kinds[-1] != b"IEND" or b"IDAT" not in kinds or b"PLTE" in kinds:
        return None
    size, header = _size(chunks[0][1]), chunks[0][1]
    if size is None or struct.unpack(">5B", header[8:]) != GREY:
        return None
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    is_whole = pixels is not None and pixels.dtype == np.uint8 and pixels.shape == size
    return pixels if is_whole else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents of the chunks of a file; of the first that is cut off, if it holds pixels, the kind alone.

    Ends before one that is not known, or damaged.
    """
    if not data.startswith(SIGNATURE):
        return
    place = len(SIGNATURE)
    while len(data) >= place + 12:
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if kind not in HARMLESS:
            return
        if end > len(data):
            if kind == b"IDAT":
                yield kind, b""
            return
        if zlib.crc32(data[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return
        yield kind, data[place + 8 : end - 4]
        place = end


def _size(header: bytes) -> tuple[int, int] | None:
    """Height and width by the content of `IHDR`, unless they are for Pillow to refuse or to warn of."""
    if len(header) != 13:
        return None
    width, height = struct.unpack_from(">II", header)
    limit = Image.MAX_IMAGE_PIXELS
    is_usual = width * height > 0 and (limit is None or width * height <= limit)
    return (height, width) if is_usual else None
