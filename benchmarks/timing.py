"""Calls timed in turn, and the report of what they took: a table to paste, and JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from acis_env.allocator import peak_memory as process_peak
from acis_env.files import replacing

Calls = Mapping[str, Callable[[], object]]
"""Functions to be timed in turn, by name."""
PACKAGES = ("acis-env", "torch", "numpy", "scipy", "gymnasium", "stable-baselines3")


@dataclass(frozen=True)
class Times:
    """Times of the calls of one function."""

    samples: NDArray[np.float64]  # [repeats] milliseconds, in the order of the calls

    @property
    def median(self) -> float:
        """Median of all calls, in milliseconds."""
        return float(np.median(self.samples))

    def summary(self) -> dict[str, float]:
        """Median and quartiles in milliseconds, for the report."""
        lower, median, upper = np.quantile(self.samples, (0.25, 0.5, 0.75)).tolist()
        return {
            "median_ms": median,
            "lower_quartile_ms": lower,
            "upper_quartile_ms": upper,
            "repeats": len(self.samples),
        }


@dataclass(frozen=True)
class Row:
    """One line of the report: something of ours beside something else that was called in turn with it."""

    name: str
    shape: str
    ours: Times | None = None  # None: not measured, `note` says why
    other: Times | None = None  # None: nothing to compare with
    against: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Factor by which ours is faster, by medians."""
        return self.other.median / self.ours.median if self.ours and self.other else None

    def to_json(self) -> dict[str, Any]:
        """This row as JSON, for the report."""
        times = {"ours": self.ours, "other": self.other}
        summaries = {name: each.summary() if each else None for name, each in times.items()}
        texts = {name: getattr(self, name) for name in ("name", "shape", "against", "note")}
        return {**texts, **summaries, "ratio": self.ratio}


def interleave(
    calls: Calls, repeats: int, device: str, prepare: Callable[[int], object] | None = None
) -> dict[str, Times]:
    """Call all functions in turn, `repeats` times, after a first round that is not timed.

    Every round begins with the next of them, since a call finds in the caches what the one before it left there.
    Whatever else the machine does then falls on all of them alike, so that their ratio is steadier than their times.

    Args:
        calls: the functions by name.
        repeats: timed rounds, at least 1.
        device: on "cuda" a call ends when the GPU has done its work.
        prepare: called before every round with its number, from 0 for the untimed one; not timed.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        if prepare is not None:
            prepare(number)
        names = list(calls)
        first = number % len(names)
        for name in names[first:] + names[:first]:  # each of them comes after each other one
            elapsed = _milliseconds(calls[name], device)
            if number > 0:
                samples[name].append(elapsed)
    return {name: Times(np.array(values)) for name, values in samples.items()}


def _milliseconds(call: Callable[[], object], device: str) -> float:
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        torch.cuda.synchronize(device)
    start = perf_counter()
    call()
    if is_cuda:
        torch.cuda.synchronize(device)
    return 1000 * (perf_counter() - start)


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = [
        "| measured | shape | ms | other, ms | ratio | other | note |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ours, other = (f"{times.median:.3g}" if times else "" for times in (row.ours, row.other))
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"| {row.name} | {row.shape} | {ours} | {other} | {ratio} | {row.against} | {row.note} |")
    return "\n".join(lines)


def draw_growth(path: Path, quantity: str, values: Sequence[int], medians: Sequence[float]) -> None:
    """Plot milliseconds of a step against `quantity`, with zero on both axes: what is straight or flat looks so."""
    figure = Figure(figsize=(5, 3.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(values, medians, marker="o", markersize=4)
    axes.set(xlabel=quantity, ylabel="ms per step", xlim=(0, None), ylim=(0, 1.1 * max(medians)))
    axes.grid(color="0.9")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png")


def machine(device: str) -> dict[str, Any]:
    """Hardware, load and versions."""
    is_cuda = torch.device(device).type == "cuda"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name(device) if is_cuda else None,
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def peak_memory(device: str) -> dict[str, float]:
    """Largest memory so far in megabytes, of the process and of what PyTorch has on the GPU."""
    peak = {"process_mb": process_peak() / 2**20}
    if torch.device(device).type == "cuda":
        peak["gpu_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
