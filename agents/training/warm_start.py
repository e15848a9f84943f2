"""A training that begins with the actor of an agent, to go on with other scenes or with another schedule."""

from __future__ import annotations

from pathlib import Path

import torch

from agents.algorithms import Learner
from agents.models.agent import Agent
from agents.training.trainer import load_config


def weights_of(agent: str) -> str:
    """The networks around the actions of an agent, as environments take them: a name or a folder.

    Args:
        agent: the folder of a run, or the name of an agent that comes with the package, whose networks do, too.

    Raises:
        ValueError: the agent is neither; then the networks have to be named.
    """
    if not Path(agent).exists():
        return agent
    if not (Path(agent) / "config.json").exists():
        raise ValueError(f"--start-from {agent} is not the folder of a run: name the networks of its agent, --weights")
    weights: str = load_config(Path(agent)).env.kwargs["weights"]
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
