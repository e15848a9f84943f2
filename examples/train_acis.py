"""The agent of this package, trained by any objective, in code rather than by `acis train`.

python examples/train_acis.py --objective bl-score --seed 1
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from acis_env import Leaves, PackedScenes
from agents import Agent
from agents.evaluation import agent_segmenter, compare, format_table, write_report
from agents.training.config import PRESETS
from agents.training.trainer import Trainer


@dataclass(frozen=True)
class Args:
    """Train on the bundled leaves, and compare with random actions, the initialised actor and the bound."""

    objective: str = "bl-score"
    """Preset to train by: bl-bce, bl-score, ac or ac-score."""
    seed: int = 1
    """Seed of all random numbers."""
    iterations: int = 400
    """Number of training iterations in the main phase."""
    learning_rate: float | None = None
    """Learning rate of the actor in the main phase; by default the preset's."""
    device: str = "cpu"
    """Device to train on: "cpu" or "cuda"."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


def main(args: Args) -> None:
    """Train, evaluate on held-out scenes, write the report."""
    if args.objective not in PRESETS:
        raise SystemExit(f"--objective must be one of {list(PRESETS)}, got {args.objective!r}")
    preset = PRESETS[args.objective]
    *start, main_phase = preset.phases
    rate = main_phase.learning_rate if args.learning_rate is None else args.learning_rate
    phases = (*start, replace(main_phase, iterations=args.iterations, learning_rate=rate))
    config = replace(preset, phases=phases, seed=args.seed, device=args.device)
    if args.quick:
        short = tuple(replace(phase, iterations=2) for phase in phases)
        config = replace(config, phases=short, batch_size=4, eval_scenes=4, scene_options={"length": 20})
    folder = args.run_dir / f"ACIS-Leaves-v0__train_acis-{args.objective}__{args.seed}__{int(time.time())}"
    agent = Trainer(config, folder).run()

    num_scenes = 10 if args.quick else 100
    scenes = PackedScenes(Leaves("test", agent.pretrained.size, length=num_scenes), agent.pretrained.size, args.device)
    initial = Agent.load(folder / "initial.pt", args.device)
    segmenters = {"initialised": agent_segmenter(initial), "agent": agent_segmenter(agent)}
    evaluations = compare(segmenters, agent.pretrained, scenes, agent.threshold)
    write_report(folder / "evaluation-test", evaluations, scenes, {"seed": args.seed})
    print(f"{format_table(evaluations)}\n\nreport in {folder / 'evaluation-test'}")


if __name__ == "__main__":
    main(tyro.cli(Args))
