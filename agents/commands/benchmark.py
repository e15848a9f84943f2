"""`acis benchmark`: agents of any kind compared on data sets, in one command that resumes where it was interrupted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acis_env.configs import check_at_least, nearest_first
from acis_env.interruption import naming
from acis_env.networks import check_device
from acis_env.weights import BUNDLED
from agents.benchmark.cell import Cell
from agents.benchmark.executors import Place, open_executor
from agents.benchmark.merge import merge
from agents.benchmark.plan import check_networks, describe, plan_cells, stages
from agents.benchmark.registry import LEADERBOARD, find_agent
from agents.benchmark.report import write_report
from agents.benchmark.sets import check_named, find_set, named_values
from agents.experiments.jobs import check_recorded
from agents.experiments.running import FailedRunsError, run_stages


@dataclass(frozen=True)
class Benchmark:
    """Compare agents, classical yardsticks, chance and the decoder's bound on data sets, and write a report."""

    sets: tuple[str, ...] = ("leaves",)
    """Data sets: "leaves", "leaves-crowded", "leaves-224", "cars", "cars-256x768", "bbbc038" or "bbbc038-224" (see
    --roots), another registered one, or [NAME=]FOLDER."""
    agents: tuple[str, ...] = LEADERBOARD
    """Agents: names as in docs/benchmark.md, "preset:NAME" of `acis train`, or [NAME=]FOLDER of a run or a policy."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; every agent that has randomness is run once with each."""
    budget: str = "quick"
    """Length of training: "quick" (about 80 CPU seconds per run), "medium" (3 minutes), "small" (11 to 19 minutes) or
    "smoke" (to see that all runs)."""
    roots: tuple[str, ...] = ()
    """Folders of data sets, as SET=FOLDER."""
    weights: tuple[str, ...] = ()
    """Pre-trained networks of sets, as SET=NAME or SET=FOLDER; by default the bundled ones, or networks are trained."""
    splits: tuple[str, ...] = ()
    """Splits to evaluate on, as SET=SPLIT; by default "test" of drawn leaves and streets and "val" of
    everything else."""
    fill: tuple[str, ...] = ()
    """Distances of filling of sets, as SET=PIXELS at the size of the networks, the same for every row of a set; see
    `acis evaluate --fill chosen`."""
    plan: bool = False
    """Print the plan, and run nothing."""
    merge: tuple[Path, ...] = ()
    """Folders of the same benchmark on other machines, whose results are copied to OUT first."""
    report_only: bool = False
    """Run nothing, and write the report of the results that there are."""
    reference: str = "Critic-Search"
    """Agent that the others are compared with, paired by seed."""
    leaderboard: Path | None = None
    """Markdown file to write the report to once more, such as docs/leaderboard.md."""
    jobs: int = 1
    """Number of runs at a time, each in a process with one thread."""
    executor: Place = "local"
    """Where runs take place: "local" (processes), "slurm" (jobs, by submitit), or "submitit-local" (processes by
    submitit, to rehearse the former)."""
    slurm: tuple[str, ...] = ()
    """Options of Slurm's jobs as submitit names them, as NAME=VALUE: partition, time (in minutes), mem, account, ..."""
    gpus_per_cell: int = 1
    """Number of processes, started by torchrun, that train one agent of ours together, each on a GPU of its own (or on
    the CPU)."""
    out: Path = Path("runs/benchmark")
    """Folder of runs, pre-trained weights and reports; existing results are kept."""
    device: str = "cpu"
    """Device to train on: "cpu" or "cuda"."""
    trust: bool = False
    """Load policies of other libraries from folders, whose files can hold code that runs here."""

    def run(self) -> None:
        """Print the plan, run what is missing, write the report.

        Raises:
            ValueError: an unknown name, an option for another set, or a result in OUT that has another configuration.
            FileNotFoundError: a folder to merge holds no results, or there is nothing to report.
            FailedRunsError: some failed; the others are finished and reported.
        """
        check_device(self.device)
        check_at_least(0, self, "seeds")
        check_at_least(1, self, "jobs", "gpus_per_cell")
        cells = self._cells()
        check_recorded(cells)
        networks = check_networks(cells)
        self._check_reference(cells)
        planned = {cell.result: cell.configuration for cell in cells} if self.merge else {}
        for folder in self.merge:
            print(f"{merge(folder, self.out, networks, planned)} results copied from {folder}")
        print(describe(cells, self.jobs), flush=True)
        if self.plan:
            return
        failed = [] if self.report_only else self._run(cells)
        try:
            self._report(cells)
        except FileNotFoundError:  # nothing to report yet: what failed says why
            if not failed:
                raise
        if failed:
            raise FailedRunsError(f"failed: {', '.join(failed)}; a file log.txt in the folder says why")

    def _check_reference(self, cells: list[Cell]) -> None:
        """Make sure that there will be an agent to compare with, if one is asked for."""
        known = {cell.agent_name for cell in cells}
        known |= {path.name for folder in (self.out, *self.merge) for path in folder.glob("*/*") if path.is_dir()}
        if self.reference not in {*known, type(self).reference}:
            names = ", ".join(nearest_first(self.reference, known))
            raise ValueError(f"--reference must be one of the agents {names}, got {self.reference!r}")

    def _run(self, cells: list[Cell]) -> list[str]:
        """Run what is missing; returns the names of those that failed."""
        options = named_values("slurm", self.slurm)
        if self.executor == "slurm" and self.device == "cuda":
            options = {"gpus_per_node": str(self.gpus_per_cell), **options}
        with naming(self.out), open_executor(self.executor, self.jobs, self.out / "submitit", options) as executor:
            return run_stages(stages(cells), executor)

    def _report(self, cells: list[Cell]) -> None:
        """Write the report of all sets that have results."""
        names = dict.fromkeys(cell.scene_set.name for cell in cells)
        folders = [self.out / name for name in names if list((self.out / name).glob("*/seed-*/result.json"))]
        if not folders:
            raise FileNotFoundError(f"{self.out}: no finished run to report")
        for path in (self.out / "report.md", self.leaderboard):
            if path is not None:
                write_report(folders, path, self.reference, self._command())
                print(f"report in {path} and {path.with_suffix('.html')}")

    def _command(self) -> str:
        """The command, with folders of data and networks left open, without what concerns this machine alone."""
        options: dict[str, tuple[object, ...]] = {"sets": self.sets, "agents": self.agents, "seeds": self.seeds}
        options |= {"budget": (self.budget,), "splits": self.splits, "fill": self.fill}
        for name in ("reference", "gpus_per_cell", "device"):
            value = getattr(self, name)
            options[name.replace("_", "-")] = () if value == getattr(type(self), name) else (value,)
        options["weights"] = tuple(text if _is_bundled(text) else _without_place(text) for text in self.weights)
        options["roots"] = tuple(map(_without_place, self.roots))
        told = (f"--{name} {' '.join(map(str, values))}" for name, values in options.items() if values)
        return f"acis benchmark {' '.join(told)}{' --trust' * self.trust}"

    def _cells(self) -> list[Cell]:
        options = {name: named_values(name, getattr(self, name)) for name in ("roots", "weights", "splits", "fill")}
        sets = [find_set(name, *options.values()) for name in self.sets]
        for option, values in options.items():
            check_named({text: found.name for text, found in zip(self.sets, sets, strict=True)}, option, values)
        found = [find_agent(text, self.trust) for text in self.agents]
        _check_different("sets", self.sets, [scene_set.name for scene_set in sets])
        _check_different("agents", self.agents, [name for name, _ in found])
        _check_different("seeds", self.seeds, self.seeds)
        agents = dict(found)
        return plan_cells(sets, agents, self.budget, self.seeds, self.out, self.device, self.gpus_per_cell)


def _check_different(option: str, given: Sequence[object], names: Sequence[object]) -> None:
    """Make sure that values are `given` for an option, and that no two stand for the same of `names`."""
    if not given:
        raise ValueError(f"--{option} must have a value, got none")
    for name, count in Counter(names).items():
        if count > 1:
            same = ", ".join(str(text) for text, own in zip(given, names, strict=True) if own == name)
            hint = "" if option == "seeds" else "; folders may be named, as in one=FOLDER"
            raise ValueError(f"--{option} must differ, got {name} {count} times ({same}){hint}")


def _without_place(text: str) -> str:
    """SET=FOLDER, whichever folder it is."""
    return text.partition("=")[0] + "=FOLDER"


def _is_bundled(text: str) -> bool:
    """Whether SET=NAME names networks that come with the package."""
    return text.partition("=")[2] in {path.name for path in BUNDLED.iterdir()}
