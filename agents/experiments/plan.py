"""The cells of an experiment: all combinations of scenes, methods and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from agents.experiments.cell import Cell
from agents.experiments.methods import METHODS, SCALES, SceneSet, cell_config
from agents.experiments.networks import weights_of

T = TypeVar("T")


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


def pick(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The entry `name` of `known`.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")
    return known[name]
