"""What a trained agent hands on: actor and networks to a training that begins with them, and its configuration."""

from __future__ import annotations

from pathlib import Path

import torch

from agents.algorithms import Learner
from agents.environment import EnvConfig
from agents.models.agent import Agent
from agents.training.config import TrainConfig
from agents.training.trainer import load_config


def weights_of(agent: str) -> str:
    """The networks around the actions of an agent, as environments take them: a name or a folder.

    Args:
        agent: the folder of a run, or the name of an agent that comes with the package, whose networks do, too.

    Raises:
        ValueError: the agent is neither, or its run does not name them; then they have to be named.
    """
    if not Path(agent).exists():
        return agent
    if not (Path(agent) / "config.json").exists():
        raise ValueError(f"--start-from {agent} is not the folder of a run: name the networks of its agent, --weights")
    weights = load_config(Path(agent)).env.weights
    if not isinstance(weights, str):
        raise ValueError(f"--start-from {agent}: its run does not say which networks it had: name them, --weights")
    return weights


def start_from(learner: Learner, agent: str) -> None:
    """Let the actor begin as that of `agent`; its critic is left behind, and optimisers are new.

    Raises:
        FileNotFoundError: there is no such agent.
        ValueError: its actor has other sizes, or acts on another decoder, for which its codes mean something else.
    """
    begun = Agent.load(agent, learner.core.device)
    if begun.actor.config != learner.actor.config:
        raise ValueError(
            f"--start-from {agent}: its actor has the sizes {begun.actor.config}, and this training is of "
            f"{learner.actor.config}; override --learner.actor"
        )
    theirs, ours = (pair.autoencoder.state_dict() for pair in (begun.pretrained, learner.pretrained))
    if theirs.keys() != ours.keys() or not all(
        theirs[name].shape == x.shape and torch.allclose(theirs[name], x, rtol=1e-3, atol=1e-3)
        for name, x in ours.items()
    ):
        raise ValueError(
            f"--start-from {agent}: its decoder is not that of this training, and its actions mean nothing to another "
            "one; leave --weights out, or name those that it was trained with"
        )
    learner.actor.load_state_dict(begun.actor.state_dict())


def config_of(agent: Agent) -> TrainConfig:
    """The configuration of the run that `agent` was loaded from; without one, what its file says of its environment."""
    if agent.folder is not None and (agent.folder / "config.json").is_file():
        return load_config(agent.folder)
    kwargs = {"refine": agent.refine, "preprocessing": agent.preprocessing.name}
    return TrainConfig(EnvConfig("ACIS/Scenes-v0", kwargs))
