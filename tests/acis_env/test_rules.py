"""How episodes end and what steps earn, on scenes checked by hand and against slow, obvious searches."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.reward import greedy, overlap

ADD, STOP = -1.0, 0.25
TIED = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32)


@pytest.fixture
def make_stopping(make_vec):
    """A function that opens the scenes for agents that end their episodes, which stay over then."""

    def make(num_envs=3, **options):
        return make_vec(num_envs, **{"stop": "agent", "autoreset_mode": "Disabled", **options})

    return make


def with_stops(actions, stops):
    """Actions `[num_envs, l + 1]` of `[num_envs, l]` and a last entry for each slot."""
    return np.concatenate([actions, np.array(stops, np.float32)[:, None]], axis=1)


# The end of an episode


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


# The penalty for a wrong count


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


# Scores


def soft_dice(mask, instance):
    total = mask.sum() + instance.sum()
    return 2 * (mask * instance).sum() / total


def soft_iou(mask, instance):
    common = (mask * instance).sum()
    return common / (mask.sum() + instance.sum() - common)


def recall(masks, label_maps, areas):
    """A score of one's own: the share of an instance that a mask covers."""
    return overlap(masks, label_maps, areas.shape[1]) / areas.clamp_min(1)


def scores_of(masks, label_map, function):
    """Score of every mask `[T, H, W]` with every instance, `[T, N]`, straight from the definition."""
    instances = [label_map == label for label in range(1, label_map.max() + 1)]
    return np.array([[function(mask.astype(np.float64), instance) for instance in instances] for mask in masks])


def play_all(envs, actions, **reset):
    """Predicted masks `[T, H, W]` and rewards of one episode in one slot."""
    envs.reset(**reset)
    masks, rewards = [], []
    for action in actions[: int(envs.state.num_instances)]:
        _, reward, *_ = envs.step(action)
        masks.append(envs.state.predicted_mask[0, 0].numpy())
        rewards.append(float(reward))
    return np.stack(masks), rewards


def best_total(scores):
    """Largest total of one-to-one assignments of `[T, N]` scores."""
    steps, count = sorted(scores.shape)
    scores = scores if scores.shape == (steps, count) else scores.T
    return max(sum(scores[t, order[t]] for t in range(steps)) for order in permutations(range(count), steps))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("dice", soft_dice),
        ("iou", soft_iou),
        (recall, lambda mask, instance: (mask * instance).sum() / instance.sum()),
    ],
    ids=["dice", "iou", "own"],
)
def test_the_potential_is_the_best_total_of_the_chosen_score_over_all_assignments(
    make_vec, random_actions, name, function
):
    envs = make_vec(1, score=name, autoreset_mode="Disabled")
    for index in range(5):
        masks, rewards = play_all(envs, random_actions(4, seed=index), options={"scene_index": index})
        scores = scores_of(masks, envs.scene[0].label_map, function)
        expected = best_total(scores)
        assert float(envs.state.potential) == pytest.approx(expected, abs=1e-4)
        assert sum(rewards) == pytest.approx(expected, abs=1e-4)


def test_a_score_of_ones_own_counts_nothing_against_padding(make_vec, random_actions):
    def everything(masks, label_maps, areas):
        return torch.ones(areas.shape, dtype=torch.float64)

    envs = make_vec(5, score=everything, stop="agent", autoreset_mode="Disabled")
    envs.reset(options={"scene_index": list(range(5))})
    for taken, action in enumerate(random_actions(5, 5), start=1):
        *_, infos = envs.step(with_stops(action, [ADD] * 5))
        assert infos["potential"].tolist() == [min(taken, count) for count in (2, 3, 1, 4, 3)]


def test_a_score_of_ones_own_may_divide_by_the_areas_and_write_to_all_that_it_is_given(make_vec, random_actions):
    def careless(masks, label_maps, areas):
        assert label_maps.dtype == torch.int64
        shares = overlap(masks, label_maps, areas.shape[1]) / areas  # 0 / 0 against padding
        label_maps.zero_()
        areas.zero_()
        return shares

    envs, clean = make_vec(2, score=careless), make_vec(2, score=recall)
    for action in [None, *random_actions(2, 2)]:
        for env in (envs, clean):
            if action is None:
                env.reset(options={"scene_index": [1, 3]})
            else:
                env.step(action)
        assert torch.equal(envs.state.label_map, clean.state.label_map)
    torch.testing.assert_close(envs.state.potential, clean.state.potential)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda masks, label_maps, areas: areas[:, 0], r"score must return \[B, N\] = \[2, 4\], got \[2\]"),
        (lambda masks, label_maps, areas: areas[:1], r"score must return \[B, N\] = \[2, 4\], got \[1, 4\]"),
        (lambda masks, label_maps, areas: areas * 0 + 1.5, r"score must return values in \[0, 1\], got 1.5 to 1.5"),
        (lambda masks, label_maps, areas: areas * 0 - 0.5, r"score must return values in \[0, 1\], got -0.5 to -0.5"),
        (lambda masks, label_maps, areas: areas / 0 - areas / 0, r"score must return values in \[0, 1\], got nan"),
    ],
    ids=["vector", "short", "large", "negative", "nan"],
)
def test_a_score_of_another_shape_or_range_is_refused_and_leaves_the_episode_as_it_was(
    make_vec, random_actions, function, message
):
    envs = make_vec(2, score=function)
    envs.reset(options={"scene_index": [1, 3]})
    with pytest.raises(ValueError, match=message):
        envs.step(random_actions(1, 2)[0])
    assert envs.state.step_count.tolist() == [0, 0]


