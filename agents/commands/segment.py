"""`acis segment`: label maps and overlays of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image, UnidentifiedImageError

from acis_env.configs import check_at_least
from acis_env.files import replacing
from acis_env.networks import check_device
from acis_env.rendering import Picture, overlay, write_png
from agents.models.agent import Agent, Segmentation


@dataclass(frozen=True)
class Segment:
    """Segment images: writes `<name>_label.png` (16-bit, 0 = background) and `<name>_overlay.png`."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, of any size."""
    agent: Path
    """Folder of a run, or a file `agent.pt`."""
    out: Path
    """Folder of the pictures."""
    max_steps: int | None = None
    """Largest number of instances per image; by default the agent's."""
    device: str = "cpu"
    """Device to run on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Segment every image.

        Raises:
            ValueError: there are no images, two of one name, or one that cannot be read.
            FileNotFoundError: an image is missing.
        """
        check_device(self.device)
        check_at_least(1, self, "max_steps")
        check_names(self.images)
        pictures = [read_image(path) for path in self.images]  # before any work: all of them or none
        agent = Agent.load(self.agent, self.device)
        for path, picture in zip(self.images, pictures, strict=True):
            result = agent.segment(picture, self.max_steps)
            with replacing(self.out / f"{path.stem}_label.png") as unfinished:
                Image.fromarray(result.label_map.astype(np.uint16)).save(unfinished, format="PNG")
            picture_out = self.out / f"{path.stem}_overlay.png"
            write_png(picture_out, overlay(picture.transpose(2, 0, 1), result.label_map))
            end = "stopped by itself" if result.stopped else "stopped by the cap on steps"
            print(f"{path}: {_count(result)}, {end}; {picture_out}")


def _count(result: Segmentation) -> str:
    """How many masks there are, and of how many of them others leave something in the label map."""
    return f"{_plural(len(result.masks), 'mask')}, {_plural(len(result.order), 'instance')} left after overlaps"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_names(images: Sequence[Path]) -> None:
    """Make sure that there are images, whose results do not overwrite each other.

    Raises:
        ValueError: no images, or two of the same name.
    """
    if not images:
        raise ValueError("give at least one image to segment")
    for path in images:
        if sum(other.stem == path.stem for other in images) > 1:
            raise ValueError(f"{path}: another image is named {path.stem!r}, too; segment it into another --out")


def read_image(path: Path) -> Picture:
    """Read an image file as RGB `[h, w, 3]` uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error
