"""Repeat the quickstart with several seeds and write the table of the README; goes on where it was interrupted.

python examples/quickstart_seeds.py --out runs/quickstart --table docs/results/quickstart.md
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from acis_env.files import replacing
from agents.commands.quickstart import Quickstart


@dataclass(frozen=True)
class Args:
    """Run the quickstart with several seeds, one after the other, and write a table."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the runs; there is one run for each."""
    out: Path = Path("runs/quickstart")
    """Folder of the runs, one subfolder per seed."""
    table: Path = Path("docs/results/quickstart.md")
    """File of the Markdown table."""
    test_scenes: int = 200
    """Number of held-out scenes in every evaluation."""
    iterations: int = Quickstart.iterations
    """Number of training iterations after the initialisation."""


def row(name: str, mean: dict[str, float]) -> str:
    """One line of the table."""
    cells = [f"{mean[key]:.3f}" for key in ("sbd", "abs_dic", "sbd_gt_stop", "dice_star")]
    return f"| {name} | {' | '.join(cells)} |"


def markdown(reports: dict[int, Any]) -> str:
    """The table: references of the first seed, then before and after for every seed."""
    first = next(iter(reports.values()))
    lines = [
        f"Held-out leaves (split test, {first['num_scenes']} scenes, 2 to 10 instances), predicted context.",
        "SBD and \\|DiC\\| with own stopping (the rows random actions and random codes draw the number of masks, that"
        " of the bound knows it);",
        "SBD and Dice* also when stopped at the true count.",
        "",
        "| | SBD | \\|DiC\\| | SBD, true count | Dice* |",
        "| --- | --- | --- | --- | --- |",
        *(row(name, first["rows"][name]["mean"]) for name in ("random actions", "random codes")),
    ]
    for seed, report in reports.items():
        lines.append(row(f"seed {seed}: initialised actor", report["rows"]["initialised"]["mean"]))
        lines.append(row(f"seed {seed}: **trained agent**", report["rows"]["agent"]["mean"]))
    lines.append(row("reconstruction of the ground truth (bound)", first["rows"]["reconstruction"]["mean"]))
    return "\n".join(lines) + "\n"


def main(args: Args) -> None:
    """Run the seeds that have no report yet; the table is rewritten after each."""
    reports: dict[int, Any] = {}
    for seed in args.seeds:
        report = args.out / f"seed-{seed}" / "evaluation.json"
        if not report.exists():
            Quickstart(report.parent, seed, args.iterations, args.test_scenes).run()
        reports[seed] = json.loads(report.read_text())
        with replacing(args.table) as unfinished:
            unfinished.write_text(markdown(reports))
    print(markdown(reports))


if __name__ == "__main__":
    main(tyro.cli(Args))
