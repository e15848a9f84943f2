"""Specifications of environments travel as JSON and pickles, and make the environment again."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from PIL import Image

import acis_env  # noqa: F401  (registers the environments)


@pytest.fixture
def folder(tmp_path):
    """A folder with a name of its own kind, and a scene in it."""
    folder = tmp_path / "mine [1] 100% ü;#" / "train"
    folder.mkdir(parents=True)
    label_map = np.zeros((40, 50), np.uint8)
    label_map[5:20, 5:30] = 1
    Image.fromarray(label_map).save(folder / "a_label.png")
    Image.fromarray(np.repeat(label_map[..., None] * 200, 3, axis=2)).save(folder / "a_rgb.png")
    return folder.parent


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_specification_with_paths_makes_the_same_environment_again(make, folder):
    env = make("ACIS/Scenes-v0", scenes=folder, weights="leaves-64", obs="coarse")
    assert env.unwrapped.spec.kwargs["scenes"] == str(folder)
    expected, _ = env.reset(seed=0)
    for spec in (EnvSpec.from_json(env.spec.to_json()), pickle.loads(pickle.dumps(env.spec)), env.spec):
        assert np.array_equal(make(spec).reset(seed=0)[0], expected)


def test_without_a_specification_there_is_none(make_vec, make_env):
    assert make_vec().spec is None
    assert make_env().spec is None
