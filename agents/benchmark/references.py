"""What the numbers of agents stand between: chance in two forms, and the bound of the decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import load_pretrained
from agents.benchmark.contender import Kind, Ready, Task
from agents.evaluation.policies import RandomPolicy, policy_segmenter
from agents.evaluation.segmenters import Segmenter, random_segmenter, reconstruction_segmenter
from agents.experiments.methods import Variant, env_of
from agents.models.prediction import Stopping


@dataclass(frozen=True)
class Reference:
    """A segmenter that learns nothing."""

    about: str
    make: Callable[[SegmentationVectorEnv, int], Segmenter]
    """Takes the environment in which it is evaluated, and the seed."""
    stopping: Stopping
    kind: Kind = "reference"
    is_seeded: bool = True
    variant: Variant = "standard"

    def configuration(self, task: Task) -> dict[str, Any]:
        """Nothing but who says how many instances there are."""
        return {"stopping": self.stopping}

    def prepare(self, task: Task) -> Ready:
        """Nothing to prepare."""
        pretrained = load_pretrained(task.weights).to(task.device)
        return Ready(
            env_of(task.scene_set, task.weights),
            pretrained,
            lambda core: self.make(core, task.seed),
            self.stopping,
        )


def random_actions(core: SegmentationVectorEnv, seed: int) -> Segmenter:
    """Actions drawn uniformly from their space."""
    space = core.single_action_space
    assert isinstance(space, gym.spaces.Box)
    return policy_segmenter(RandomPolicy(space, seed), core)


def random_codes(core: SegmentationVectorEnv, seed: int) -> Segmenter:
    """Codes drawn from the prior of the decoder, in any number up to that of the fullest scene."""
    assert core.pretrained is not None
    return random_segmenter(core.pretrained, max(core.source.own_scenes.max_instances, 1), seed)


def reconstruction(core: SegmentationVectorEnv, seed: int) -> Segmenter:
    """The decoder's reconstruction of every true instance."""
    assert core.pretrained is not None
    return reconstruction_segmenter(core.pretrained)
