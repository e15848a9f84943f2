"""What single runs came to, in one small file beside their report: for statistics that the report does not have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from acis_env.files import replacing
from agents.experiments.results import Result

DIGITS = 4
"""Decimals that are kept: a thousandth of what runs differ by."""


def write_runs(path: Path, results: Iterable[Result]) -> None:
    """Write a JSON list to `path`, a line per run; see `summary`."""
    lines = ",\n".join(json.dumps(summary(result), separators=(",", ":")) for result in results)
    with replacing(path) as unfinished:
        unfinished.write_text(f"[\n{lines}\n]\n")


def summary(result: Result) -> dict[str, Any]:
    """What came of a run, from the content of its `result.json`.

    Of the trained agent ("agent") and of the one before the main stage ("initial") the means of all measures over
    scenes; of the trained one also SBD and difference in count scene by scene; and its SBD on validation scenes while
    it was trained, by iteration. Scores are in [0, 1]; `dic` is in instances, times are CPU seconds.
    """
    agent = result["rows"]["agent"]
    facts = ("set", "method", "seed", "commit", "torch", "written", "actor_updates")
    return {
        **{name: result[name] for name in facts},
        "cpu_seconds": round(result["cpu_seconds"]),
        "mean": {name: _rounded(row["mean"]) for name, row in result["rows"].items()},
        "scenes": {"sbd": [round(x, 3) for x in agent["scenes"]["sbd"]], "dic": [*map(int, agent["scenes"]["dic"])]},
        "history": {"iteration": _column(result, "iteration"), "sbd": _column(result, "sbd")},
    }


def _column(result: Result, name: str) -> list[float]:
    return [round(entry[name], DIGITS) for entry in result["history"]]


def _rounded(means: dict[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in means.items()}
