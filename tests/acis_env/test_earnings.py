"""What steps earn by any score, greedily or with noise, against slow, obvious searches."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acis_env.metrics import segmentation_metrics
from acis_env.reward import greedy, overlap

ADD, STOP = -1.0, 0.25
TIED = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32)


def with_stops(actions, stops):
    """Actions `[num_envs, l + 1]` of `[num_envs, l]` and a last entry for each slot."""
    return np.concatenate([actions, np.array(stops, np.float32)[:, None]], axis=1)


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


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_hard_rewards_are_the_growth_of_the_metric_of_the_masks_put_together_by_hand(
    make_vec, random_actions, threshold
):
    envs = make_vec(1, reward="sbd", threshold=threshold, autoreset_mode="Disabled")
    costs = False
    for seed in range(6):
        masks, rewards = play_all(envs, random_actions(4, seed=seed), options={"scene_index": (1, 3, 4)[seed % 3]})
        label_map = envs.scene[0].label_map
        values = [0.0]
        for t in range(1, len(masks) + 1):
            found = np.stack(masks[:t])
            predicted = np.where(found.max(0) >= threshold, found.argmax(0) + 1, 0)
            values.append(segmentation_metrics(predicted, label_map)["sbd"])
        assert rewards == pytest.approx(np.diff(values), abs=1e-5)
        assert sum(rewards) == pytest.approx(values[-1], abs=1e-5)
        assert float(envs.state.potential) == pytest.approx(values[-1], abs=1e-5)
        costs |= min(rewards) < 0
    assert costs  # the potential never falls


@pytest.mark.parametrize(("name", "before", "after"), [
    ("reward", {"reward": "potential"}, "sbd"),
    ("reward", {"reward": "sbd"}, "potential"),
    ("reward", {"reward": "sbd"}, "greedy"),
    ("threshold", {"reward": "sbd"}, 0.1),
])  # fmt: skip
def test_a_change_of_the_reward_in_the_middle_of_an_episode_pays_nothing(make_vec, random_actions, name, before, after):
    changed = make_vec(1, **before)
    plain = make_vec(1, **{**before, name: after})
    first, second = random_actions(2, seed=0)
    for envs in (changed, plain):
        envs.reset(seed=0, options={"scene_index": 3})
        envs.step(first)
    changed.set_attr(name, after)
    assert changed.step(second)[1].tolist() == pytest.approx(plain.step(second)[1].tolist(), abs=1e-6)
