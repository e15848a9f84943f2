"""Tables of single runs: the means of every method, or two methods compared run by run and scene by scene.

python docs/results/compare.py docs/results/small/runs.json
python docs/results/compare.py docs/results/small/runs.json --pair Critic-Search-Outcomes BL-Trunc-Dice-Refined
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from agents.experiments.statistics import Interval, mean_interval, paired_interval

Run = dict[str, Any]
"""An entry of a `runs.json`; see `agents.experiments.single_runs.summary`."""
Runs = dict[tuple[str, str], dict[int, Run]]
"""Runs by set and method, then by seed."""
MEANS = r"| set | method | seeds | SBD | SBD, true count | \|DiC\| |"
DIFFERENCES = r"| set | seeds | SBD, over seeds | over scenes | \|DiC\|, over seeds | over scenes |"


@dataclass(frozen=True)
class Args:
    """Print a table of single runs in Markdown: means with own stopping, ± a 95 % interval (Student's t)."""

    runs: tyro.conf.Positional[Path]
    """File runs.json of `acis reproduce`, or of this folder."""
    pair: tuple[str, str] | None = None
    """Two methods: the first minus the second, of the seeds that both have, on every set that has both."""


def read(path: Path) -> Runs:
    """The runs of a file: seeds in order, in a set the method with the highest SBD first, sets by name."""
    found: Runs = {}
    for run in sorted(json.loads(path.read_text()), key=lambda run: run["seed"]):
        found.setdefault((run["set"], run["method"]), {})[run["seed"]] = run
    return dict(sorted(found.items(), key=lambda entry: (entry[0][0], -np.mean([*map(_sbd, entry[1].values())]))))


def means(runs: Runs) -> Iterator[str]:
    """A row of the table `MEANS` for every set and method."""
    for (name, method), of_method in runs.items():
        agents = [run["mean"]["agent"] for run in of_method.values()]
        found = {key: mean_interval([a[key] for a in agents]) for key in ("sbd", "sbd_gt_stop", "abs_dic")}
        sbd, true_count, count_error = map(_told, found.values())
        yield f"| {name} | {method} | {_listed(of_method)} | {sbd} | {true_count} | {count_error} |"


def differences(runs: Runs, first: str, second: str) -> Iterator[str]:
    """A row of the table `DIFFERENCES` for every set on which both methods ran with the same seed.

    Over seeds, the means of runs of the same seed are paired; over scenes, the means over these runs of each scene.
    """
    for name in dict.fromkeys(name for name, _ in runs):
        ours, theirs = runs.get((name, first), {}), runs.get((name, second), {})
        seeds = [seed for seed in ours if seed in theirs]
        if not seeds:
            continue
        cells = []
        for of_run, of_scenes in ((_sbd, _scene_sbd), (_count_error, _scene_count_errors)):
            cells.append(paired_interval([of_run(ours[s]) for s in seeds], [of_run(theirs[s]) for s in seeds]))
            cells.append(paired_interval(_over_runs(of_scenes, ours, seeds), _over_runs(of_scenes, theirs, seeds)))
        yield f"| {name} | {_listed(seeds)} | " + " | ".join(map(_told, cells)) + " |"


def _over_runs(of_scenes: Callable[[Run], np.ndarray], runs: dict[int, Run], seeds: list[int]) -> list[float]:
    return np.mean([of_scenes(runs[seed]) for seed in seeds], axis=0).tolist()  # type: ignore[no-any-return]


def _sbd(run: Run) -> float:
    return float(run["mean"]["agent"]["sbd"])


def _count_error(run: Run) -> float:
    return float(run["mean"]["agent"]["abs_dic"])


def _scene_sbd(run: Run) -> np.ndarray:
    return np.asarray(run["scenes"]["sbd"], dtype=np.float64)


def _scene_count_errors(run: Run) -> np.ndarray:
    return np.abs(np.asarray(run["scenes"]["dic"], dtype=np.float64))


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def _told(interval: Interval) -> str:
    """The interval from three values on: that of two is too wide to say anything."""
    return str(interval) if interval.count > 2 else f"{interval.mean:.3f}"


def main(args: Args) -> None:
    if not args.runs.is_file():
        sys.exit(f"{args.runs} is not there: expected a runs.json, as acis reproduce writes it")
    runs = read(args.runs)
    head, found = (MEANS, means(runs)) if args.pair is None else (DIFFERENCES, differences(runs, *args.pair))
    rows = list(found)
    if not rows:
        wanted = "a run" if args.pair is None else "runs of {} and {} with the same seed on one set".format(*args.pair)
        sys.exit(f"{args.runs} must have {wanted}; its methods are {sorted({method for _, method in runs})}")
    print(head, "| --- " * (head.replace(r"\|", "").count("|") - 1) + "|", *rows, sep="\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
