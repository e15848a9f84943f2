"""Jobs of `acis reproduce` and `acis benchmark`: whose results a folder holds, which networks come first, how one runs.

Each job has a folder, a configuration that decides its result, and a result file that is written at the very end.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from acis_env.allocator import keep_freed_memory
from acis_env.files import write_json
from acis_env.folders import claimed
from agents.experiments.methods import SceneSet, Variant
from agents.experiments.networks import Networks, weights_of
from agents.experiments.provenance import commit, commits_of
from agents.experiments.results import check_version, differences


class Job(Protocol):
    """A piece of work that leaves a result in a folder."""

    @property
    def folder(self) -> Path:
        """Folder of all that the job writes."""

    @property
    def name(self) -> str:
        """Name of the job in messages."""

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the result."""

    @property
    def result(self) -> Path:
        """File that is written at the very end."""

    @property
    def is_done(self) -> bool:
        """Whether the result is there."""

    @property
    def is_resumable(self) -> bool:
        """Whether the folder is the job's own, and holds a record of how it was begun and continued."""

    def run(self) -> None:
        """Do what is missing, and write the result."""


class NeedsNetworks(Protocol):
    """A job in `OUT/<set>/<name>/seed-<seed>` that uses the networks of its set."""

    @property
    def folder(self) -> Path:
        """Folder of all that the job writes."""

    @property
    def scene_set(self) -> SceneSet:
        """Scenes of the job."""

    @property
    def variant(self) -> Variant | None:
        """Which decoder of the set it uses; None: it brings networks of its own."""

    @property
    def weights(self) -> str:
        """Name or folder of the networks."""


def network_stages(cells: Sequence[NeedsNetworks]) -> list[list[Networks]]:
    """Networks to train for `cells`: those that have a context network of their own, then those that take over one."""
    networks: dict[Path, Networks] = {}
    for cell in cells:
        if cell.variant is not None and cell.variant not in cell.scene_set.weights:
            out = cell.folder.parents[2]
            shared = None if cell.variant == "standard" else weights_of(cell.scene_set, "standard", out)
            folder, source = Path(cell.weights), cell.scene_set.whole or cell.scene_set
            networks[folder] = Networks(folder, source, cell.variant, shared)
            if shared is not None and "standard" not in cell.scene_set.weights:
                networks.setdefault(Path(shared), Networks(Path(shared), source, "standard", None))
    first = [job for job in networks.values() if job.context_from is None]
    return [first, [job for job in networks.values() if job.context_from is not None]]


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
    if not job.is_resumable:
        job.run()
        return
    with claimed(job.folder):
        path, now = job.folder / "job.json", commit()
        before = commits_of(job.folder) if path.exists() else []
        commits = [*before, now] if before[-1:] != [now] else before
        write_json(path, {"configuration": job.configuration, "commits": commits})
        job.run()


class FailedJobError(ChildProcessError):
    """A job ended in an error, which is in its log."""


def run_alone(job: Job) -> None:
    """Body of a process that does `job` and nothing else: with one thread, and with all that it prints in `log.txt`.

    Raises:
        FailedJobError: it failed.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            run_job(job)
        except Exception:
            traceback.print_exc()
            raise FailedJobError(f"{job.name} failed, see {job.folder / 'log.txt'}") from None
