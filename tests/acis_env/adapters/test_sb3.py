"""To Stable-Baselines3 the environment is one that is reset by hand, in numpy."""

import pickle

import gymnasium as gym
import numpy as np
import pytest

from acis_env.metrics import METRIC_NAMES

pytest.importorskip("stable_baselines3")
from stable_baselines3.common.monitor import Monitor

from acis_env.adapters.sb3 import EnvReference, SB3VecEnv

KINDS = {
    "dict": {"obs": "dict"},
    "stacked": {"obs": "stacked"},
    "float": {"obs": "dict", "obs_dtype": "float32"},
    "coarse": {"obs": "coarse"},
}
COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}


def random_actions(steps, num_envs=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


def rows(observations, index):
    """Row or rows of a batch, as a dict of arrays whatever the kind."""
    parts = observations if isinstance(observations, dict) else {"all": observations}
    return {key: np.asarray(value[index]) for key, value in parts.items()}


def assert_same(first, second):
    assert set(first) == set(second)
    for key in first:
        assert first[key].dtype == second[key].dtype
        np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_every_array_is_that_of_an_environment_that_is_reset_by_hand(play_by_hand, make_vec, options):
    venv = SB3VecEnv(make_vec(max_episode_steps=3, augmentation=COLOURFUL, **options))
    twin = make_vec(max_episode_steps=3, augmentation=COLOURFUL, autoreset_mode="Disabled", **options)
    actions, ends = random_actions(12), 0
    venv.seed(5)
    observations = venv.reset()
    for action, (before, after, rewards, terminated, truncated, infos) in zip(
        actions, play_by_hand(twin, actions, seed=5), strict=True
    ):
        assert all(venv.observation_space.contains(_one(observations, slot)) for slot in range(3))
        assert_same(rows(observations, slice(None)), rows(before, slice(None)))
        observations, own_rewards, dones, own_infos = venv.step(action)
        assert (own_rewards.dtype, dones.dtype) == (np.float32, np.bool_)
        np.testing.assert_array_equal(own_rewards, rewards)
        np.testing.assert_array_equal(dones, terminated | truncated)
        for slot in np.flatnonzero(dones):
            ends += 1
            info = own_infos[slot]
            assert_same(_parts(info["terminal_observation"]), rows(after, slot))
            assert info["TimeLimit.truncated"] == truncated[slot]
            for key in (*METRIC_NAMES, "is_success"):
                assert info[key] == infos[key][slot].item()
    assert ends >= 9


def _one(observations, slot):
    return {k: v[slot] for k, v in observations.items()} if isinstance(observations, dict) else observations[slot]


def _parts(observation):
    return observation if isinstance(observation, dict) else {"all": observation}


def test_infos_say_little_until_an_episode_ends_and_then_everything(make_vec):
    venv = SB3VecEnv(make_vec(max_episode_steps=2))
    venv.set_options([{"scene_index": index} for index in (2, 0, 3)])  # 1, 2 and 4 instances
    venv.reset()
    assert [info["num_instances"] for info in venv.reset_infos] == [1, 2, 4]
    first, second = random_actions(2)
    *_, dones, infos = venv.step(first)
    assert dones.tolist() == [True, False, False]
    assert [set(info) for info in infos[1:]] == [{"scene_index", "augmentation"}] * 2
    assert [info["scene_index"] for info in infos] == [2, 0, 3]
    assert (infos[0]["num_instances"], infos[0]["step_count"]) == (1, 1)
    assert infos[0]["assignment"].tolist() == [0]
    assert isinstance(infos[0]["is_success"], bool)
    assert isinstance(infos[0]["sbd"], float)
    assert venv.reset_infos[0]["step_count"] == 0
    begun = venv.reset_infos[0]["scene_index"]
    *_, dones, infos = venv.step(second)
    assert infos[0]["scene_index"] == begun
    assert dones[1:].tolist() == [True, True]
    assert [info["TimeLimit.truncated"] for info in infos[1:]] == [False, True]


def test_seeds_and_options_hold_for_one_reset(make_vec):
    venv, twin = SB3VecEnv(make_vec()), make_vec()
    venv.seed(3)
    venv.set_options({"scene_index": 4})
    for seed, options in ((3, {"scene_index": 4}), (None, None)):
        expected, infos = twin.reset(seed=seed, options=options)
        assert_same(rows(venv.reset(), slice(None)), rows(expected, slice(None)))
        assert [info["scene_index"] for info in venv.reset_infos] == infos["scene_index"].tolist()


@pytest.mark.parametrize("options", [[{"scene_index": 1}, {}, {}], {"reset_mask": np.ones(3, bool)}])
def test_options_that_are_not_one_scene_per_slot_are_refused(make_vec, options):
    venv = SB3VecEnv(make_vec())
    venv.set_options(options)
    with pytest.raises(ValueError, match="options must hold 'scene_index' for every slot"):
        venv.reset()


def test_attributes_and_methods_are_those_of_the_slots_asked_for(make_vec):
    venv = SB3VecEnv(make_vec(render_mode="rgb_array", sequence_length=2))
    venv.seed(0)
    venv.reset()
    assert venv.get_attr("sequence_length", [0, 2]) == [2, 2]
    assert venv.has_attr("decoder")
    assert not venv.has_attr("encoder")
    venv.set_attr("sequence_length", 1)
    assert venv.get_attr("sequence_length") == [1, 1, 1]
    with pytest.raises(ValueError, match=r"indices must be None or all 3 slots.*got \[1\]"):
        venv.set_attr("sequence_length", 3, indices=1)
    (snapshot,) = venv.env_method("get_state", indices=1)
    assert snapshot.scene_index.tolist() == [venv.reset_infos[1]["scene_index"]]
    assert venv.env_method("get_attr", "score", indices=[0, 1]) == ["dice", "dice"]
    assert venv.env_is_wrapped(Monitor, [0, 1]) == [False, False]
    frames = venv.get_images()
    assert [frame.dtype for frame in frames] == [np.uint8] * 3
    assert venv.render().ndim == 3
    venv.close()
    venv.close()


def test_without_a_render_mode_there_are_no_images(make_vec):
    venv = SB3VecEnv(make_vec())
    venv.reset()
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert venv.get_images() == [None] * 3


def test_only_a_bare_environment_that_resets_in_the_same_step_is_taken(make_vec):
    with pytest.raises(ValueError, match=r'must have autoreset_mode="SameStep".*got "NextStep"'):
        SB3VecEnv(make_vec(autoreset_mode="NextStep"))
    with pytest.raises(TypeError, match="must be a SegmentationVectorEnv without wrappers, got VectorWrapper"):
        SB3VecEnv(gym.vector.VectorWrapper(make_vec()))


def test_what_was_returned_stays_as_it_was(make_vec):
    venv = SB3VecEnv(make_vec())
    venv.seed(0)
    kept, copies = [venv.reset()], []
    for action in random_actions(4):
        copies.append(pickle.dumps(kept[-1]))
        observations, _, _, infos = venv.step(action)
        kept.append((observations, infos))
    assert [pickle.dumps(value) for value in kept[:-1]] == copies


def test_a_vector_environment_can_be_pickled(make_vec):
    venv = SB3VecEnv(make_vec(3))
    venv.seed(0)
    venv.reset()
    again = pickle.loads(pickle.dumps(venv))
    for action in random_actions(4):
        (first, _, _, _), (second, _, _, _) = venv.step(action), again.step(action)
        assert_same(rows(first, slice(None)), rows(second, slice(None)))
    assert pickle.loads(pickle.dumps(EnvReference(venv.env))).env is None
