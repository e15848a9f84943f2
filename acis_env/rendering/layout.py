"""Pictures and lines of text, side by side and one below the other."""

from __future__ import annotations

import cv2
import numpy as np

from acis_env.rendering.colours import Picture

PAPER, INK, SOFT_INK = (255, 255, 255), (20, 20, 20), (95, 95, 95)
GAP = 6  # px between panels


def enlarge(picture: Picture, min_panel: int) -> Picture:
    """`picture` with every pixel as a square, the smallest that makes it at least `min_panel` high."""
    factor = max(1, -(-min_panel // picture.shape[0]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def extend(picture: Picture, height: int, width: int) -> Picture:
    """`picture` in the upper left corner of a sheet `[height, width, 3]`."""
    sheet = blank(height, width)
    sheet[: picture.shape[0], : picture.shape[1]] = picture
    return sheet


def blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), PAPER, np.uint8)


def beside(*pictures: Picture) -> Picture:
    """Pictures from left to right with gaps, tops aligned."""
    height = max(picture.shape[0] for picture in pictures)
    parts = [blank(height, GAP)] * (2 * len(pictures) - 1)
    parts[::2] = [extend(picture, height, picture.shape[1]) for picture in pictures]
    return np.concatenate(parts, axis=1)


def below(*pictures: Picture) -> Picture:
    """Pictures from top to bottom with gaps, left sides aligned."""
    return beside(*(picture.transpose(1, 0, 2) for picture in pictures)).transpose(1, 0, 2)


def on_page(picture: Picture) -> Picture:
    """`picture` with a margin; height and width are even."""
    height, width = picture.shape[0] + 2 * GAP, picture.shape[1] + 2 * GAP
    page = blank(height + height % 2, width + width % 2)
    page[GAP : GAP + picture.shape[0], GAP : GAP + picture.shape[1]] = picture
    return page


def text(*lines: str, width: int, height: int, colour: tuple[int, int, int] = INK) -> Picture:
    """A strip `[h, width, 3]` of lines of text in a size that suits panels of `height`; softer from the second on.

    Lines that are too long get smaller letters; the height of the strip does not depend on what they say.
    """
    size = min(max(height / 400, 0.45), 0.9)
    line_height = round(38 * size)
    strip = blank(line_height * len(lines), width)
    for index, line in enumerate(lines):
        (line_width, _), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        fitted = size * min(1.0, max(width - 4, 1) / max(line_width, 1))
        start = (0, round((index + 0.72) * line_height))
        ink = colour if index == 0 else SOFT_INK
        cv2.putText(strip, line, start, cv2.FONT_HERSHEY_SIMPLEX, fitted, ink, 1, cv2.LINE_AA)
    return strip
