"""The figures of a report: Dice per time step, order of prediction, and memory.

Tables and figures are numbered as in Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from acis_env.rendering import colour_by_order, colour_instances, contact_sheet, plot_curves, write_png
from agents.experiments.markdown import number, table
from agents.experiments.methods import PAPER_REFERENCE, LabelOrder
from agents.experiments.plots import Curve, draw_plots, plotted
from agents.experiments.results import Result, Results, order_interval
from agents.experiments.statistics import Interval


def figure_3(results: Results) -> str:
    """Dice of the mask of every time step, and its difference to the paper's reference."""
    curves = {method: _over_steps(results, method) for method in results.cells}
    gaps = {method: gap for method in results.cells if (gap := _gap_per_step(results, method)) is not None}
    longest = len(next(iter(curves.values()))[0])
    counts = results.first()["rows"]["agent"]["scenes_at_step"]
    header = ["", *(f"t = {t + 1}" for t in range(longest))]
    rows = [["scenes", *map(str, counts)], *([name, *map(str, curve[1])] for name, curve in curves.items())]
    difference = f"Difference to {PAPER_REFERENCE}"
    parts = [
        "## Figure 3: Dice per time step",
        *draw_plots(results, "dice_per_step", curves, "step", "Dice of the mask", "Dice per time step"),
        table(header, rows),
    ]
    if gaps:
        parts += [
            *draw_plots(results, "dice_difference", gaps, "step", f"Dice minus that of {PAPER_REFERENCE}", difference),
            table(header, [[name, *map(str, gap[1])] for name, gap in gaps.items()]),
        ]
    return "\n\n".join(parts)


def _dice_at(t: int) -> Callable[[Result], float]:
    """A function that reads the mean Dice of step `t` from a result."""
    return lambda result: float(result["rows"]["agent"]["dice_at_step"][t])


def _over_steps(results: Results, method: str) -> Curve:
    """Dice at every step."""
    longest = len(results.first(method)["rows"]["agent"]["dice_at_step"])
    return np.arange(1.0, longest + 1), [results.interval(method, _dice_at(t)) for t in range(longest)]


def _gap_per_step(results: Results, method: str) -> Curve | None:
    """Paired difference to the paper's reference at every step."""
    steps, _ = _over_steps(results, method)
    gaps = [results.paired(method, PAPER_REFERENCE, _dice_at(t)) for t in range(len(steps))]
    return None if method == PAPER_REFERENCE or None in gaps else (steps, cast(list[Interval], gaps))


def figure_4(results: Results, label_order: LabelOrder | None) -> str:
    """Predictions coloured by their order, and its rank correlation with size and with what labels say."""
    titles = {"size": "size"} | ({} if label_order is None else {"label": label_order.title})
    rows = [[method, *(str(order_interval(results, method, n) or "") for n in titles)] for method in results.cells]
    text = "Below zero: large instances first."
    if label_order is not None:
        text += f"\n{label_order.note}"
    images = "\n\n".join(_draw_order(results))
    return f"""## Figure 4: order of prediction

Blue is the first prediction of a scene, red the last; own stopping, each method's first seed.

{images}

Spearman's rank correlation of the order with properties of the instances found (Dice at least 0.5), mean over scenes
with three of them. {text}

{table(["", *titles.values()], rows)}"""


def _draw_order(results: Results) -> list[str]:
    """Draw the scenes beside what every method predicts, coloured by order; returns the links to the pictures."""
    with np.load(results.folder / "scenes.npz") as scenes:
        indices = sorted(int(name.removeprefix("image-")) for name in scenes if name.startswith("image-"))
        given = [[scenes[f"image-{i}"].transpose(1, 2, 0), colour_instances(scenes[f"truth-{i}"])] for i in indices]
    pictures = []
    for suffix, methods in plotted(results).items():
        sheet = [list(row) for row in given]
        for method in methods:
            path = results.folder / method / f"seed-{min(results.cells[method])}" / "label_maps.npz"
            with np.load(path) as label_maps:
                for row, index in zip(sheet, indices, strict=True):
                    row.append(colour_by_order(label_maps[f"label-{index}"]))
        name = f"order{suffix}.png"
        write_png(results.folder / name, contact_sheet(sheet, ["image", "ground truth", *methods], min_panel=128))
        pictures.append(f"![Predictions coloured by order]({name})")
    return pictures


def memory_of_update(results: Results) -> str:
    """Memory of one update by the length of the episodes."""
    memory = results.references["memory"]
    steps = np.array(memory["steps"])
    curves = {name: (steps, np.array(values) / 2**20) for name, values in memory["bytes"].items()}
    plot_curves(results.folder / "memory.png", curves, "steps of the episode", "MiB", "Memory of one update")
    header = ["MiB", *(f"T = {step}" for step in steps)]
    rows = [[name, *(number(value, 0) for value in values)] for name, (_, values) in curves.items()]
    return f"""## Memory

Largest sum of what autograd keeps for the backward pass of one update on {memory["batch_size"]} scenes
of T steps, weights left out; of AC-Dice, that of the hungriest of its parts.

![Memory of one update](memory.png)

{table(header, rows)}"""
