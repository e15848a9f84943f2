"""The cells of an experiment: all combinations of scenes, methods and seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from acis_env.configs import nearest_first
from acis_env.meter import in_words
from agents.experiments.cell import Cell
from agents.experiments.jobs import network_stages
from agents.experiments.methods import METHODS, SCALES, SceneSet, cell_config
from agents.experiments.networks import weights_of

T = TypeVar("T")

SECONDS = {"smoke": 15.0, "quick": 100.0, "medium": 220.0, "small": 1000.0}
"""CPU seconds of a run that trains, by scale, where none has been measured yet: one thread of an AMD EPYC (Zen 5)."""
NETWORKS_SECONDS = 420.0
"""The same for the networks of a set."""


def plan_cells(
    scene_sets: Sequence[SceneSet], methods: Sequence[str], scale: str, seeds: Sequence[int], out: Path, device: str
) -> list[Cell]:
    """All cells, seed by seed, so that an early stop leaves whole seeds.

    Args:
        scene_sets: the scenes, each with its networks.
        methods: names in `METHODS`; if there are none, the methods of the paper.
        scale: name in `SCALES`, how long to train.
        seeds: one run each for every method and set.
        out: folder of everything; a cell's is `<set>/<method>/seed-<seed>` in it.
        device: device to train on.

    Raises:
        ValueError: a name is unknown.
    """
    names = methods or [name for name, method in METHODS.items() if method.rival is None]
    chosen = [pick("method", name, METHODS) for name in names]
    length = pick("scale", scale, SCALES)
    cells = []
    for seed in seeds:
        for scene_set in scene_sets:
            for method in chosen:
                weights = weights_of(scene_set, method.weights, out)
                config = cell_config(scene_set, method, length, weights, seed, device)
                folder = out / scene_set.name / method.name / f"seed-{seed}"
                about = (method.name, method.about, method.weights)
                is_blocked = method.rival is None  # the others' evaluation would cost more than their training
                cells.append(Cell(folder, scene_set, *about, config, length.name, is_blocked))
    return cells


def describe(cells: Sequence[Cell], jobs: int) -> str:
    """The plan as text: a line per set of networks, and per set of scenes and method, and the time that is left."""
    networks = [job for stage in network_stages(cells) for job in stage]
    total = NETWORKS_SECONDS * sum(not job.is_done for job in networks)
    lines = [f"{job.name}: {'done' if job.is_done else in_words(NETWORKS_SECONDS) + ', assumed'}" for job in networks]
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.scene_set.name, cell.method), []).append(cell)
    for (scenes, method), own in rows.items():
        done = [json.loads(cell.result.read_text())["cpu_seconds"] for cell in own if cell.is_done]
        seconds = sum(done) / len(done) if done else SECONDS[own[0].scale]
        left = len(own) - len(done)
        total += seconds * left
        cost = f", {in_words(seconds)} each ({'measured' if done else 'assumed'})" if left else ""
        lines.append(f"{scenes}/{method}: {len(done)} of {len(own)} done{cost}")
    waiting = sum(not cell.is_done for cell in cells)
    together = in_words(total / max(jobs, 1))
    lines.append(
        f"{waiting} of {len(cells)} runs to do: {in_words(total)} of CPU time, about {together} with {jobs} at a "
        f"time, evaluations not counted"
    )
    return "\n".join(lines)


def pick(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The entry `name` of `known`.

    Raises:
        ValueError: there is none; the message lists those that there are, the nearest first.
    """
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}: expected one of {', '.join(nearest_first(name, known))}")
    return known[name]
