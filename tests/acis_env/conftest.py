"""The hand-made scenes as environments, and how to play in them."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from acis_env import SegmentationEnv, SegmentationVectorEnv
from acis_env.metrics import METRIC_NAMES


@pytest.fixture
def mended_gymnasium():
    """Skips where Gymnasium's own vector environments share their metadata and its statistics miss ends in SameStep."""
    if tuple(map(int, gym.__version__.split(".")[:2])) < (1, 4):
        pytest.skip("compares with what Gymnasium does from 1.4 on")


@pytest.fixture
def make_env(pretrained, scenes):
    """A function that opens the hand-made scenes one at a time."""

    def make(**options):
        return SegmentationEnv(**{"scenes": scenes, "weights": pretrained, **options})

    return make


@pytest.fixture
def make_vec(pretrained, scenes):
    """A function that opens the hand-made scenes in `num_envs` slots."""

    def make(num_envs=3, **options):
        return SegmentationVectorEnv(num_envs, **{"scenes": scenes, "weights": pretrained, **options})

    return make


@pytest.fixture
def make_stopping(make_vec):
    """A function that opens the scenes for agents that end their episodes, which stay over then."""

    def make(num_envs=3, **options):
        return make_vec(num_envs, **{"stop": "agent", "autoreset_mode": "Disabled", **options})

    return make


@pytest.fixture
def info_keys():
    """What an info always holds."""
    return {"potential", "num_instances", "step_count", "assignment", "scene_index", "augmentation"}


@pytest.fixture
def final_keys():
    """What it holds besides at the end of an episode."""
    return {*METRIC_NAMES, "is_success"}


@pytest.fixture
def random_actions():
    """A function that draws actions `[steps, num_envs, length]`, some of them outside of [-1, 1]."""

    def draw(steps, num_envs=1, seed=0, length=4):
        return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, num_envs, length)).astype(np.float32)

    return draw


@pytest.fixture
def play():
    """A function that plays one episode of a single env: observations from the reset on, rewards, last info."""

    def run(env, actions, seed=None, options=None):
        observation, info = env.reset(seed=seed, options=options)
        observations, rewards = [observation], []
        for action in actions:
            observation, reward, terminated, truncated, info = env.step(action)
            observations.append(observation)
            rewards.append(reward)
            if terminated or truncated:
                break
        return observations, rewards, info

    return run


@pytest.fixture
def assert_close_observations():
    """A function that wants two observations, batched or not, equal up to the rounding of one grey level."""

    def check(first, second):
        assert set(first) == set(second) == {"image", "mask", "foreground", "angles"}
        for key in first:
            a, b = (np.asarray(observation[key]) for observation in (first, second))
            assert a.shape == b.shape
            assert a.dtype == b.dtype == np.uint8
            assert np.abs(a.astype(int) - b.astype(int)).max() <= 1, key

    return check


@pytest.fixture
def assert_same():
    """A function that wants two results equal bit for bit: tensors, arrays, or dicts and sequences of them."""

    def check(first, second):
        assert type(first) is type(second)
        if isinstance(first, dict):
            assert first.keys() == second.keys()
            for key in first:
                check(first[key], second[key])
        elif isinstance(first, list | tuple):
            assert len(first) == len(second)
            for a, b in zip(first, second, strict=True):
                check(a, b)
        elif isinstance(first, torch.Tensor):
            assert first.dtype == second.dtype
            if first.device.type == "cpu":
                assert torch.equal(first, second)
            else:  # which adds up in any order
                torch.testing.assert_close(first, second)
        else:
            assert np.array_equal(first, second)

    return check


@pytest.fixture
def rows():
    """A function that takes the slots `index` out of a batched result: tensors, or dicts and sequences of them."""

    def take(value, index):
        if isinstance(value, dict):
            return {key: take(part, index) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return tuple(take(part, index) for part in value)
        return value[index]

    return take
