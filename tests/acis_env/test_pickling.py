"""Environments survive pickling, copying and the JSON of their spec."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from acis_env import SegmentationVectorEnv

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def episodes_of(envs, actions, **reset):
    """Everything that `reset` and the steps return."""
    return [envs.reset(**reset), *(envs.step(action) for action in actions)]


def go_on(envs, actions):
    return [envs.step(action) for action in actions]


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_pickled_environment_goes_on_in_the_middle_of_its_episodes(make_vec, random_actions, assert_same, copied):
    envs = make_vec(3, augmentation=COLOURFUL, sampler="shuffle", autoreset_mode="NextStep", score="iou", obs="stacked")
    actions = random_actions(10, 3)
    envs.reset(seed=0)
    go_on(envs, actions[:2])
    envs.set_attr("count_penalty", 0.5)
    other = copied(envs)
    assert other is not envs
    assert other.rules == envs.rules
    assert other.rules.score == "iou"
    assert other.metadata == envs.metadata
    assert other.single_observation_space == envs.single_observation_space
    assert_same(go_on(other, actions[2:]), go_on(envs, actions[2:]))


def test_an_environment_without_episodes_can_be_pickled(make_vec, make_env, assert_same):
    envs = make_vec(2, max_episode_steps=2, render_mode="rgb_array")
    other = pickle.loads(pickle.dumps(envs))
    assert (other.num_envs, other.max_episode_steps, other.render_mode) == (2, 2, "rgb_array")
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        other.step(np.zeros((2, 4), np.float32))
    assert_same(other.reset(seed=1), envs.reset(seed=1))
    env = make_env()
    single = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(single.reset(seed=1)[0]["image"], env.reset(seed=1)[0]["image"])


def test_a_spec_survives_json_with_all_its_arguments(assert_same):
    arguments = {
        "scene_options": {"length": 3, "max_leaves": 4},
        "split": "val",
        "augmentation": {"rotation": 10.0, "scale": (0.9, 1.1)},
        "autoreset_mode": "NextStep",
        "max_episode_steps": 3,
        "obs": "coarse",
        "sampler": "shuffle",
        "stop": "agent",
        "count_penalty": 0.5,
        "sequence_length": 2,
        "prefill": "random",
        "matching_noise": 0.1,
        "score": "iou",
    }
    envs = gym.make_vec("ACIS/Leaves-v0", num_envs=2, **arguments)
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert again.num_envs == 2
    assert again.rules == envs.rules
    assert again.autoreset_mode is AutoresetMode.NEXT_STEP
    assert pickle.loads(pickle.dumps(envs)).spec == envs.spec
    actions = np.random.default_rng(0).uniform(-1, 0.5, (6, 2, 17)).astype(np.float32)
    assert_same(episodes_of(again, actions, seed=4), episodes_of(envs, actions, seed=4))


def test_the_registered_spec_survives_json():
    spec = EnvSpec.from_json(gym.spec("ACIS/Leaves-v0").to_json())
    envs = gym.make_vec(spec, num_envs=2, scene_options={"length": 2})
    assert isinstance(envs, SegmentationVectorEnv)
    assert envs.num_envs == 2
    assert envs.spec.id == "ACIS/Leaves-v0"
