"""All suites by name, and the run that reports on some of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from acis_env.files import write_json
from benchmarks import environment, gpu, learning, parts
from benchmarks.arguments import Arguments
from benchmarks.streaming import streaming
from benchmarks.techniques import techniques
from benchmarks.timing import Row, machine, peak_memory, table

SUITES: dict[str, Callable[[Arguments], list[Row]]] = {
    "decoder": parts.decoder,
    "scores": parts.scores,
    "matching": parts.matching,
    "policy": parts.policy,
    "techniques": techniques,
    "step": environment.step,
    "reset": environment.reset,
    "vector": environment.vector,
    "growth": environment.growth,
    "streaming": streaming,
    "training": learning.training,
    "inference": learning.inference,
    "gpu": gpu.gpu,
}
QUICK_REPEATS = 2


def run_suites(args: Arguments) -> None:
    """Measure, print each table when it is there, and write all of them to `report.json`.

    Raises:
        ValueError: a suite is unknown, or a number is below 1.
    """
    if unknown := sorted(set(args.suites) - set(SUITES)):
        raise ValueError(f"suites must be among {', '.join(SUITES)}, got {', '.join(unknown)}")
    for name in ("repeats", "threads", "max_envs"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(args, name)}")
    if args.quick:
        args = replace(args, repeats=min(args.repeats, QUICK_REPEATS))
    torch.set_num_threads(args.threads)
    about = machine(args.device)
    print(", ".join(f"{name} {value}" for name, value in about.items() if value is not None))
    print(f"medians of {args.repeats} calls in turn\n")
    report: dict[str, Any] = {"command": sys.argv[1:], "machine": about, "arguments": _plain(args), "suites": {}}
    for name in args.suites or SUITES:
        rows = SUITES[name](args)
        memory = peak_memory(args.device)
        peak = ", ".join(f"{key} {value:.0f}" for key, value in memory.items())
        print(f"## {name}\n\n{table(rows)}\n\npeak so far: {peak}\n", flush=True)
        report["suites"][name] = {"rows": [row.to_json() for row in rows], "peak_memory": memory}
        write_json(args.out / "report.json", report)  # after each: what was measured survives an interruption
    print(f"report in {args.out / 'report.json'}")


def _plain(args: Arguments) -> dict[str, Any]:
    return {name: str(value) if name == "out" else value for name, value in asdict(args).items()}
