"""The jobs of `acis reproduce`: which may run at the same time, whose results are in a folder, and how one is run.

Each job has a folder, a configuration that decides its result, and a result file that is written at the very end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from acis_env.files import write_json
from acis_env.folders import claimed
from agents.experiments.cell import Cell
from agents.experiments.methods import Variant
from agents.experiments.networks import Networks, weights_of
from agents.experiments.provenance import commit, commits_of
from agents.experiments.references import References
from agents.experiments.results import check_version, differences

Job = Networks | References | Cell


def stages(cells: Sequence[Cell]) -> Iterator[list[Job]]:
    """Jobs that may run at the same time: networks, those that share a context network, references, cells."""
    networks: dict[Path, Networks] = {}
    weights: dict[str, dict[Variant, str]] = {}
    for cell in cells:
        weights.setdefault(cell.scene_set.name, {})[cell.variant] = cell.weights
        if cell.variant not in cell.scene_set.weights:
            out = cell.folder.parents[2]
            shared = None if cell.variant == "standard" else weights_of(cell.scene_set, "standard", out)
            folder, source = Path(cell.weights), cell.scene_set.whole or cell.scene_set
            networks[folder] = Networks(folder, source, cell.variant, shared)
            if shared is not None and "standard" not in cell.scene_set.weights:
                networks.setdefault(Path(shared), Networks(Path(shared), source, "standard", None))
    yield [job for job in networks.values() if job.context_from is None]
    yield [job for job in networks.values() if job.context_from is not None]
    folders = {cell.scene_set.name: (cell.folder.parents[1], cell.scene_set) for cell in cells}
    yield [References(folder, scene_set, weights[name]) for name, (folder, scene_set) in folders.items()]
    yield list(cells)


def check_recorded(jobs: Sequence[Job]) -> None:
    """Make sure that what is in the folders of `jobs` is theirs.

    Raises:
        ValueError: naming the file of another configuration, or of an earlier version, and what differs.
    """
    for job in jobs:
        for path in (job.result, job.folder / "job.json"):
            if path.exists():
                recorded = json.loads(path.read_text())["configuration"]
                check_version(recorded, path)
                found = differences(recorded, job.configuration)
                if found:
                    raise ValueError(f"{path} has another configuration: {'; '.join(found)}; choose another --out")


def run_job(job: Job) -> None:
    """Note what `job` is in its folder, and do it."""
    if isinstance(job, References):  # its folder is that of the cells, and it has nothing to resume
        job.run()
        return
    with claimed(job.folder):
        path, now = job.folder / "job.json", commit()
        before = commits_of(job.folder) if path.exists() else []
        commits = [*before, now] if before[-1:] != [now] else before
        write_json(path, {"configuration": job.configuration, "commits": commits})
        job.run()
