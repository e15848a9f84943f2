"""Tables, files and pictures of evaluations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from acis_env.episode_source import EpisodeSource
from acis_env.files import write_json
from acis_env.rendering import Picture, colour_by_order, colour_instances, contact_sheet, plot_curves, write_png
from agents.evaluation.evaluation import Conditions, Evaluation
from agents.evaluation.variants import variant_names
from agents.evaluation.whole_pictures import WholePictures

TABLE = ("sbd", "abs_dic", "sbd_gt_stop", "dice_star", "fbd", "mucov", "mwcov", "avg_fp", "avg_fn")
"""Measures of the printed table."""
CONDITIONS = tuple(field.name for field in fields(Conditions))
"""Its last columns, which say how each row was measured."""


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """The evaluations as an aligned text table, one row each."""
    width = max(len(e.name) for e in evaluations)
    columns = (*TABLE, *variant_names(evaluations[0].mean), *CONDITIONS)
    widths = [max(len(column), 11) for column in columns]
    lines = ["  ".join([" " * width, *(f"{column:>{wide}}" for column, wide in zip(columns, widths, strict=True))])]
    for evaluation in evaluations:
        values = {name: f"{value:.3f}" for name, value in evaluation.mean.items()}
        values |= {name: str(value) for name, value in asdict(evaluation.conditions).items()}
        cells = [f"{values[column]:>{wide}}" for column, wide in zip(columns, widths, strict=True)]
        lines.append("  ".join([f"{evaluation.name:<{width}}", *cells]))
    return "\n".join(lines)


def write_report(
    folder: str | os.PathLike[str], evaluations: Sequence[Evaluation], source: EpisodeSource, about: Mapping[str, Any]
) -> None:
    """Write `evaluation.json`, `dice_per_step.png`, if there was anything to find, and `scenes.png` into `folder`."""
    folder = Path(folder)
    rows = {
        e.name: {**asdict(e.conditions), "mean": e.mean, "dice_at_step": e.dice_at_step(), "scenes": e.scenes}
        for e in evaluations
    }
    write_json(
        folder / "evaluation.json", {"about": dict(about), "num_scenes": len(evaluations[0].scenes), "rows": rows}
    )
    curves = {e.name: (np.arange(1, len(e.dice_at_step()) + 1), np.array(e.dice_at_step())) for e in evaluations}
    curves = {name: curve for name, curve in curves.items() if len(curve[0])}
    if curves:
        title = "Dice per step, true count (Fig. 3)"
        plot_curves(folder / "dice_per_step.png", curves, "step", "Dice of the mask", title)
    shown = [e for e in evaluations if e.label_maps]
    if shown:
        write_png(folder / "scenes.png", scene_sheet(shown, source))


def scene_sheet(evaluations: Sequence[Evaluation], source: EpisodeSource) -> Picture:
    """Contact sheet: image, ground truth, and each evaluation's label map coloured by order (as Fig. 4)."""
    rows, pictures = [], WholePictures(source)
    for index in evaluations[0].label_maps:
        scene = pictures.scene(index)
        count = max(scene.num_instances, 1)
        predictions = [colour_by_order(e.label_maps[index], max(count, e.label_maps[index].max())) for e in evaluations]
        rows.append([scene.image.transpose(1, 2, 0), colour_instances(scene.require_label_map()), *predictions])
    return contact_sheet(rows, ["image", "ground truth", *(e.name for e in evaluations)], min_panel=128)
