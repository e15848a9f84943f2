"""Episodes recorded when the environment still did everything step by step and scene by scene must come out again."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import acis_env  # noqa: F401  (registers the environments)

RECORD = Path(__file__).with_name("recorded_episodes.json")


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_the_same_seeds_and_actions_give_the_episodes_recorded_earlier(mode):
    recorded = json.loads(RECORD.read_text())[mode]
    augmentation = {"rotation": 20.0, "brightness": 0.2}
    envs = gym.make_vec("ACIS/Leaves-v0", 4, obs="coarse", autoreset_mode=mode, augmentation=augmentation)
    envs.reset(seed=7)
    rng = np.random.default_rng(0)
    for rewards, done, sums in zip(*(recorded[key] for key in ("rewards", "done", "observation_sums")), strict=True):
        observations, earned, terminated, truncated, _ = envs.step(rng.uniform(-1, 1, (4, 16)).astype(np.float32))
        np.testing.assert_allclose(earned, rewards, atol=1e-4)
        assert (terminated | truncated).tolist() == [bool(flag) for flag in done]
        np.testing.assert_allclose(observations.sum(1), sums, atol=1e-2)  # of 208 numbers
