"""Put a trained agent among those that come with the package: weights as float16, and a card of scores.

python examples/bundle_agent.py --run runs/leaves --name leaves-64 --split test

What a card cannot know (what the agent is for, and what not) goes into CARD.md beside it, by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import tyro

from acis_env.files import write_json
from agents.algorithms.base import core_of
from agents.evaluation import agent_segmenter, evaluate
from agents.models.agent import Agent
from agents.models.bundled import BUNDLED, FILE
from agents.models.outcomes import choose_among
from agents.training.config import Stage
from agents.training.trainer import load_config

MEASURES = ("sbd", "abs_dic", "sbd_gt_stop", "dice_star")
FEW = 8
"""Number of the first scenes whose scores are on the card, to check the agent by."""


@dataclass(frozen=True)
class Args:
    """Bundle an agent."""

    run: Path
    """Folder of its run."""
    name: str
    """Its name: what it segments, and the size of its networks."""
    split: str = "val"
    """Held-out scenes that it is measured on."""
    num_scenes: int | None = None
    """Number of these scenes, the first ones; None: all."""
    fill: float | None = None
    """Distance of filling of its label maps, as chosen on training scenes by `acis evaluate --fill chosen`; None: the
    run's own."""
    episodes: int | None = None
    """Number of episodes that an agent chooses from, for one that takes too long with those of its training."""
    out: Path = BUNDLED
    """Folder of the agents; each has a subfolder."""


def kind_of(stage: Stage) -> str:
    """What kind of algorithm a stage has."""
    return str(getattr(stage.algorithm, "kind", type(stage.algorithm).__name__))


def main(args: Args) -> None:
    """Write the agent and its card."""
    config = load_config(args.run)
    folder = args.out / args.name
    folder.mkdir(parents=True, exist_ok=True)
    trained = Agent.load(args.run)
    if args.fill is not None:
        trained.composition = replace(trained.composition, fill=args.fill)
    trained.outcomes = choose_among(trained.outcomes, args.episodes, args.run)
    trained.save(folder / FILE, half=True)
    agent = Agent.load(folder / FILE)  # measured as it is stored
    source = core_of(config.env.make_evaluation(args.split, weights=agent.pretrained)).source
    found = evaluate("agent", agent_segmenter(agent), source, agent.composition, num_scenes=args.num_scenes)
    card: dict[str, Any] = {
        "name": args.name,
        "split": args.split,
        "num_scenes": len(found.scenes),
        "scores": {name: round(found.mean[name], 4) for name in MEASURES},
        "first_scenes": [round(scene["sbd"], 3) for scene in found.scenes[:FEW]],
        "fill": agent.composition.fill,
        "episodes": 1 if agent.outcomes is None else agent.outcomes.config.episodes,
        "seed": config.seed,
        "scene_options": dict(config.env.kwargs.get("scene_options", {})),
        "val_options": dict(config.env.val_kwargs.get("scene_options", {})),
        "minutes": config.minutes,  # if given, iterations are the weights of stages
        "stages": {stage.name: [kind_of(stage), stage.iterations] for stage in config.stages},
        "versions": {"acis-env": metadata.version("acis-env"), "torch": torch.__version__},
    }
    write_json(folder / "card.json", card)
    print(f"{folder}: {card['num_scenes']} scenes of {args.split}, {card['scores']}")


if __name__ == "__main__":
    main(tyro.cli(Args))
