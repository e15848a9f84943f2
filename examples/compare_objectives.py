"""Train every objective for the same CPU time from the same initialisation and compare on validation leaves.

OMP_NUM_THREADS=1 python examples/compare_objectives.py --seconds 150 --seeds 0 1 --out runs/objectives
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from acis_env.datasets import Leaves, PackedScenes
from acis_env.files import write_json
from agents.config import PRESETS, TrainConfig
from agents.evaluation import agent_segmenter, evaluate
from agents.trainer import Trainer


@dataclass(frozen=True)
class Args:
    """Equal time for all presets."""

    seconds: float = 150
    """CPU seconds of the main phase, warm-up included; how many iterations that makes is measured before each run."""
    seeds: tuple[int, ...] = (0, 1)
    """One run each per preset."""
    presets: tuple[str, ...] = ("bl-bce", "bl-score", "ac", "ac-score")
    """What to compare."""
    out: Path = Path("runs/objectives")
    """Folder of the runs and of `comparison.json`."""


def with_budget(config: TrainConfig, seconds: float, out: Path) -> TrainConfig:
    """Set the length of the main phase to what fits into `seconds`, by timing a few of its iterations."""
    init, *middle, main = config.phases
    probes = {}
    for phase in (*middle, main):
        probe = replace(config, phases=(replace(phase, iterations=8),), eval_scenes=1, checkpoint_every=1000)
        trainer = Trainer(probe, out)
        started = time.process_time()
        trainer.run()
        probes[phase.name] = (time.process_time() - started) / 8
    left = seconds - sum(phase.iterations * probes[phase.name] for phase in middle)
    return replace(config, phases=(init, *middle, replace(main, iterations=max(int(left / probes[main.name]), 1))))


def main(args: Args) -> None:
    """Run everything; the file is rewritten after each run."""
    rows: list[dict[str, object]] = []
    scenes = PackedScenes(Leaves("val"), (64, 64))
    for seed in args.seeds:
        for preset in args.presets:
            folder = args.out / f"{preset}-{seed}"
            config = with_budget(replace(PRESETS[preset], seed=seed), args.seconds, folder / "probe")
            started = time.process_time()
            agent = Trainer(config, folder).run()
            seconds = time.process_time() - started
            mean = evaluate(preset, agent_segmenter(agent), scenes).mean
            shown = {key: round(mean[key], 3) for key in ("sbd", "abs_dic", "sbd_gt_stop", "dice_star")}
            rows.append({"preset": preset, "seed": seed, "updates": config.phases[-1].iterations,
                         "seconds": round(seconds), **shown})  # fmt: skip
            print(rows[-1])
            write_json(args.out / "comparison.json", {"seconds": args.seconds, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Args))