# Greedy rewards


@given(st.integers(1, 5), st.integers(1, 7), st.data())
@settings(max_examples=60, deadline=None)
def test_greedily_each_prediction_takes_its_best_free_instance(count, steps, data):
    scores = np.array(
        data.draw(st.lists(st.lists(TIED, min_size=count, max_size=count), min_size=steps, max_size=steps))
    )
    padded = torch.zeros(1, steps, count + 1)
    padded[0, :, :count] = torch.from_numpy(scores)
    assignment = torch.full((1, steps), -1)
    free = set(range(count))
    for taken in range(steps):
        best = max((scores[taken, instance] for instance in free), default=0)
        before = assignment.clone()
        assignment, gain = greedy(padded[:, taken], assignment, torch.tensor([taken + 1]))
        assert float(gain) == pytest.approx(best)
        others = torch.arange(steps) != taken
        assert torch.equal(assignment[:, others], before[:, others])
        instance = int(assignment[0, taken])
        if best == 0:
            assert instance == -1
        else:
            assert instance in free
            assert scores[taken, instance] == pytest.approx(best)
            free.remove(instance)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_greedy_episodes_earn_what_a_slow_greedy_search_earns(make_vec, random_actions, name):
    envs = make_vec(1, reward="greedy", score=name, autoreset_mode="Disabled")
    falls_short = False
    for seed in range(12):
        masks, rewards = play_all(envs, random_actions(4, seed=seed), options={"scene_index": (1, 3, 4)[seed % 3]})
        scores = scores_of(masks, envs.scene[0].label_map, soft_dice if name == "dice" else soft_iou)
        free, expected, chosen = set(range(scores.shape[1])), [], []
        for row in scores:
            chosen.append(max(free, key=row.__getitem__))
            free.remove(chosen[-1])
            expected.append(row[chosen[-1]])
        assert rewards == pytest.approx(expected, abs=1e-4)
        assert envs.state.assignment[0, : len(chosen)].tolist() == chosen
        assert float(envs.state.potential) == pytest.approx(sum(expected), abs=1e-4)
        falls_short |= sum(expected) < best_total(scores) - 1e-3
    assert falls_short  # or else it would be the potential


# Noise in the assignment


def clean_total(state):
    """Number of assigned predictions of the only slot, and their total score without noise."""
    scores, chosen = state.scores[0], state.assignment[0]
    rows = (chosen >= 0).nonzero()[:, 0]
    assert len(set(chosen[rows].tolist())) == len(rows)
    return len(rows), float(scores[rows, chosen[rows]].double().sum())


def test_noise_decides_on_the_assignment_and_the_potential_is_without_it(make_stopping, random_actions):
    envs = make_stopping(1, matching_noise=0.5, max_episode_steps=5)
    differs, falls = False, False
    for seed in range(10):
        envs.reset(seed=seed, options={"scene_index": 1})  # three instances
        noise = envs.state.noise[0, :, :3].numpy()
        total = 0.0
        for taken, action in enumerate(random_actions(5, seed=seed), start=1):
            _, reward, *_ = envs.step(with_stops(action, [ADD]))
            total += float(reward)
            falls |= bool(reward < -1e-3)
            state = envs.state
            number, clean = clean_total(state)
            assert number == min(taken, 3)
            assert float(state.potential) == pytest.approx(clean, abs=1e-5)
            assert total == pytest.approx(clean, abs=1e-5)
            scores, chosen = state.scores[0, :taken, :3].numpy(), state.assignment[0, :taken].numpy()
            rows = np.flatnonzero(chosen >= 0)
            noisy = scores + noise[:taken]
            assert noisy[rows, chosen[rows]].sum() == pytest.approx(best_total(noisy), abs=1e-5)
            differs |= clean < best_total(scores) - 1e-3
    assert differs
    assert falls


def test_noise_is_that_of_the_seed_and_has_the_standard_deviation_asked_for(make_vec):
    envs = make_vec(17, matching_noise=0.5)
    noise = []
    for seed in (0, 0, 100):
        envs.reset(seed=seed)
        noise.append(envs.state.noise)
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    assert float(noise[0].std()) == pytest.approx(0.5, rel=0.2)
    assert abs(float(noise[0].mean())) < 0.1
    quiet = make_vec(2)
    quiet.reset(seed=0)
    assert not quiet.state.noise.any()


# Rules that change while the environment runs


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
