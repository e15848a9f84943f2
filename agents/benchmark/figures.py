"""Pictures of a benchmark's report, small enough to be kept with the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from acis_env.files import replacing
from acis_env.rendering import colour_by_order, colour_instances, contact_sheet, write_png
from agents.benchmark.results import SetResults
from agents.experiments.bootstrap import LEVELS
from agents.experiments.plots import Curve, plot_intervals
from agents.experiments.results import Result
from agents.experiments.statistics import Interval, mean_interval

NUM_SCENES = 3
"""Number of scenes on a contact sheet."""
NUM_COLOURS = 128
"""Number of colours that a picture keeps."""


def draw_dice_per_step(results: SetResults, folder: Path) -> Path:
    """Draw the mean Dice of the mask of every step; returns the file."""
    path = folder / f"{results.name}-dice.png"
    curves = {name: _curve(list(cells.values())) for name, cells in results.cells.items()}
    plot_intervals(path, curves, "step", "Dice of the mask", f"Dice per step, {results.name}, 95 % intervals", dpi=90)
    reduce_colours(path)
    return path


def _curve(cells: list[Result]) -> Curve:
    """Dice at every step, over seeds."""
    values = [result["rows"]["agent"]["dice_at_step"] for result in cells]
    longest = min(map(len, values))
    return np.arange(1.0, longest + 1), [mean_interval([own[t] for own in values]) for t in range(longest)]


def draw_profiles(profiles: Mapping[str, Sequence[Interval]], name: str, folder: Path) -> Path:
    """Draw performance profiles, by agent, of the sets of scenes called `name`; returns the file."""
    path = folder / f"{name}-profile.png"
    curves = {agent: (LEVELS, list(profile)) for agent, profile in profiles.items()}
    title = f"Performance profile, {name}, 95 % intervals"
    plot_intervals(path, curves, "SBD", "share of scenes above", title, dpi=90)
    reduce_colours(path)
    return path


def draw_order(results: SetResults, folder: Path) -> Path:
    """Draw scenes beside what every agent predicts, coloured by order; returns the file."""
    path = folder / f"{results.name}-order.png"
    with np.load(results.folder / "scenes.npz") as scenes:
        indices = sorted(int(name.removeprefix("image-")) for name in scenes if name.startswith("image-"))[:NUM_SCENES]
        rows = [[scenes[f"image-{i}"].transpose(1, 2, 0), colour_instances(scenes[f"truth-{i}"])] for i in indices]
    names = results.by_score()
    for name in names:
        with np.load(results.folder / name / f"seed-{min(results.cells[name])}" / "label_maps.npz") as label_maps:
            for row, index in zip(rows, indices, strict=True):
                row.append(colour_by_order(label_maps[f"label-{index}"]))
    write_png(path, contact_sheet(rows, ["image", "ground truth", *names], min_panel=96))
    reduce_colours(path)
    return path


def reduce_colours(path: Path) -> None:
    """Write a picture again with a palette, in a fraction of the bytes."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(NUM_COLOURS)
    with replacing(path) as unfinished:
        small.save(unfinished, format="PNG", optimize=True)
