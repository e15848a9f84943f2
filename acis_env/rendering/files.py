"""Pictures as PNG, frames as GIF."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from acis_env.files import replacing
from acis_env.rendering.pictures import Picture, check_picture


def write_png(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write a picture `[H, W, 3]` uint8 as PNG.

    The folder is created. The file appears complete or not at all; an older one stays until then.

    Raises:
        ValueError: `picture` is not `[H, W, 3]` uint8, or has no pixels.
    """
    check_picture("picture", picture)
    with replacing(path) as unfinished:
        Image.fromarray(picture).save(unfinished, format="PNG")


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


def _quantised(frames: Sequence[Picture]) -> list[Image.Image]:
    """Frames with one palette and no dither, so that what stands still neither flickers nor is stored again."""
    sample = np.concatenate([frame[::2, ::2] for frame in frames])
    palette = Image.fromarray(sample).quantize(256, method=Image.Quantize.MAXCOVERAGE)
    return [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
