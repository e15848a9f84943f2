"""The experiments of the paper on any scenes, in one command that resumes where it was interrupted.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 6.

A cell is a set of scenes x a method x a seed, in a folder of its own. Cells run in processes with one thread each, so
that their CPU times compare.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from acis_env.allocator import keep_freed_memory
from acis_env.files import write_json
from agents.experiments.jobs import Cell, Job, Networks, References, commit, commits_of, weights_of
from agents.experiments.methods import (
    METHODS,
    SCALES,
    Variant,
    cell_config,
    scene_sets,
    tuning_set,
)
from agents.experiments.report import write_set_report
from agents.experiments.results import differences


class FailedRunsError(RuntimeError):
    """Some of many runs ended in an error."""


@dataclass(frozen=True)
class Reproduce:
    """Run the paper's experiments on sets of scenes, and write a report of each."""

    sets: tuple[str, ...] = ("leaves",)
    """Of "leaves", "leaves-crowded", "bbbc038" (see --bbbc038) and the name of the folder --scenes."""
    methods: tuple[str, ...] = ()
    """Rows of the tables; by default those of the paper. agents/experiments/methods.py lists all."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run each per method."""
    scale: str = "quick"
    """Length of training: "quick" (1.5 to 4 CPU minutes per run), "medium" (from 3), "small" (from 11) or "smoke"."""
    jobs: int = 1
    """Runs at a time, each in a process with one thread."""
    bbbc038: Path | None = None
    """Folder of BBBC038 with subfolders train and val."""
    scenes: Path | None = None
    """Any other folder of scenes with subfolders train and val."""
    tune: bool = False
    """Evaluate on a part of the training scenes instead, to choose settings without a look at the evaluated split."""
    report_only: bool = False
    """Run nothing, and write the reports of the results that there are."""
    out: Path = Path("runs/reproduce")
    """Folder of runs, pre-trained weights and reports; existing results are kept."""
    device: str = "cpu"
    """Where to train."""

    def run(self) -> None:
        """Run what is missing, then write `OUT/<set>/report.md`.

        Raises:
            ValueError: an unknown name, or a result in OUT that has another configuration.
            FailedRunsError: some failed; the others are finished and reported.
        """
        plan = self._plan()
        failed: list[str] = []
        if not self.report_only:
            if self.jobs < 1:
                raise ValueError(f"--jobs must be at least 1, got {self.jobs}")
            for stage in stages(plan):
                check_recorded(stage)
                failed += run_jobs(stage, self.jobs)
                if failed and not isinstance(stage[0], Cell):
                    break  # without weights there is nothing to run
        for scene_set in {job.scene_set.name: job.scene_set for job in plan}.values():
            if list((self.out / scene_set.name).glob("*/seed-*/result.json")):
                path = write_set_report(self.out / scene_set.name, scene_set.is_stack, self._options())
                print(f"report in {path}")
        if failed:
            raise FailedRunsError(f"failed: {', '.join(failed)}; a file log.txt in the folder says why")

    def _options(self) -> str:
        """What a report has to tell of this command, beside what its results tell."""
        folders = {"bbbc038": self.bbbc038, "scenes": self.scenes, "out": self.out}
        options = [f"--{name} {folder}" for name, folder in folders.items() if folder is not None]
        return " ".join([*options, *(["--tune"] if self.tune else [])])

    def _plan(self) -> list[Cell]:
        """All cells, seed by seed, so that an early stop leaves whole seeds."""
        known = scene_sets(self.bbbc038, self.scenes)
        chosen = [_pick("set", name, known) for name in self.sets]
        names = self.methods or tuple(name for name, method in METHODS.items() if method.rival is None)
        methods = [_pick("method", name, METHODS) for name in names]
        scale = _pick("scale", self.scale, SCALES)
        if self.tune:
            chosen = [tuning_set(scene_set, self.out) for scene_set in chosen]
        cells = []
        for seed in self.seeds:
            for scene_set in chosen:
                for method in methods:
                    weights = weights_of(scene_set, method.weights, self.out)
                    config = cell_config(scene_set, method, scale, weights, seed, self.device)
                    folder = self.out / scene_set.name / method.name / f"seed-{seed}"
                    about = (method.name, method.about, method.weights)
                    is_blocked = method.rival is None  # the others' evaluation would cost more than their training
                    cells.append(Cell(folder, scene_set, *about, config, scale.name, is_blocked))
        return cells


def _pick(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")
    return known[name]


def stages(cells: Sequence[Cell]) -> Iterator[list[Job]]:
    """Jobs that may run at the same time: networks, those that share a context network, references, cells."""
    networks: dict[Path, Networks] = {}
    weights: dict[str, dict[Variant, str]] = {}
    for cell in cells:
        weights.setdefault(cell.scene_set.name, {})[cell.variant] = cell.config.weights
        if cell.variant not in cell.scene_set.weights:
            out = cell.folder.parents[2]
            shared = None if cell.variant == "standard" else weights_of(cell.scene_set, "standard", out)
            folder, source = Path(cell.config.weights), cell.scene_set.whole or cell.scene_set
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
        ValueError: naming the file of another configuration and what differs.
    """
    for job in jobs:
        for path in (job.result, job.folder / "job.json"):
            if path.exists():
                found = differences(json.loads(path.read_text())["configuration"], job.configuration)
                if found:
                    raise ValueError(f"{path} has another configuration: {'; '.join(found)}; choose another --out")


def is_done(job: Job) -> bool:
    """Whether there is nothing left to do; weights may also have been made elsewhere."""
    if isinstance(job, Networks) and not (job.folder / "job.json").exists():
        return (job.folder / "autoencoder.json").exists() and (job.folder / "context.json").exists()
    if isinstance(job, References):
        return not job.missing
    return job.result.exists()


def run_jobs(jobs: Sequence[Job], limit: int) -> list[str]:
    """Run what is not done, `limit` at a time, each in a process of its own; returns the names of those that failed.

    An interruption ends all of them.
    """
    waiting = [job for job in jobs if not is_done(job)]
    total, started = len(waiting), time.monotonic()
    running: dict[object, tuple[Job, SpawnProcess]] = {}
    failed: list[str] = []
    context = multiprocessing.get_context("spawn")
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop(0)
                process = context.Process(target=_work, args=(job,), daemon=True)
                with _one_thread():
                    process.start()
                running[process.sentinel] = job, process
            for sentinel in wait([process.sentinel for _, process in running.values()]):
                job, process = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    failed.append(job.name)
                done = total - len(waiting) - len(running)
                minutes = (time.monotonic() - started) / 60
                state = f"failed, see {job.folder / 'log.txt'}" if process.exitcode else "done"
                print(f"[{done}/{total}, {minutes:.0f} min] {job.name}: {state}", flush=True)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    return failed


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started in here use one thread."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _work(job: Job) -> None:
    """Body of a process: run `job`, with all it prints in a file."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel
    # However the parent ends, nothing goes on without it that a second command would start again.
    threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        run_job(job)


def run_job(job: Job) -> None:
    """Note what `job` is in its folder, and do it."""
    if not isinstance(job, References):  # its folder is that of the cells, and it has nothing to resume
        path, now = job.folder / "job.json", commit()
        before = commits_of(job.folder) if path.exists() else []
        commits = [*before, now] if before[-1:] != [now] else before
        write_json(path, {"configuration": job.configuration, "commits": commits})
    try:
        job.run()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
