"""Gymnasium's own vector environment of the hand-made scenes, and how to play in any of them."""

import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from acis_env import SegmentationEnv


@pytest.fixture
def make_sync(pretrained, scenes):
    """A function that opens the hand-made scenes as single environments in Gymnasium's own vector environment."""

    class WithoutAssignment(gym.Wrapper):
        """Its length differs between the slots, which `SyncVectorEnv` cannot batch."""

        def reset(self, **kwargs):
            observation, info = self.env.reset(**kwargs)
            return observation, {key: value for key, value in info.items() if key != "assignment"}

        def step(self, action):
            *results, info = self.env.step(action)
            return *results, {key: value for key, value in info.items() if key != "assignment"}

    def make(num_envs, mode, **options):
        options = {"scenes": scenes, "weights": pretrained, **options}
        return SyncVectorEnv(
            [lambda: WithoutAssignment(SegmentationEnv(**options))] * num_envs, autoreset_mode=AutoresetMode(mode)
        )

    return make


@pytest.fixture
def run():
    """A function that plays, and returns what `reset` and every `step` return."""

    def play(env, actions, mode, seed=5):
        """What `reset` and every `step` return; where resets are disabled, slots are reset as soon as they are over."""
        record = [env.reset(seed=seed)]
        for action in actions:
            # Gymnasium's statistics write into masks that they returned earlier.
            record.append(copy.deepcopy(env.step(action)))
            is_over = np.asarray(record[-1][2] | record[-1][3])
            if mode == "Disabled" and is_over.any():
                record.append(env.reset(options={"reset_mask": is_over}))
        return record

    return play
