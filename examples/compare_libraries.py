"""The table and the learning curves of docs/plugging_in.md, from the runs that the examples left.

for seed in 1 2 3; do python examples/sb3_ppo.py --seed $seed; done    # and the other examples
python examples/compare_libraries.py --runs runs --picture docs/images/libraries.png
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from acis_env.rendering import plot_curves

RETURN = "charts/episodic_return"


@dataclass(frozen=True)
class Args:
    """Collect finished runs into a table and a picture."""

    runs: Path = Path("runs")
    """Folder of the runs."""
    picture: Path = Path("runs/libraries.png")
    """Picture file of the learning curves."""


def has_curve(folders: Iterable[Path]) -> bool:
    """Whether all runs kept their returns; some libraries do not tell them."""
    return all(RETURN in EventAccumulator(str(folder)).Reload().Tags()["scalars"] for folder in folders)


def curve(folders: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Steps `[n]` and mean episodic return `[n]` over runs, in forty windows of equal length."""
    points = []
    for folder in folders:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        points += [(event.step, event.value) for event in events.Scalars(RETURN)]
    steps, values = np.array(points).T
    window = np.minimum((steps / steps.max() * 40).astype(int), 39)
    filled = np.unique(window)
    means = np.array([values[window == w].mean() for w in filled])
    return (filled + 0.5) * steps.max() / 40, means


def row(name: str, reports: list[dict[str, Any]]) -> str:
    """One line of the table: every seed's SBD, and means of the rest; reports of earlier versions say "random"."""
    chance = [report.get("random actions") or report["random"] for report in reports]
    seeds = ", ".join(f"{report['policy']['sbd']:.3f}" for report in reports)
    means = [np.mean([row["return"] for row in rows]) for rows in ([report["policy"] for report in reports], chance)]
    random = np.mean([row["sbd"] for row in chance])
    minutes = np.mean([report["seconds"] for report in reports]) / 60
    steps = reports[0]["total_timesteps"]
    return f"| `{name}` | {steps} | {minutes:.0f} | {means[0]:.2f} | {means[1]:.2f} | {seeds} | {random:.3f} |"


def main(args: Args) -> None:
    """Print the table and draw the curves."""
    runs: dict[tuple[str, str], dict[int, Path]] = {}
    for path in sorted(args.runs.glob("*__*__*__*/evaluation.json")):
        environment, name, seed, _ = path.parent.name.split("__")
        if "policy" in json.loads(path.read_text()):  # the examples of one page report other things
            runs.setdefault((name, environment), {})[int(seed)] = path.parent  # a later run replaces an earlier
    names = [name for name, _ in runs]
    groups = {
        name if names.count(name) == 1 else f"{name}, {environment}": folders
        for (name, environment), folders in runs.items()
    }
    if not groups:
        raise SystemExit(f"--runs {args.runs} holds no finished run of an example")
    print("| example | steps | minutes | return | of random | SBD of each seed | of random |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, folders in groups.items():
        print(row(name, [json.loads((folders[s] / "evaluation.json").read_text()) for s in sorted(folders)]))
    curves = {name: curve(list(folders.values())) for name, folders in groups.items() if has_curve(folders.values())}
    if not curves:
        raise SystemExit(f"--runs {args.runs} holds no run with the scalar {RETURN}: no picture is drawn")
    plot_curves(args.picture, curves, "environment steps", "return of training episodes", "Examples")


if __name__ == "__main__":
    main(tyro.cli(Args))
