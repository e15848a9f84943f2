"""How episodes end, what a wrong count costs, and when a change of the rules takes effect."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from acis_env.reward import overlap

ADD, STOP = -1.0, 0.25


def with_stops(actions, stops):
    """Actions `[num_envs, l + 1]` of `[num_envs, l]` and a last entry for each slot."""
    return np.concatenate([actions, np.array(stops, np.float32)[:, None]], axis=1)


def test_an_agent_that_stops_has_one_more_entry_in_its_action(make_vec, make_env, random_actions):
    envs, env = make_vec(3, stop="agent"), make_env(stop="agent")
    assert envs.single_action_space.shape == env.action_space.shape == (5,)
    assert envs.action_space.shape == (3, 5)
    envs.reset()
    with pytest.raises(ValueError, match=r"actions must be \[num_envs, l \+ 1\] = \[3, 5\], got \[3, 4\]"):
        envs.step(random_actions(1, 3)[0])
    assert make_vec(3).single_action_space.shape == (4,)


def test_a_positive_last_entry_ends_the_episode_and_adds_nothing(make_stopping, random_actions, assert_same):
    envs = make_stopping(3)
    envs.reset(options={"scene_index": 3})
    actions = random_actions(2, 3)
    envs.step(with_stops(actions[0], [ADD, ADD, ADD]))
    before = envs.get_state()
    observations, rewards, terminated, truncated, infos = envs.step(with_stops(actions[1], [ADD, STOP, 0.0]))
    assert terminated.tolist() == [False, True, False]  # zero is not positive
    assert not truncated.any()
    assert rewards[1] == 0
    assert infos["step_count"].tolist() == [2, 1, 2]
    assert infos["potential"][1] == before.state.potential[1] > 0
    stopped = slice(1, 2)
    assert_same(envs.state.select(stopped).tensors(), before.state.select(stopped).tensors())
    assert_same(observations["mask"][1], envs.observer(before.state)["mask"][1])
    assert not torch.equal(observations["mask"][0], envs.observer(before.state)["mask"][0])
    assert infos["_sbd"].tolist() == [False, True, False]


def test_the_decoded_part_of_an_action_knows_nothing_of_the_last_entry(make_stopping, make_vec, random_actions):
    envs, plain = make_stopping(2), make_vec(2)
    for env in (envs, plain):
        env.reset(options={"scene_index": [1, 3]})
    for action in random_actions(2, 2):
        first = envs.step(with_stops(action, [-0.3, -1.0]))
        second = plain.step(action)
        assert torch.equal(first[0]["mask"], second[0]["mask"])
        assert torch.equal(first[1], second[1])


def test_an_agent_may_stop_before_it_has_added_anything(make_stopping, random_actions):
    envs = make_stopping(2)
    envs.reset(options={"scene_index": [0, 3]})
    observations, rewards, terminated, _, infos = envs.step(with_stops(random_actions(1, 2)[0], [STOP, STOP]))
    assert terminated.tolist() == [True, True]
    assert rewards.tolist() == infos["potential"].tolist() == infos["sbd"].tolist() == [0, 0]
    assert infos["dic"].abs().tolist() == [2, 4]
    assert not infos["is_success"].any()
    assert not observations["mask"].any()
    assert all(torch.isfinite(value).all() for value in infos.values())


@pytest.mark.parametrize(("limit", "expected"), [(None, 8), (3, 3), (11, 11)])
def test_an_agent_that_never_stops_is_cut_after_twice_the_largest_number_of_instances(
    make_stopping, random_actions, limit, expected
):
    envs = make_stopping(5, max_episode_steps=limit)
    assert envs.max_episode_steps == expected
    envs.reset(options={"scene_index": list(range(5))})
    total = torch.zeros(5)
    for taken, action in enumerate(random_actions(expected, 5), start=1):
        _, rewards, terminated, truncated, infos = envs.step(with_stops(action, [ADD] * 5))
        total += rewards
        assert not terminated.any()
        assert truncated.tolist() == [taken == expected] * 5
    assert infos["step_count"].tolist() == [expected] * 5
    torch.testing.assert_close(total, infos["potential"])
    found = (infos["assignment"] >= 0).sum(1)
    assert found.tolist() == [min(expected, count) for count in (2, 3, 1, 4, 3)]


def test_stopping_in_the_last_step_allowed_is_no_truncation(make_stopping, random_actions):
    envs = make_stopping(2, max_episode_steps=2)
    envs.reset(options={"scene_index": 3})
    actions = random_actions(2, 2)
    envs.step(with_stops(actions[0], [ADD, ADD]))
    _, _, terminated, truncated, _ = envs.step(with_stops(actions[1], [STOP, ADD]))
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]


def test_without_a_limit_the_ground_truth_alone_ends_an_episode(make_vec):
    assert make_vec().max_episode_steps is None


@pytest.mark.parametrize(("added", "missing"), [(0, 4), (1, 3), (3, 1), (4, 0), (6, 0)])
def test_stopping_costs_the_penalty_for_each_prediction_that_is_missing(make_stopping, random_actions, added, missing):
    envs = make_stopping(1, count_penalty=0.5)
    envs.reset(options={"scene_index": 3})  # four instances
    actions = random_actions(added + 1)
    for action in actions[:-1]:
        envs.step(with_stops(action, [ADD]))
    _, rewards, terminated, _, infos = envs.step(with_stops(actions[-1], [STOP]))
    assert terminated.all()
    assert infos["step_count"].tolist() == [added]
    assert rewards.tolist() == [-0.5 * missing]


def test_a_prediction_beyond_the_instances_costs_the_penalty_when_it_is_made(make_stopping, random_actions):
    envs, free = make_stopping(3, count_penalty=0.25), make_stopping(3)
    for env in (envs, free):
        env.reset(options={"scene_index": [2, 0, 3]})  # one, two and four instances
    costs = []
    for action in random_actions(4, 3):
        (_, rewards, *_, infos), (_, free_rewards, *_) = (e.step(with_stops(action, [ADD] * 3)) for e in (envs, free))
        costs.append((free_rewards - rewards).tolist())
    np.testing.assert_allclose(costs, [[0, 0, 0], [0.25, 0, 0], [0.25, 0.25, 0], [0.25, 0.25, 0]], atol=1e-6)
    assert infos["potential"].tolist() == free.state.potential.tolist()


def test_what_the_curriculum_gave_away_is_not_missing(make_stopping, random_actions):
    envs = make_stopping(1, count_penalty=1.0, sequence_length=2)
    envs.reset(seed=0, options={"scene_index": 3})
    _, rewards, *_ = envs.step(with_stops(random_actions(1)[0], [STOP]))
    assert rewards.tolist() == [-2]


def recall(masks, label_maps, areas):
    """A score of one's own: the share of an instance that a mask covers."""
    return overlap(masks, label_maps, areas.shape[1]) / areas.clamp_min(1)


