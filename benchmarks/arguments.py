"""The arguments of `python -m benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """Measure how fast everything is, beside a straightforward implementation in the same process."""

    suites: tuple[str, ...] = ()
    """Parts to measure, of decoder, scores, matching, policy, techniques, step, reset, vector, growth,
    streaming, training, inference and gpu; by default all of them."""
    weights: tuple[str, ...] = ()
    """Folders of pre-trained networks, used at the size that they are for; the bundled ones are for 64x64, and at
    other sizes weights are random."""
    repeats: int = 20
    """Number of timed calls of each function."""
    quick: bool = False
    """Use little pictures and few calls, to see that everything runs: the numbers mean nothing."""
    max_envs: int = 64
    """Largest number of environments in the suite growth."""
    threads: int = 1
    """Number of PyTorch's threads on the CPU."""
    out: Path = Path("runs/bench")
    """Folder of `report.json` and the curves."""
    device: str = "cpu"
    """Device to measure: "cpu" or "cuda"."""
