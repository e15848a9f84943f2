"""The replay buffer gives the samples of one that keeps everything, with little memory for pictures."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize

from acis_env.adapters.sb3 import SB3VecEnv, SceneReplayBuffer

KINDS = {
    "dict": {"obs": "dict"},
    "stacked": {"obs": "stacked"},
    "float": {"obs": "dict", "obs_dtype": "float32"},
    "coarse": {"obs": "coarse"},
}
PICTURES = {name: options for name, options in KINDS.items() if name != "coarse"}
COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def random_actions(steps, num_envs=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


def _parts(observation):
    return observation if isinstance(observation, dict) else {"all": observation}


def collect(venv, buffers, steps, seed=0, restart=False):
    """Random steps, stored as the off-policy algorithms store them."""
    venv.seed(seed)
    observations = venv.reset()
    for step, action in enumerate(random_actions(steps, venv.num_envs, seed)):
        if restart and step == steps // 2:
            observations = venv.reset()
        following, rewards, dones, infos = venv.step(action)
        real = pickle.loads(pickle.dumps(following))
        for slot in np.flatnonzero(dones):
            for key, value in _parts(infos[slot]["terminal_observation"]).items():
                _parts(real)[key][slot] = value
        for buffer in buffers:
            buffer.add(observations, real, action, rewards, dones, infos)
        observations = following


@pytest.fixture
def assert_equal_samples(sample_slot):
    """A function that compares every transition in two buffers, field by field."""

    def compare(buffer, expected):
        assert buffer.size() == expected.size() > 0
        for slot in range(buffer.n_envs):
            own, other = (sample_slot(either, np.arange(either.size()), slot) for either in (buffer, expected))
            assert type(own) is type(other)
            for name in ("observations", "actions", "next_observations", "dones", "rewards"):
                ours, theirs = _parts(getattr(own, name)), _parts(getattr(other, name))
                assert set(ours) == set(theirs)
                for key in theirs:
                    assert ours[key].dtype == theirs[key].dtype
                    assert torch.equal(ours[key], theirs[key]), (name, key)

    return compare


def make_buffers(venv, size, **options):
    spaces = {"observation_space": venv.observation_space, "action_space": venv.action_space}
    theirs = DictReplayBuffer if isinstance(venv.observation_space, gym.spaces.Dict) else ReplayBuffer
    common = {**spaces, "device": "cpu", "n_envs": venv.num_envs}
    own = SceneReplayBuffer(size, **common, source=venv.replay_source, **options)
    return own, theirs(size, **common)


@pytest.mark.parametrize("augmentation", [None, COLOURFUL], ids=["plain", "augmented"])
@pytest.mark.parametrize("options", PICTURES.values(), ids=PICTURES)
def test_samples_are_those_of_the_buffer_that_keeps_everything(make_vec, assert_equal_samples, options, augmentation):
    venv = SB3VecEnv(make_vec(3, max_episode_steps=2, augmentation=augmentation, context="oracle", **options))
    buffers = make_buffers(venv, size=30)
    collect(venv, buffers, steps=7)
    assert_equal_samples(*buffers)
    collect(venv, buffers, steps=16, restart=True)  # wraps around, and twice begins anew in the middle of an episode
    assert buffers[0].full
    assert_equal_samples(*buffers)
    assert {float(value) for value in buffers[0].timeouts.flatten()} == {0.0, 1.0}


@pytest.mark.parametrize(("num_envs", "size"), [(1, 5), (2, 2), (3, 9)])
def test_samples_are_right_for_any_number_of_slots_and_rows(make_vec, assert_equal_samples, num_envs, size):
    venv = SB3VecEnv(make_vec(num_envs, obs="stacked"))
    buffers = make_buffers(venv, size)
    for steps in (3, 8):
        collect(venv, buffers, steps)
        assert_equal_samples(*buffers)


def test_few_masks_are_kept_twice(make_vec):
    venv = SB3VecEnv(make_vec(3, obs="stacked"))
    own, theirs = make_buffers(venv, size=90)
    collect(venv, (own,), steps=30)
    ended = int(own.dones.sum())
    assert 0 < len(own._last_masks) == ended - int(own.dones[29].sum())
    arrays = (own.observations, own.actions, own.rewards, own.dones, own.timeouts, own.scene_index, own.augmentation)
    assert sum(array.nbytes for array in arrays) == 90 * (32 * 32 + 4 * 4 + 48)
    assert theirs.observations.nbytes + theirs.next_observations.nbytes == 90 * 26 * 32 * 32
    collect(venv, (own,), steps=30, seed=1)
    assert len(own._last_masks) <= own.dones.sum() + 3  # those of overwritten rows are gone


def test_contexts_that_are_kept_stay_within_their_memory(make_vec, assert_equal_samples):
    venv = SB3VecEnv(make_vec(3, obs="dict"))
    of_two = 2 * 12 * 32 * 32
    buffers = make_buffers(venv, size=60, cache_bytes=of_two)
    collect(venv, buffers, steps=20)
    assert len(set(buffers[0].scene_index.flatten().tolist())) > 2
    assert_equal_samples(*buffers)
    assert len(buffers[0]._cache) == 2


def test_a_buffer_is_pickled_without_its_environment_and_goes_on_when_that_is_given_back(
    make_vec, assert_equal_samples
):
    venv = SB3VecEnv(make_vec(3, obs="dict"))
    buffers = make_buffers(venv, size=30)
    collect(venv, buffers, steps=6)
    assert_equal_samples(*buffers)
    content = pickle.dumps(buffers[0])
    assert b"SegmentationVectorEnv" not in content
    again = pickle.loads(content)
    with pytest.raises(RuntimeError, match=r"set_source\(venv.replay_source\)"):
        again.sample(4)
    again.set_source(venv.replay_source)
    assert_equal_samples(again, buffers[1])


def test_a_buffer_that_was_reset_is_empty(make_vec, assert_equal_samples):
    venv = SB3VecEnv(make_vec(3, obs="dict"))
    buffers = make_buffers(venv, size=30)
    for _ in range(2):
        collect(venv, buffers, steps=4)
        assert_equal_samples(*buffers)
        for buffer in buffers:
            buffer.reset()
        assert buffers[0].size() == 0
        assert not buffers[0]._last_masks


def test_rewards_are_normalised_as_stable_baselines3_does_and_pictures_are_not(make_vec):
    venv = SB3VecEnv(make_vec(3, obs="dict"))
    buffers = make_buffers(venv, size=30)
    collect(venv, buffers, steps=4)
    normalise = VecNormalize(venv, norm_obs=False)
    normalise.ret_rms.var = np.float64(0.04)
    batches = []
    for buffer in buffers:
        set_random_seed(0)
        batches.append(buffer.sample(8, env=normalise))
    assert torch.equal(batches[0].rewards, batches[1].rewards)
    assert (batches[0].rewards > 1).any()
    with pytest.raises(ValueError, match="norm_obs=False"):
        buffers[0].sample(8, env=VecNormalize(venv, norm_obs_keys=["mask"]))


def test_what_the_buffer_cannot_work_with_is_refused(make_vec):
    venv, coarse = SB3VecEnv(make_vec(obs="dict")), SB3VecEnv(make_vec(obs="coarse"))
    with pytest.raises(ValueError, match='observation_space must be that of obs="dict" or "stacked"'):
        SceneReplayBuffer(10, coarse.observation_space, coarse.action_space)
    with pytest.raises(ValueError, match="optimize_memory_usage must be False"):
        SceneReplayBuffer(10, venv.observation_space, venv.action_space, optimize_memory_usage=True)
    buffer = SceneReplayBuffer(10, venv.observation_space, venv.action_space, device="cpu", n_envs=3)
    with pytest.raises(TypeError, match=r"source must be SB3VecEnv.replay_source, got SB3VecEnv"):
        buffer.set_source(venv)
    with pytest.raises(ValueError, match="source must have the observations of the buffer"):
        buffer.set_source(coarse.replay_source)
    observations = venv.reset()
    following, rewards, dones, _ = venv.step(random_actions(1)[0])
    with pytest.raises(ValueError, match=r"infos must have the keys .*'scene_index', 'augmentation'.*, got \[\]"):
        buffer.add(observations, following, random_actions(1)[0], rewards, dones, [{}] * 3)
