"""`check_vector_env` passes environments that keep the contracts, and refuses what it cannot check."""

import functools
import warnings

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from acis_env import SegmentationVectorEnv
from acis_env.testing.checker import VectorEnvError, check_vector_env

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode


def make_cartpole(mode, **options):
    return SyncVectorEnv([functools.partial(gym.make, "CartPole-v1")] * 3, autoreset_mode=mode, **options)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("obs", ["dict", "stacked", "coarse"])
@pytest.mark.parametrize("stop", ["ground_truth", "agent"])
def test_the_environment_passes_with_every_observation_and_stop_mode(make_vec, mode, obs, stop):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_vector_env(make_vec(autoreset_mode=mode, obs=obs, stop=stop), num_steps=3)


def test_frames_are_checked_and_pass(make_vec):
    check_vector_env(make_vec(render_mode="rgb_array"), num_steps=3)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_bundled_environment_passes_under_its_name(mode):
    options = {"scene_options": {"length": 3, "max_leaves": 3}, "autoreset_mode": mode}
    check_vector_env(gym.make_vec("ACIS/Leaves-v0", num_envs=2, obs="coarse", **options), num_steps=3)


@pytest.mark.parametrize("stop", ["ground_truth", "agent"])
@pytest.mark.parametrize("obs", ["dict", "stacked", "coarse"])
def test_every_registered_id_passes_with_every_observation_and_stop(scenes, pretrained, obs, stop):
    options = {"num_envs": 2, "obs": obs, "stop": stop}
    own = gym.make_vec("ACIS/Scenes-v0", scenes=scenes, weights=pretrained, **options)
    check_vector_env(own, num_steps=4)
    bundled = gym.make_vec("ACIS/Leaves-v0", scene_options={"length": 3, "max_leaves": 3}, **options)
    check_vector_env(bundled, num_steps=3)


def test_environments_of_gymnasium_pass(mended_gymnasium):
    check_vector_env(gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync"))
    check_vector_env(gym.make_vec("CartPole-v1", num_envs=3))  # one class for all slots, which takes no list of seeds
    check_vector_env(RecordEpisodeStatistics(make_cartpole(SAME_STEP)))  # its infos are nested and hold seconds


def test_gymnasiums_environment_without_copies_fails():
    with pytest.raises(VectorEnvError, match="returned what a later call has changed: observations"):
        check_vector_env(make_cartpole(NEXT_STEP, copy=False))


def test_a_run_that_ends_no_episode_or_does_not_depend_on_the_seed_is_a_warning(make_vec, make_scenes, make_scene):
    with pytest.warns(UserWarning, match="no episode ended in 2 steps"):
        check_vector_env(make_cartpole(SAME_STEP), num_steps=2)
    one = make_scenes([make_scene([(2, 3, 12, 13)])])
    with pytest.warns(UserWarning, match="seeds 0 and 3 give the same observations"):
        check_vector_env(make_vec(scenes=one), num_steps=2)


def test_what_is_no_vector_environment_is_refused():
    with pytest.raises(VectorEnvError, match=r"env must be a gymnasium.vector.VectorEnv, got TimeLimit"):
        check_vector_env(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="num_steps must be at least 2, got 1"):
        check_vector_env(make_cartpole(SAME_STEP), num_steps=1)


def test_an_exception_of_the_environment_is_reported_with_the_call(make_vec):
    class Breaks(SegmentationVectorEnv):
        def step(self, actions):
            raise KeyError("image")

    with pytest.raises(VectorEnvError, match="step 1 raised KeyError: 'image'"):
        check_vector_env(make_vec(Breaks))
