"""The plan of a benchmark: its cells, what is done, and how long the rest will take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from acis_env.meter import in_words
from agents.benchmark.cell import Cell
from agents.benchmark.contender import Contender, Task
from agents.benchmark.folder import FolderAgent
from agents.benchmark.pictured import Pictured
from agents.experiments.jobs import Job, network_stages
from agents.experiments.methods import SCALES, SceneSet
from agents.experiments.networks import weights_of
from agents.experiments.plan import NETWORKS_SECONDS, SECONDS, pick

UNTRAINED_SECONDS = 20.0
"""CPU seconds of a cell that does not train, where none has been measured yet."""


def plan_cells(
    sets: Sequence[SceneSet],
    agents: Mapping[str, Contender],
    budget: str,
    seeds: Sequence[int],
    out: Path,
    device: str = "cpu",
    processes: int = 1,
) -> list[Cell]:
    """All cells, seed by seed, so that an early stop leaves whole seeds; agents without randomness have seed 0 alone.

    Raises:
        ValueError: the budget is unknown, or an agent has none of that name.
    """
    pick("budget", budget, SCALES)
    cells = []
    for place, seed in enumerate(seeds):
        for scene_set in sets:
            for name, agent in agents.items():
                if agent.is_seeded or place == 0:
                    own_seed = seed if agent.is_seeded else 0
                    folder = out / scene_set.name / name / f"seed-{own_seed}"
                    weights = "" if agent.variant is None else weights_of(scene_set, agent.variant, out)
                    task = Task(folder, scene_set, weights, budget, own_seed, device, processes)
                    cells.append(Cell(task, name, agent))
    return cells


def check_networks(cells: Sequence[Cell]) -> dict[tuple[str, str], str]:
    """Make sure that finished cells had the networks that the others will have, where these are there.

    Returns:
        Checksums of these networks, by set and kind.

    Raises:
        ValueError: naming the result and the networks.
    """
    known: dict[tuple[str, str], str] = {}
    for cell in cells:
        if cell.variant is None or (own := cell.networks_sum) is None:
            continue
        known[cell.scene_set.name, cell.variant] = own
        if cell.is_done and json.loads(cell.result.read_text()).get("networks_sum", own) != own:
            raise ValueError(
                f"{cell.result} was made with other networks than those in {cell.weights} now: choose another --out"
            )
    return known


def stages(cells: Sequence[Cell]) -> Iterator[Sequence[Job]]:
    """Jobs that may run at the same time: networks, those that share a context network, kept scenes, cells."""
    yield from network_stages(cells)
    out = cells[0].folder.parents[2]
    sets: dict[str, list[Cell]] = {}
    for cell in cells:
        sets.setdefault(cell.scene_set.name, []).append(cell)
    yield [_pictured(out / name, own) for name, own in sets.items()]
    yield cells


def _pictured(folder: Path, cells: Sequence[Cell]) -> Pictured:
    """The job of keeping scenes of the set of `cells`, at the size of its networks, or of the first agent's own."""
    scene_set, agent = cells[0].scene_set, cells[0].agent
    own = agent if isinstance(agent, FolderAgent) and all(cell.variant is None for cell in cells) else None
    return Pictured(folder, scene_set, weights_of(scene_set, "standard", folder.parent), own)


def describe(cells: Sequence[Cell], jobs: int) -> str:
    """The plan as text: a line per set and agent, and the time that is left."""
    networks = [job for stage in network_stages(cells) for job in stage]
    missing = [job for job in networks if not job.is_done]
    measured = measured_seconds(cells)
    lines = [f"{job.name}: {'done' if job.is_done else in_words(NETWORKS_SECONDS) + ', assumed'}" for job in networks]
    total = NETWORKS_SECONDS * len(missing)
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.scene_set.name, cell.agent_name), []).append(cell)
    for (scenes, name), own in rows.items():
        left = [cell for cell in own if not cell.is_done]
        seconds, source = estimate(own[0], measured)
        total += seconds * len(left)
        cost = f", {in_words(seconds)} each ({source})" if left else ""
        lines.append(f"{scenes}/{name}: {len(own) - len(left)} of {len(own)} done{cost}")
    waiting = sum(not cell.is_done for cell in cells)
    together = in_words(total / max(jobs, 1))
    lines.append(
        f"{waiting} of {len(cells)} cells to run: {in_words(total)} of CPU time, about {together} with {jobs} at a time"
    )
    return "\n".join(lines)


def estimate(cell: Cell, measured: Mapping[tuple[str, str], float]) -> tuple[float, str]:
    """CPU seconds of a cell, and where the number comes from: this agent on this set, on another one, or a guess."""
    key = (cell.scene_set.name, cell.agent_name)
    if key in measured:
        return measured[key], "measured"
    others = [seconds for (_, name), seconds in measured.items() if name == cell.agent_name]
    if others:
        return max(others), "measured on another set"
    trains = cell.agent.kind == "agent" and cell.agent.is_seeded
    return (SECONDS[cell.task.budget] if trains else UNTRAINED_SECONDS), "assumed"


def measured_seconds(cells: Sequence[Cell]) -> dict[tuple[str, str], float]:
    """Mean CPU seconds of the finished cells by set and agent."""
    found: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        if cell.is_done:
            result: dict[str, Any] = json.loads(cell.result.read_text())
            seconds = result["total_seconds"]
            found.setdefault((cell.scene_set.name, cell.agent_name), []).append(seconds)
    return {key: sum(values) / len(values) for key, values in found.items()}
