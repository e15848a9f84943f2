"""`acis segment`: label maps and overlays of image files."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from acis_env.configs import check_at_least
from acis_env.files import replacing
from acis_env.networks import check_device
from acis_env.pictures import FORMATS, Reading
from acis_env.rendering import overlay
from agents.models.agent import Agent
from agents.models.outcomes import choose_among
from agents.models.segmentation import Segmentation

LABEL, OVERLAY, MASKS = "_label.png", "_overlay.png", "_masks.npz"
"""Ends of the names of what is written."""
MARK = "acis segment"
"""What the files that are written say of the software that made them, by which they are told from pictures."""


@dataclass(frozen=True)
class Segment:
    """Segment images: writes `<name>_label.png` (16-bit, 0 = background) and `<name>_overlay.png`.

    Label maps and overlays of an earlier call, or of another image given, are left out.
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, of any size; folders, of which all images are taken; and patterns such as "plants/*.png"."""
    agent: Path
    """Folder of a run, a file `agent.pt`, or the name of an agent that comes with the package, such as leaves-64."""
    out: Path
    """Folder of the pictures."""
    masks: bool = False
    """Also write `<name>_masks.npz`, whose array `masks` [T, h, w] bool are all masks in the order of prediction, with
    what others take from them in the label map: 1 MB in memory for each of a picture of 1000x1000."""
    overwrite: bool = False
    """Replace files that are in the folder already."""
    page: int | None = None
    """Page to segment of images that have several, from 0."""
    percentiles: tuple[float, float] | None = None
    """Percentiles of an image's own values that become black and white, such as 0.1 99.9, for 16 and 32 bits or floats;
    by default the full range of the type."""
    scale: float | Literal["auto"] | None = None
    """Factor on the sides of the images, out of which windows of the networks' size are then cut; "auto": the one at
    which objects look as large as in training; by default the agent's preprocessing."""
    overlap: float | None = None
    """Least share of a window that it has in common with its neighbour, from 0 to 0.75; by default a half where a scale
    is given, else the agent's own."""
    max_steps: int | None = None
    """Largest number of instances per image, or per window if there are several; by default the agent's."""
    episodes: int | None = None
    """Number of episodes to choose from, for agents that do so: the more, the better and the slower; by default the
    agent's."""
    device: str = "cpu"
    """Device to run on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Segment every image, of which no more than one is in memory.

        Raises:
            ValueError: there are no images, two of one name, one that cannot be read, or a file that would be replaced.
            FileNotFoundError: an image is missing.
        """
        check_device(self.device)
        check_at_least(1, self, "max_steps")
        reading = Reading(self.percentiles, self.page)
        given = find_images(self.images)
        stems = {path.stem for path in given}
        images = []
        for path in given:
            if is_output(path, stems):
                print(f"{path}: left out, since it is a label map or an overlay")
            else:
                images.append(path)
        check_names(images)
        # Before any work: all of them or none.
        places = {_place(path) for path in given}
        for path in images:
            reading.size(path)
            self._check_free(path, places)
        agent = Agent.load(self.agent, self.device)
        agent.outcomes = choose_among(agent.outcomes, self.episodes, self.agent)
        for path in tqdm(images, desc="segmenting", disable=None):  # no bar where nobody sees it
            picture = reading.picture(path)
            try:
                # Channels first: a picture three pixels high is not taken for one that lies on its side.
                channels = picture.transpose(2, 0, 1)
                result = agent.segment(channels, self.max_steps, scale=self.scale, overlap=self.overlap)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            label_out, picture_out, *masks_out = self._outputs(path)
            if len(result) > np.iinfo(np.uint16).max:
                raise ValueError(f"{path}: a label map of 16 bits holds 65535 instances, got {len(result)}")
            write_marked(label_out, result.label_map.astype(np.uint16))
            write_marked(picture_out, overlay(picture.transpose(2, 0, 1), result.label_map))
            for file in masks_out:
                with replacing(file) as unfinished, unfinished.open("wb") as stream:
                    np.savez_compressed(stream, masks=result.masks)
            end = "stopped by itself" if result.stopped else "stopped by the cap on steps"
            tqdm.write(f"{path}: {_count(result)}, {end}; {picture_out}")

    def _outputs(self, path: Path) -> list[Path]:
        """The label map and the overlay of an image, and the masks if they are asked for."""
        ends = (LABEL, OVERLAY, *([MASKS] if self.masks else []))
        return [self.out / f"{path.stem}{end}" for end in ends]

    def _check_free(self, path: Path, places: Set[object]) -> None:
        """Make sure that no output of an image replaces one in `places`, nor without `overwrite` another file."""
        for output in self._outputs(path):
            is_given = output.exists() and _place(output) in places
            if is_given and not _is_marked(output):
                raise ValueError(f"{output} is one of the images, and would be replaced: choose another --out")
            if output.exists() and not self.overwrite:
                raise ValueError(f"{output} exists: choose another --out, or pass --overwrite to replace it")


def _count(result: Segmentation) -> str:
    """How many masks there are, and of how many of them others leave something in the label map."""
    return f"{_plural(len(result), 'mask')}, {_plural(len(result.order), 'instance')} left after overlaps"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def find_images(given: Sequence[Path]) -> list[Path]:
    """Files, those in folders that have the name of an image, and those that match patterns; each once.

    Raises:
        ValueError: a folder has no images, or nothing matches a pattern.
    """
    endings = {end for end, name in Image.registered_extensions().items() if name in FORMATS}
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in endings and file.is_file())
            if not inside:
                raise ValueError(f"{path}: expected images in this folder, found none")
            found += inside
        elif not path.exists() and glob.has_magic(str(path)):
            matching = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
            if not matching:
                raise ValueError(f"{path}: expected images of such names, found none")
            found += [file for file in matching if file.is_file()]
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _place(path: Path) -> object:
    """Where a file is on its disk, the same by all of its names; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_output(path: Path, stems: Set[str]) -> bool:
    """Whether `path` is a label map or an overlay: one that an earlier call wrote, or by its name one of an image whose
    stem is in `stems`."""
    for end in (LABEL, OVERLAY):
        if path.name.lower().endswith(end):
            name = path.name[: -len(end)]
            return name in stems or _is_marked(path)
    return False


def check_names(images: Sequence[Path]) -> None:
    """Make sure that there are images, whose results do not overwrite each other.

    Raises:
        ValueError: no images, or two of the same name.
    """
    if not images:
        raise ValueError("give at least one image to segment")
    counts = Counter(path.stem.lower() for path in images)
    for path in images:
        if counts[path.stem.lower()] > 1:
            raise ValueError(f"{path}: another image is named {path.stem!r}, too; segment it into another --out")


def write_marked(path: Path, pixels: NDArray[Any]) -> None:
    """Write pixels `[H, W]` uint16 or `[H, W, 3]` uint8 as PNG, with the mark of this command."""
    mark = PngInfo()
    mark.add_text("Software", MARK)
    with replacing(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="PNG", pnginfo=mark, compress_level=3)


def _is_marked(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get("Software") == MARK
    except Exception:  # whatever it is, its reading will tell
        return False
