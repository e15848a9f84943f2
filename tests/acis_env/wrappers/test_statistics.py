"""Statistics of episodes are those of Gymnasium, and wait for nothing on the device."""

import time

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics as GymnasiumStatistics

from acis_env.wrappers import RecordEpisodeStatistics, TorchToNumpy

MODES = ("SameStep", "NextStep", "Disabled")
ANY_MODE = pytest.mark.parametrize("mode", MODES)


def random_actions(steps, num_envs=3, seed=0):
    """Actions `[steps, num_envs, 4]` in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


@ANY_MODE
def test_statistics_are_those_of_gymnasium(mended_gymnasium, run, make_vec, mode):
    actions = random_actions(25)
    ours = RecordEpisodeStatistics(make_vec(autoreset_mode=mode), buffer_length=7)
    theirs = GymnasiumStatistics(TorchToNumpy(make_vec(autoreset_mode=mode)), buffer_length=7)
    for first, second in zip(run(ours, actions, mode), run(theirs, actions, mode), strict=True):
        infos, expected = first[-1], second[-1]
        assert ("episode" in infos) == ("_episode" in infos) == ("episode" in expected)
        if "episode" in infos:
            assert infos["_episode"].tolist() == expected["_episode"].tolist()
            assert infos["episode"]["l"].tolist() == expected["episode"]["l"].tolist()
            np.testing.assert_allclose(infos["episode"]["r"], expected["episode"]["r"], atol=1e-5)
            assert infos["episode"]["l"].dtype == torch.int64
            assert set(infos["episode"]) == {"r", "l", "t"}
    assert ours.episode_count == theirs.episode_count > 10
    assert len(ours.return_queue) == len(ours.time_queue) == 7
    np.testing.assert_allclose(ours.return_queue, theirs.return_queue, atol=1e-5)
    assert list(ours.length_queue) == list(theirs.length_queue)
    np.testing.assert_allclose(ours.episode_returns, theirs.episode_returns, atol=1e-5)
    assert ours.episode_lengths.tolist() == theirs.episode_lengths.tolist()


@ANY_MODE
def test_an_episode_is_as_long_as_its_scene_has_instances_and_returns_its_potential(run, make_vec, mode):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode=mode))
    lengths, returns = [], []
    for *_, infos in run(env, random_actions(20), mode):
        if "episode" in infos:
            done = infos["_episode"]
            final = infos.get("final_info", infos)
            assert infos["episode"]["l"][done].tolist() == final["num_instances"][done].tolist()
            torch.testing.assert_close(infos["episode"]["r"][done], final["potential"][done])
            assert not infos["episode"]["r"][~done].any()
            lengths += infos["episode"]["l"][done].tolist()
            returns += infos["episode"]["r"][done].tolist()
    assert len(lengths) > 10
    assert (lengths, returns) == (list(env.length_queue), list(env.return_queue))


@ANY_MODE
@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda mask: np.array(mask[::-1])[::-1]])
def test_a_partial_reset_begins_only_the_statistics_of_its_slots(make_vec, mode, kind):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode=mode))
    env.reset(options={"scene_index": 3})  # four instances
    for action in random_actions(2):
        env.step(action)
    returns = env.episode_returns.clone()
    options = {"reset_mask": kind([False, True, False]), "scene_index": 3}
    env.reset(options=options)
    assert set(options) == {"reset_mask", "scene_index"}
    assert env.episode_lengths.tolist() == [2, 0, 2]
    assert env.episode_returns.tolist() == [returns[0], 0, returns[2]]
    env.step(random_actions(1)[0])
    assert env.episode_lengths.tolist() == [3, 1, 3]
    env.reset()
    assert env.episode_lengths.tolist() == [0, 0, 0]


def test_a_reset_of_a_slot_that_waits_for_its_own_counts_the_next_step(make_vec):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode="NextStep"))
    env.reset(options={"scene_index": 2})  # one instance
    action = random_actions(1)[0]
    env.step(action)
    env.reset(options={"reset_mask": np.array([True, False, False]), "scene_index": 3})
    env.step(action)
    assert env.episode_lengths.tolist() == [1, 0, 0]


def test_the_duration_of_an_episode_leaves_out_the_wait_for_its_begin(make_vec, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    env = RecordEpisodeStatistics(make_vec(1, autoreset_mode="NextStep", sampler="sequential"))
    actions = random_actions(4, 1)
    now[0] = 110.0
    env.reset(options={"scene_index": 2})  # one instance
    now[0] = 111.5
    infos = env.step(actions[0])[-1]
    assert infos["episode"]["t"].tolist() == [1.5]
    now[0] = 150.0
    env.step(actions[1])  # begins the next, of two instances
    now[0] = 151.0
    env.step(actions[2])
    now[0] = 152.25
    infos = env.step(actions[3])[-1]
    assert infos["episode"]["t"].tolist() == [2.25]
    assert list(env.time_queue) == [1.5, 2.25]


class MetaEnv(VectorEnv):
    """Tensors without values: whoever looks at one raises. No episode ends."""

    num_envs = 2
    device = torch.device("meta")
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's contract)

    def reset(self, *, seed=None, options=None):
        return torch.zeros(2, 3, device="meta"), {}

    def step(self, actions):
        rewards = torch.zeros(2, device="meta")
        return torch.zeros(2, 3, device="meta"), rewards, rewards > 0, rewards > 0, {}


def test_a_step_without_an_end_moves_nothing_to_the_host():
    env = RecordEpisodeStatistics(MetaEnv())
    env.reset()
    for _ in range(3):
        env.step(None)
    assert env.episode_returns.device.type == "meta"
    # The control: had a step looked at a value, it would have failed like this.
    with pytest.raises((NotImplementedError, RuntimeError)):
        env.episode_returns.tolist()


def test_statistics_never_take_the_place_of_another_entry(run, make_vec):
    env = RecordEpisodeStatistics(RecordEpisodeStatistics(make_vec()))
    with pytest.raises(ValueError, match=r"must not hold 'episode'.*choose another stats_key"):
        run(env, random_actions(5), "SameStep")
    env = RecordEpisodeStatistics(RecordEpisodeStatistics(make_vec()), stats_key="own")
    entries = [infos for *_, infos in run(env, random_actions(5), "SameStep") if "own" in infos]
    assert entries
    assert all(torch.equal(infos["own"]["r"], infos["episode"]["r"]) for infos in entries)
    assert all(torch.equal(infos["_own"], infos["_episode"]) for infos in entries)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_statistics_count_on_from_a_state_that_was_put_back(make_vec, kind):
    env = RecordEpisodeStatistics(make_vec(autoreset_mode="NextStep"))
    actions = random_actions(4)
    env.reset(options={"scene_index": [2, 3, 3]})  # one instance and four
    env.step(actions[0])
    snapshot = env.get_state([0, 1])
    env.step(actions[1])
    env.set_state(snapshot, kind([0, 1]))
    assert env.episode_lengths.tolist() == [0, 0, 2]
    env.step(actions[2])  # slot 0 was over, and begins again
    assert env.episode_lengths.tolist() == [0, 1, 3]


def test_an_environment_must_name_its_autoreset_mode(make_vec):
    env = make_vec()
    del env.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match=r"metadata\['autoreset_mode'\] must be an AutoresetMode, got None"):
        RecordEpisodeStatistics(env)
