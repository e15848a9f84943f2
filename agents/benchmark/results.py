"""Results of `acis benchmark` on one set of scenes, read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.benchmark.registry import AGENTS
from agents.experiments.results import Result, Runs, check_seeds, mean_of
from agents.experiments.statistics import Interval, paired_interval
from agents.models.composition import DEFAULT

SAME = ("scenes_sum", "budget")
"""What all results of a set have in common."""
RULE = {"overlaps": DEFAULT.overlaps, "fill": DEFAULT.fill}
"""So is the rule of composition in their conditions, with the values of results from before it was written down."""


@dataclass(frozen=True)
class SetResults(Runs):
    """All that is known of a set of scenes."""

    scenes: dict[str, Any]
    """What scenes they are: `num_scenes`, `configuration`."""

    @classmethod
    def load(cls, folder: Path) -> SetResults:
        """Read every finished cell in `folder`, agents in the order of the registry.

        Raises:
            FileNotFoundError: there is none, or nothing says which scenes they are of.
            ValueError: results were measured on other scenes, after another length of training or with other networks
                around the actions; or seeds of an agent differ in more than the seed.
        """
        about = folder / "scenes.json"
        files = sorted(folder.glob("*/seed-*/result.json"))
        if not files:
            raise FileNotFoundError(f"{folder}: expected the results of `acis benchmark`, found no finished run in it")
        if not about.is_file():
            raise FileNotFoundError(f"{about}: no such file; `acis benchmark` says there what the scenes are")
        found: dict[str, dict[int, Result]] = {}
        for file in files:
            result = json.loads(file.read_text())
            found.setdefault(result["agent"], {})[result["seed"]] = result
        check_seeds(folder, found)
        _check_same(folder, found)
        order = [*(name for name in AGENTS if name in found), *(name for name in found if name not in AGENTS)]
        cells = {name: dict(sorted(found[name].items())) for name in order}
        return cls(folder, cells, json.loads(about.read_text()))

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.folder.name

    def by_score(self) -> list[str]:
        """Agents, that of the largest SBD first; those that know the truth come last."""
        scores = {name: self.interval(name, mean_of("sbd")).mean for name in self.cells}
        bounds = {name: self.first(name)["kind"] == "bound" for name in self.cells}
        return sorted(self.cells, key=lambda name: (bounds[name], -scores[name]))

    def difference(self, agent: str, reference: str, measure: str) -> Interval | None:
        """Mean difference over common seeds, where an agent without randomness has the same result with every seed.

        None without common seeds.
        """
        runs = {name: self.values(name, mean_of(measure)) for name in (agent, reference)}
        seeded = [set(runs[name]) for name in runs if self.first(name)["is_seeded"]]
        common = sorted(set.intersection(*seeded)) if seeded else [0]
        first, second = ([runs[name].get(s, next(iter(runs[name].values()))) for s in common] for name in runs)
        return paired_interval(first, second) if common else None


def _check_same(folder: Path, cells: dict[str, dict[int, Result]]) -> None:
    """Make sure that results can stand in one table."""
    results = [result for seeds in cells.values() for result in seeds.values()]
    for name in SAME:
        _check_one(folder, name, [(r, r[name]) for r in results])
    rules = [(r, {name: r["rows"]["agent"].get(name, value) for name, value in RULE.items()}) for r in results]
    _check_one(folder, "rule for overlaps and filling", rules)
    networks: dict[str, list[tuple[Result, Any]]] = {}
    for result in results:
        if result.get("networks_sum") is not None:
            networks.setdefault(result["variant"], []).append((result, result["networks_sum"]))
    for of_variant in networks.values():
        _check_one(folder, "pair of networks around the actions", of_variant)


def _check_one(folder: Path, what: str, found: Sequence[tuple[Result, Any]]) -> None:
    """Make sure that something is the same in all results."""
    seen = {str(value): f"{result['agent']}, seed {result['seed']}" for result, value in reversed(found)}
    if len(seen) > 1:
        got = "; ".join(f"{value} ({run})" for value, run in seen.items())
        raise ValueError(f"{folder}: results of one set must have one {what}, got {got}")