def clean_total(state):
    """Number of assigned predictions of the only slot, and their total score without noise."""
    scores, chosen = state.scores[0], state.assignment[0]
    rows = (chosen >= 0).nonzero()[:, 0]
    assert len(set(chosen[rows].tolist())) == len(rows)
    return len(rows), float(scores[rows, chosen[rows]].double().sum())


def test_what_a_step_earns_changes_at_once(make_stopping, random_actions):
    envs = make_stopping(1)
    envs.reset(options={"scene_index": 3})
    actions = random_actions(3)
    envs.step(with_stops(actions[0], [ADD]))
    envs.set_attr("count_penalty", 2.0)
    _, rewards, *_ = envs.step(with_stops(actions[1], [STOP]))
    assert rewards.tolist() == [-6]


def test_a_score_set_while_the_environment_runs_is_that_of_the_next_step(make_vec, random_actions):
    envs, other = make_vec(1), make_vec(1, score=recall)
    envs.set_attr("score", recall)
    for env in (envs, other):
        env.reset(options={"scene_index": 3})
    action = random_actions(1)[0]
    assert envs.step(action)[1] == other.step(action)[1] > 0


def test_noise_set_while_the_environment_runs_begins_with_the_next_episode(make_vec):
    envs = make_vec(2)
    envs.reset(seed=0)
    envs.set_attr("matching_noise", 0.5)
    assert not envs.state.noise.any()
    envs.reset(options={"reset_mask": np.array([True, False])})
    assert envs.state.noise[0].all()
    assert not envs.state.noise[1].any()


def test_noise_that_is_switched_off_stays_until_the_episode_ends(make_stopping, random_actions):
    envs = make_stopping(1, max_episode_steps=6)
    for seed in range(10):
        envs.set_attr("matching_noise", 1.0)
        envs.reset(seed=seed, options={"scene_index": 1})
        envs.set_attr("matching_noise", 0.0)
        for action in random_actions(6, seed=seed):
            envs.step(with_stops(action, [ADD]))
            assert float(envs.state.potential) == pytest.approx(clean_total(envs.state)[1], abs=1e-5)


@pytest.mark.parametrize(("name", "value"), [("sequence_length", 1), ("threshold", 0.3), ("reward", "sbd")])
def test_a_rule_is_set_through_all_wrappers_of_a_single_environment(make_env, name, value):
    env = gym.wrappers.TimeLimit(gym.wrappers.RecordEpisodeStatistics(make_env()), 9)
    env.set_wrapper_attr(name, value)
    assert env.get_wrapper_attr(name) == getattr(env.unwrapped, name) == value
    several = gym.vector.SyncVectorEnv([make_env, make_env])
    several.set_attr(name, value)
    assert several.get_attr(name) == (value, value)


def test_a_curriculum_reaches_single_environments(make_env):
    env = make_env()
    env.sequence_length = 1
    assert env.reset(options={"scene_index": 3})[1]["num_instances"] == 1
    with pytest.raises(AttributeError, match=r"set_attr changes .*, got 'stop'"):
        env.stop = "agent"
