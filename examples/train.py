"""Train an agent of this package in code rather than by `acis train`: a preset by its name, then overrides.

python examples/train.py quick --seed 1
python examples/train.py ac-dice --seed 1 --stages.1.algorithm.gamma 0.95
"""

from __future__ import annotations

import time
from pathlib import Path

import tyro

from agents import PRESETS, Agent, EnvConfig, TrainConfig, Trainer
from agents.algorithms.base import core_of
from agents.evaluation import agent_segmenter, compare, format_table, write_report


def main(config: TrainConfig, folder: Path, num_scenes: int = 100) -> None:
    """Train in `folder`, evaluate on held-out scenes, and write the report."""
    agent = Trainer(config, folder).run()

    env = config.env.make_evaluation("test", weights=agent.pretrained, device=config.device)
    source = core_of(env).source
    initial = Agent.load(folder / "initial.pt", config.device)
    segmenters = {"initialised": agent_segmenter(initial), "agent": agent_segmenter(agent)}
    evaluations = compare(segmenters, agent.pretrained, source, agent.composition, num_scenes=num_scenes)
    write_report(folder / "evaluation-test", evaluations, source, {"seed": config.seed})
    print(f"{format_table(evaluations)}\n\nreport in {folder / 'evaluation-test'}")


def parse() -> TrainConfig:
    """The preset that the command line names, with its overrides; presets for the bundled leaves only."""
    known = {name: config for name, config in PRESETS.items() if config.env.id == EnvConfig.id}
    about = {name: config.stages[-1].algorithm.__doc__ or "" for name, config in known.items()}
    presets = {name: (about[name].splitlines()[0], config) for name, config in known.items()}
    return tyro.extras.overridable_config_cli(presets)


if __name__ == "__main__":
    chosen = parse()
    last = chosen.stages[-1].algorithm
    main(chosen, Path("runs") / f"{chosen.env.id.replace('/', '-')}__{last.kind}__{chosen.seed}__{int(time.time())}")
