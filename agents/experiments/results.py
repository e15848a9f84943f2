"""The results of runs on one set of scenes, read back, and what they say over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.experiments.methods import METHODS
from agents.experiments.statistics import Interval, mean_interval, paired_interval
from agents.training.config import EARLIER_VERSION, train_config_from_dict

Result = dict[str, Any]
"""Content of a `result.json`."""


@dataclass(frozen=True)
class Runs:
    """Results of the runs on a set of scenes, and what they say over seeds."""

    folder: Path
    cells: dict[str, dict[int, Result]]
    """Results by method, in the order of the tables, and seed."""

    def first(self, method: str | None = None) -> Result:
        """Result of the first seed of `method`, by default of the first method."""
        return next(iter((self.cells[method] if method else next(iter(self.cells.values()))).values()))

    def values(self, method: str, get: Callable[[Result], float]) -> dict[int, float]:
        """Numbers that `get` reads from every run of `method`, by seed."""
        return {seed: get(result) for seed, result in self.cells[method].items()}

    def interval(self, method: str, get: Callable[[Result], float]) -> Interval:
        """Mean over seeds of what `get` reads from the runs of `method`."""
        return mean_interval(list(self.values(method, get).values()))

    def paired(self, first: str, second: str, get: Callable[[Result], float]) -> Interval | None:
        """Mean difference of two methods over the seeds that both have; None if there are none."""
        if first not in self.cells or second not in self.cells:
            return None
        a, b = self.values(first, get), self.values(second, get)
        seeds = sorted(a.keys() & b.keys())
        return paired_interval([a[s] for s in seeds], [b[s] for s in seeds]) if seeds else None


@dataclass(frozen=True)
class Results(Runs):
    """All that `acis reproduce` knows of a set of scenes."""

    references: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read every finished cell in `folder`.

        Raises:
            FileNotFoundError: the references, or all results, are missing.
            ValueError: seeds of one method differ in their configuration, or methods in their scale; or a result is of
                an earlier version.
        """
        path = folder / "references.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; `acis reproduce` writes it before any run")
        cells: dict[str, dict[int, Result]] = {}
        for file in sorted(folder.glob("*/seed-*/result.json")):
            result = json.loads(file.read_text())
            check_version(result["configuration"], file)
            cells.setdefault(result["method"], {})[result["seed"]] = result
        if not cells:
            raise FileNotFoundError(f"{folder}: no finished run in it")
        check_seeds(folder, cells)
        scales = {method: next(iter(seeds.values()))["configuration"]["scale"] for method, seeds in cells.items()}
        if len(set(scales.values())) > 1:
            raise ValueError(f"{folder}: methods of one report must have one scale, got {scales}")
        order = [*(name for name in METHODS if name in cells), *(name for name in cells if name not in METHODS)]
        return cls(folder, {name: dict(sorted(cells[name].items())) for name in order}, json.loads(path.read_text()))

    def bound(self, method: str, measure: str) -> float:
        """`measure` of the reconstructions by the method's decoder."""
        variant = self.first(method)["configuration"]["weights"]
        return float(self.references["rows"][variant]["reconstruction"]["mean"][measure])


def check_seeds(folder: Path, cells: Mapping[str, Mapping[int, Result]]) -> None:
    """Make sure that the runs of a method differ in nothing but their seeds.

    Raises:
        ValueError: naming the method and what differs.
    """
    for method, seeds in cells.items():
        (first, expected), *others = sorted(seeds.items())
        for seed, result in others:
            if found := differences(without_seed(result), without_seed(expected)):
                raise ValueError(f"{folder / method}: seed {seed} (there) and {first} (here): {'; '.join(found)}")


def mean_of(measure: str, row: str = "agent") -> Callable[[Result], float]:
    """A function that reads a mean over scenes from a result."""
    return lambda result: float(result["rows"][row]["mean"][measure])


def scene_by_scene(measure: str) -> Callable[[Result], list[float]]:
    """A function that reads the agent's score on every scene from a result."""
    return lambda result: list(result["rows"]["agent"]["scenes"][measure])


def gain_of(measure: str) -> Callable[[Result], float]:
    """A function that reads the gain of the agent over its initialisation from a result."""
    return lambda result: mean_of(measure)(result) - mean_of(measure, "initial")(result)


def order_interval(results: Results, method: str, name: str, sign: int = 1) -> Interval | None:
    """Rank correlation of the order of prediction, mean over scenes; None where no run has a scene that counts."""
    means = [
        sign * float(np.mean(values))
        for result in results.cells.get(method, {}).values()
        if (values := [scene[name] for scene in result["order"] if name in scene])
    ]
    return mean_interval(means) if means else None


def gain_slopes(results: Results, method: str, reference: str) -> Interval | None:
    """Growth per step of the Dice that `method` gains on `reference`, by least squares over the masks of all scenes.

    None without common seeds.
    """
    slopes = []
    for seed in sorted(results.cells.get(method, {}).keys() & results.cells.get(reference, {}).keys()):
        first, second = (results.cells[name][seed]["rows"]["agent"] for name in (method, reference))
        gain = np.subtract(first["dice_at_step"], second["dice_at_step"])
        weights = np.sqrt(first["scenes_at_step"])  # polyfit squares them
        slopes.append(float(np.polyfit(np.arange(len(gain)), gain, 1, w=weights)[0]))
    return mean_interval(slopes) if slopes else None


def without_seed(result: Result) -> dict[str, Any]:
    """Configuration of a result, but for the seed."""
    configuration = {k: v for k, v in result["configuration"].items() if k != "seed"}
    if "train" in configuration:
        configuration["train"] = {k: v for k, v in configuration["train"].items() if k != "seed"}
    return configuration


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, by dotted name; an option that is younger than the record counts as recorded with its default."""
    old, new = flatten(with_defaults(recorded)), flatten(with_defaults(wanted))
    return [
        f"{name} is {old.get(name)!r} there and {new.get(name)!r} here"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]


def with_defaults(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in which the options of training that are younger than it have their defaults."""
    if "train" not in configuration:
        return dict(configuration)
    return {**configuration, "train": asdict(train_config_from_dict(configuration["train"], "configuration"))}


def check_version(configuration: Mapping[str, Any], path: Path) -> None:
    """Make sure that the configuration in the file `path` has today's form.

    Raises:
        ValueError: it was written by an earlier version.
    """
    if "phases" in configuration.get("train", {}):
        raise ValueError(f"{path}: {EARLIER_VERSION}: run it again in another --out, or report on it with that version")


def flatten(value: Any, where: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries and lists by dotted name."""
    items: Iterator[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = iter(value.items())
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {where: value}
    return {k: v for key, child in items for k, v in flatten(child, f"{where}.{key}".removeprefix(".")).items()}
