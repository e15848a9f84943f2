"""One process of several that train together; started by test_distributed.py as torchrun would start it."""

import json
import sys
from functools import partial
from pathlib import Path

import torch

from acis_env import meter
from agents.algorithms import CriticRanking, OutcomeJudging
from agents.algorithms.distributed import join_group
from agents.training.config import train_config_from_dict
from agents.training.trainer import Trainer


def run(jobs, folder):
    """Train by every job's configuration, or go on with the run that it names."""
    with join_group("cpu") as group:
        for name, job in jobs.items():
            if "resume" in job:
                trainer = Trainer.resume(Path(job["resume"]), group=group)
            else:
                callbacks = [StopAfter(2, group)] if name == "stopped" else []
                config = train_config_from_dict(job, name)
                trainer = Trainer(config, folder / name, group=group, callbacks=callbacks)
            gradients = watch_gradients(trainer.learner)
            trainer.run()
            result = {"actor": trainer.learner.actor.state_dict(), "scenes": trainer.core.state.context}
            result["gradients"] = gradients
            if hasattr(trainer.algorithm, "critic"):
                critic = trainer.algorithm.critic
                result["critic"] = getattr(critic, "critic", critic).state_dict()
                result["returns"] = kept_returns(trainer.algorithm)
            torch.save(result, folder / f"{name}-{group.rank}.pt")


class StopAfter:
    """Wants to stop after an iteration; must be asked in the main process only."""

    def __init__(self, last, group):
        self.last, self.group = last, group

    def __call__(self, iteration, metrics):
        assert self.group.is_main
        return iteration == self.last


def kept_returns(algorithm):
    """What the experience of this process was worth."""
    if isinstance(algorithm, CriticRanking):
        return torch.cat([kept.values for kept in algorithm.critic.replay])
    if isinstance(algorithm, OutcomeJudging):
        return torch.cat([qualities for _, qualities in algorithm.state_dict()["replay"]])
    return algorithm.replay.sample(100, torch.Generator().manual_seed(0)).returns


def watch_gradients(learner):
    """A list that grows with every step of the actor by the gradient that is followed, clipped."""
    seen = []

    def look(optimizer, *_):
        seen.append(torch.cat([p.grad.flatten().clone() for p in optimizer.param_groups[0]["params"]]))

    learner.actor_optimizer.register_step_pre_hook(look)
    return seen


if __name__ == "__main__":
    torch.set_num_threads(1)
    meter.INTERVAL = 0.0  # a line per iteration, or such short runs would show none
    # By default Adam makes whole steps of gradients that are nothing but rounding.
    torch.optim.Adam = partial(torch.optim.Adam, eps=1e-3)
    run(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
