"""The experiments of the paper on any scenes, which resume where they were interrupted.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 6. A cell is a set of scenes x a method x a
seed, in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.experiments.cell import Cell
from agents.experiments.jobs import Job, network_stages
from agents.experiments.methods import Variant
from agents.experiments.processes import Processes
from agents.experiments.references import References
from agents.experiments.report import write_set_report
from agents.experiments.running import run_stages


def run_cells(cells: Sequence[Cell], limit: int) -> list[str]:
    """Run `cells` and the jobs that they need, `limit` at a time; returns the names of those that failed.

    Raises:
        ValueError: `limit` is below 1, or a folder holds a result of another configuration.
    """
    if limit < 1:
        raise ValueError(f"--jobs must be at least 1, got {limit}")
    with Processes(limit) as executor:
        return run_stages(_stages(cells), executor)


def _stages(cells: Sequence[Cell]) -> Iterator[Sequence[Job]]:
    """Jobs that may run at the same time: networks, those that share a context network, references, cells."""
    yield from network_stages(cells)
    weights: dict[str, dict[Variant, str]] = {}
    for cell in cells:
        weights.setdefault(cell.scene_set.name, {})[cell.variant] = cell.weights
    folders = {cell.scene_set.name: (cell.folder.parents[1], cell.scene_set) for cell in cells}
    yield [References(folder, scene_set, weights[name]) for name, (folder, scene_set) in folders.items()]
    yield cells


def write_reports(cells: Sequence[Cell], out: Path, options: str) -> None:
    """Write `report.md` for every set of `cells` that has results in `out`, and name it.

    Args:
        cells: the plan.
        out: folder of everything.
        options: options of the command that made the results, beside what the results tell.
    """
    for scene_set in {cell.scene_set.name: cell.scene_set for cell in cells}.values():
        if list((out / scene_set.name).glob("*/seed-*/result.json")):
            path = write_set_report(out / scene_set.name, scene_set.label_order, options)
            print(f"report in {path}")
