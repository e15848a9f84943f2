"""`acis reproduce`: the paper's experiments on any scenes, in one command that resumes where it was interrupted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from acis_env.configs import check_at_least
from acis_env.interruption import naming
from acis_env.networks import check_device
from agents.experiments.cell import Cell
from agents.experiments.methods import scene_sets, tuning_set
from agents.experiments.plan import describe, pick, plan_cells
from agents.experiments.reproduce import run_cells, write_reports
from agents.experiments.running import FailedRunsError
from agents.models.composition import Composition


@dataclass(frozen=True)
class Reproduce:
    """Run the paper's experiments on sets of scenes, and write a report of each."""

    sets: tuple[str, ...] = ("leaves",)
    """Sets of scenes: "leaves", "leaves-crowded", "leaves-224", "cars", "cars-256x768", "bbbc038" or "bbbc038-224"
    (see --bbbc038), or the name of the folder --scenes."""
    methods: tuple[str, ...] = ()
    """Methods to run, by their names in the tables; by default those of the paper. agents/experiments/methods.py
    lists all."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the runs; every method is run once with each."""
    scale: str = "quick"
    """Length of training: "quick" (1.5 to 4 CPU minutes per run), "medium" (from 3), "small" (from 11) or "smoke"."""
    jobs: int = 1
    """Number of runs at a time, each in a process with one thread."""
    bbbc038: Path | None = None
    """Folder of BBBC038 with subfolders train and val."""
    scenes: Path | None = None
    """Folder of any other scenes with subfolders train and val."""
    fill: float | None = None
    """Distance of filling of all label maps, in pixels at the size of the networks, the same in every row; by default
    that of the set. See `acis evaluate --fill chosen`."""
    tune: bool = False
    """Evaluate on a part of the training scenes instead, to choose settings without a look at the evaluated split."""
    report_only: bool = False
    """Run nothing, and write the reports of the results that there are."""
    out: Path = Path("runs/reproduce")
    """Folder of runs, pre-trained weights and reports; existing results are kept."""
    device: str = "cpu"
    """Device to train on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Run what is missing, then write `OUT/<set>/report.md`.

        Raises:
            ValueError: an unknown name, or a result in OUT that has another configuration.
            FailedRunsError: some failed; the others are finished and reported.
        """
        check_device(self.device)
        check_at_least(0, self, "seeds")
        cells = self._plan()
        failed = [] if self.report_only else self._run(cells)
        write_reports(cells, self.out, self._options())
        if failed:
            raise FailedRunsError(f"failed: {', '.join(failed)}; a file log.txt in the folder says why")

    def _run(self, cells: list[Cell]) -> list[str]:
        """Print the plan and run what is missing; returns the names of those that failed."""
        check_at_least(1, self, "jobs")
        print(describe(cells, self.jobs), flush=True)
        with naming(self.out):
            return run_cells(cells, self.jobs)

    def _plan(self) -> list[Cell]:
        known = scene_sets(self.bbbc038, self.scenes)
        chosen = [pick("set", name, known) for name in self.sets]
        if self.fill is not None:
            chosen = [replace(scene_set, fill=Composition(fill=self.fill).fill) for scene_set in chosen]
        if self.tune:
            chosen = [tuning_set(scene_set, self.out) for scene_set in chosen]
        return plan_cells(chosen, self.methods, self.scale, self.seeds, self.out, self.device)

    def _options(self) -> str:
        """Options that a report has to name, beside those that follow from its results."""
        folders = {"bbbc038": self.bbbc038, "scenes": self.scenes, "out": self.out}
        options = [f"--{name} {folder}" for name, folder in folders.items() if folder is not None]
        options += [] if self.fill is None else [f"--fill {self.fill:g}"]
        return " ".join([*options, *(["--tune"] if self.tune else [])])
