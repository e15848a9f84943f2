"""Repeat the quickstart with several seeds and write the table of the README.

python examples/quickstart_seeds.py --out runs/quickstart --table docs/results/quickstart.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from acis_env.files import replacing
from agents.quickstart import QuickstartResult, quickstart


@dataclass(frozen=True)
class Args:
    """Several quickstarts, one after the other."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run each."""
    out: Path = Path("runs/quickstart")
    """Folder of the runs, one subfolder per seed."""
    table: Path = Path("docs/results/quickstart.md")
    """The Markdown table to write."""
    test_scenes: int = 200
    """Held-out scenes of every evaluation."""
    iterations: int | None = None
    """Of the main phase; by default the preset's."""


def row(name: str, mean: dict[str, float]) -> str:
    """One line of the table."""
    cells = [f"{mean[key]:.3f}" for key in ("sbd", "abs_dic", "sbd_gt_stop", "dice_star")]
    return f"| {name} | {' | '.join(cells)} |"


def markdown(results: dict[int, QuickstartResult], args: Args) -> str:
    """The table: references of the first seed, then before and after for every seed."""
    lines = [
        f"Held-out leaves (split test, {args.test_scenes} scenes, 2 to 10 instances), predicted context.",
        "SBD and \\|DiC\\| with the agent's own stopping; SBD and Dice* also when stopped at the true count.",
        "",
        "| | SBD | \\|DiC\\| | SBD, true count | Dice* |",
        "| --- | --- | --- | --- | --- |",
    ]
    first = {e.name: e.mean for e in next(iter(results.values())).evaluations}
    lines.append(row("random agent", first["random"]))
    for seed, result in results.items():
        means = {e.name: e.mean for e in result.evaluations}
        lines.append(row(f"seed {seed}: initialised actor", means["initialised"]))
        lines.append(row(f"seed {seed}: **trained agent**", means["agent"]))
    lines.append(row("reconstruction of the ground truth (bound)", first["reconstruction"]))
    return "\n".join(lines) + "\n"


def main(args: Args) -> None:
    """Run all seeds; the table is rewritten after each."""
    results: dict[int, QuickstartResult] = {}
    for seed in args.seeds:
        results[seed] = quickstart(args.out / f"seed-{seed}", seed, args.iterations, args.test_scenes)
        with replacing(args.table) as unfinished:
            unfinished.write_text(markdown(results, args))
    print(markdown(results, args))


if __name__ == "__main__":
    main(tyro.cli(Args))
