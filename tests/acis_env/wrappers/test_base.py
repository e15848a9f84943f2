"""The wrappers hide nothing of the environment inside."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from acis_env.wrappers import RecordEpisodes, RecordEpisodeStatistics, TorchToNumpy


def random_actions(steps, num_envs=3, seed=0):
    """Actions `[steps, num_envs, 4]` in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


def test_a_stack_of_wrappers_shows_what_the_environment_has(make_vec, tmp_path):
    env = make_vec(2, autoreset_mode="NextStep", render_mode="rgb_array")
    wrapped = RecordEpisodeStatistics(RecordEpisodes(env, tmp_path))
    for outer in (wrapped, TorchToNumpy(wrapped)):
        assert outer.unwrapped is env
        assert outer.device == torch.device("cpu")
        assert outer.autoreset_mode is outer.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert outer.num_envs == 2
        outer.set_attr("count_penalty", outer.get_attr("count_penalty")[0] + 0.5)
        assert outer.call("rules") == (env.rules, env.rules)
        outer.reset(seed=1)
        outer.set_state(outer.get_state())
        assert len(outer.render()) == 2
        assert len(outer.render(env_ids=[1])) == 1
    assert env.rules.count_penalty == 1
    outer.close()
    outer.close()
    assert env.closed


def test_what_the_environment_inside_lacks_the_wrapper_lacks_too(make_sync):
    env = RecordEpisodeStatistics(make_sync(2, "SameStep"))
    assert env.autoreset_mode is AutoresetMode.SAME_STEP
    assert not hasattr(env, "device")
    assert not hasattr(env, "get_state")
    with pytest.raises(AttributeError, match=r"RecordEpisodeStatistics has no attribute 'decoder'.*`unwrapped`"):
        _ = env.decoder


def test_wrapped_environments_can_be_pickled(run, make_vec):
    env = TorchToNumpy(RecordEpisodeStatistics(make_vec()))
    actions = random_actions(12)
    run(env, actions[:4], "SameStep")
    restored = pickle.loads(pickle.dumps(env))
    assert restored.env.episode_count == env.env.episode_count > 0
    for action in actions[4:]:
        first, second = env.step(action), restored.step(action)
        np.testing.assert_array_equal(first[1], second[1])
        assert ("episode" in first[4]) == ("episode" in second[4])
    assert list(restored.env.return_queue) == list(env.env.return_queue)
