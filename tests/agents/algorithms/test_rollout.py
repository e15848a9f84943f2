"""Episodes: who steps how often, what is earned, and where gradients run."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from acis_env import SegmentationVectorEnv, dynamics
from acis_env.dynamics import Rules
from acis_env.episode_source import EpisodeSource
from acis_env.reward import instance_areas, score
from agents.algorithms.rollout import (
    Episodes,
    Step,
    assigned_scores,
    discounted_returns,
    run_episodes,
    soft_score,
    split_episodes,
)

LENGTHS = [4, 4, 4, 4, 3, 3, 3, 2, 1, 1, 1, 1]  # of the twelve plants, sorted


@pytest.fixture
def state(begin, tiny):
    return begin(tiny)


@pytest.fixture
def learner(make_algorithm, baseline):
    made = make_algorithm(baseline).learner
    made.decoder = made.core.decoder
    return made


@pytest.fixture
def episodes(learner, state):
    with torch.no_grad():
        return run_episodes(learner.actor, learner.decoder, state)


def episodes_of_rewards(*rewards):
    """Episodes of nothing but rewards, given step by step."""
    empty = torch.zeros(0)
    steps = [
        Step(empty, empty, empty, empty, empty, torch.tensor(r), torch.zeros(len(r), dtype=torch.int64))
        for r in rewards
    ]
    return Episodes(empty, empty, empty, steps, empty, torch.zeros(len(rewards[0])), empty, empty)


def test_returns_are_discounted_sums_of_what_each_scene_earns_until_its_own_end():
    episodes = episodes_of_rewards([1.0, 2.0, 0.5], [3.0, 1.0], [4.0])
    first, second, third = discounted_returns(episodes, gamma=0.5)
    assert first.tolist() == [1 + 0.5 * 3 + 0.25 * 4, 2 + 0.5 * 1, 0.5]
    assert second.tolist() == [3 + 0.5 * 4, 1]
    assert third.tolist() == [4]
    assert episodes.steps[0].reward.tolist() == [1, 2, 0.5]  # rewards themselves stay as they are


def test_returns_equal_the_definition_on_real_episodes(episodes):
    returns = discounted_returns(episodes, gamma=0.9)
    for scene, length in enumerate(LENGTHS):
        rewards = [float(episodes.steps[i].reward[scene]) for i in range(length)]
        for t in range(length):
            expected = sum(0.9 ** (i - t) * rewards[i] for i in range(t, length))
            assert float(returns[t][scene]) == pytest.approx(expected, abs=1e-6)


def test_every_scene_takes_as_many_steps_as_it_has_instances(episodes, state):
    assert state.num_instances.tolist() == LENGTHS
    assert len(episodes.steps) == 4
    for t, step in enumerate(episodes.steps):
        acting = [n for n in LENGTHS if n > t]
        assert {len(part) for part in vars(step).values()} == {len(acting)}
        assert step.remaining.tolist() == [n - t for n in acting]
    assert [(row >= 0).sum().item() for row in episodes.assignment] == LENGTHS


def test_a_scene_without_instances_takes_no_step(learner, begin, tiny):
    state = begin(tiny, [0, 4])
    label_map = state.label_map.clone()
    label_map[1] = 0
    state = dynamics.reset(state.context, label_map, learner.decoder, 4, 4)
    episodes = run_episodes(learner.actor, learner.decoder, state)
    assert [len(step.reward) for step in episodes.steps] == [1, 1]
    assert episodes.potential[1] == 0
    assert episodes.continue_targets.tolist() == [1, 0, 1, 0]


def test_a_scene_has_the_same_episode_alone_and_in_a_batch(learner, state, episodes):
    for scene, length in enumerate(LENGTHS):
        with torch.no_grad():
            alone = run_episodes(learner.actor, learner.decoder, state.select(slice(scene, scene + 1)))
        assert len(alone.steps) == length
        assert alone.assignment[0].tolist() == episodes.assignment[scene].tolist()
        for t in range(length):
            for name, part in vars(alone.steps[t]).items():
                in_batch = vars(episodes.steps[t])[name][scene]
                torch.testing.assert_close(part[0], in_batch, rtol=1e-3, atol=1e-3, msg=f"{name} of step {t}")


@pytest.mark.parametrize("score_name", ["dice", "iou"])
def test_the_vector_environment_pays_the_same_for_the_same_actions(learner, tiny, leaves, begin, score_name):
    order = [1, 2, 9, 0, 4]  # 4, 3, 3, 2 and 1 leaves: sorted, so slots and rows agree
    state = begin(tiny, order, oracle=False)
    with torch.no_grad():
        episodes = run_episodes(learner.actor, learner.decoder, state, Rules(score=score_name))
    env = SegmentationVectorEnv(5, scenes=leaves.dataset, weights=tiny, score=score_name, action_scale=6.0)
    env.reset(seed=0, options={"scene_index": order})
    for step in episodes.steps:
        k = len(step.reward)
        actions = torch.zeros(5, 4)
        actions[:k] = step.latent / 6
        assert actions.abs().max() < 1  # none is clipped
        _, rewards, terminated, _, infos = env.step(actions)
        torch.testing.assert_close(rewards[:k], step.reward, rtol=1e-4, atol=1e-5)
        assert terminated[:k].tolist() == (step.remaining == 1).tolist()
        for row in range(k):
            if terminated[row]:
                potential = infos["final_info"]["potential"][row]
                torch.testing.assert_close(potential, episodes.potential[row], rtol=1e-4, atol=1e-5)


def test_rewards_are_growths_of_the_potential_found_by_hand_and_sum_to_it(learner, state, episodes):
    now = state.select(slice(4))  # the scenes of four leaves
    earned = torch.zeros(4)
    for step in episodes.steps:
        with torch.no_grad():
            now, reward = dynamics.step(now, step.latent[:4], learner.decoder)
        torch.testing.assert_close(reward, step.reward[:4])
        torch.testing.assert_close(now.predicted_mask, step.predicted_mask[:4])
        earned += step.reward[:4]
        torch.testing.assert_close(earned, now.potential)
    torch.testing.assert_close(earned, episodes.potential[:4])
    assert earned.min() > 0


def test_targets_are_the_instances_of_the_best_assignment(episodes, state):
    for scene, length in enumerate(LENGTHS):
        label_map = episodes.label_map[scene : scene + 1]
        areas = instance_areas(label_map, length)
        masks = [step.predicted_mask[scene] for step in episodes.steps[:length]]
        table = np.array([score(mask, label_map, areas)[0].tolist() for mask in masks])
        best = max(sum(table[t, p[t]] for t in range(length)) for p in permutations(range(length)))
        chosen = []
        for t in range(length):
            target = episodes.targets(t)[scene, 0]
            labels = [n for n in range(1, length + 1) if torch.equal(target, (label_map[0] == n).float())]
            assert len(labels) == 1  # it is one whole instance
            chosen += labels
        assert sorted(chosen) == list(range(1, length + 1))
        assert sum(table[t, label - 1] for t, label in enumerate(chosen)) == pytest.approx(best, abs=1e-5)


def test_a_prediction_without_instance_has_an_empty_target(episodes):
    unassigned = torch.full_like(episodes.assignment, -1)
    assert Episodes(**{**vars(episodes), "assignment": unassigned}).targets(0).sum() == 0


def test_the_unit_is_to_continue_until_all_instances_are_predicted_and_to_stop_then(learner, begin, tiny):
    state = begin(tiny, [9, 0, 4])
    assert state.num_instances.tolist() == [3, 2, 1]
    episodes = run_episodes(learner.actor, learner.decoder, state)
    # States at t = 0, 1, 2, 3 are those of 3, 3, 2 and 1 scenes; the last scene of each group has ended.
    assert episodes.continue_targets.tolist() == [1, 1, 1, *[1, 1, 0], *[1, 0], 0]
    assert len(episodes.termination_features) == len(episodes.continue_targets)


def test_the_unit_reads_in_a_terminal_state_what_the_actor_sees_after_the_last_mask(learner, begin, tiny):
    state = begin(tiny, [4])
    actor = learner.actor
    episodes = run_episodes(actor, learner.decoder, state)
    shares = actor.condition(state.context)
    first = actor(shares, state.accumulated_mask, actor.initial_memory(1))
    last = actor(shares, episodes.steps[0].predicted_mask, first.memory)
    expected = torch.stack([first.termination_features[0], last.termination_features[0]])
    torch.testing.assert_close(episodes.termination_features, expected)
    assert not torch.equal(expected[0], expected[1])


def run_with_handles(learner, state, bptt_steps):
    """Episodes, and for every step a zero that was added to its action: a handle for gradients."""
    handles = []

    def choose(decision):
        handles.append(torch.zeros_like(decision.out.mean, requires_grad=True))
        return decision.out.mean + handles[-1]

    return run_episodes(learner.actor, learner.decoder, state, choose=choose, bptt_steps=bptt_steps), handles


def test_a_mask_has_no_gradient_to_the_action_before_it_if_truncated_and_has_one_else(learner, begin, tiny):
    state = begin(tiny, [1, 2])
    for bptt_steps in (1, None):
        episodes, handles = run_with_handles(learner, state, bptt_steps)
        later, own = torch.autograd.grad(episodes.steps[1].predicted_mask.sum(), handles[:2], allow_unused=True)
        assert own.abs().min() > 0
        assert (later is None) == (bptt_steps == 1)
    assert later.abs().max() > 0


def test_memory_carries_a_gradient_over_steps_only_if_not_truncated(learner, begin, tiny):
    state = begin(tiny, [1, 2])
    torch.nn.init.zeros_(learner.actor.trunk.mask_conv.weight)  # memory is then the only way from step to step
    gradients = []
    for bptt_steps in (1, None):
        episodes = run_episodes(learner.actor, learner.decoder, state, bptt_steps=bptt_steps)
        gradients.append(torch.autograd.grad(episodes.steps[1].mean.sum(), learner.actor.lstm[0].weight_ih)[0])
    truncated, whole = gradients
    assert truncated.abs().max() > 0
    assert not torch.allclose(truncated, whole)


@pytest.mark.parametrize(("indices", "are_equal"), [([4, 5, 7], True), ([1, 2], False)])
def test_truncation_changes_gradients_except_in_episodes_of_one_step(learner, begin, tiny, indices, are_equal):
    state = begin(tiny, indices)
    gradients = []
    for bptt_steps in (1, None):
        learner.actor.zero_grad()
        episodes = run_episodes(learner.actor, learner.decoder, state, bptt_steps=bptt_steps)
        torch.cat([step.predicted_mask.square().sum().view(1) for step in episodes.steps]).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in learner.actor.policy_parameters() if p.grad is not None]))
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5) == are_equal


def test_micro_batches_deal_out_the_scenes_longest_first(tiny, leaves):
    source = EpisodeSource("oracle", tiny.autoencoder.decoder, leaves)
    state, _ = source.begin(list(range(12)))
    (whole,) = split_episodes(state)
    assert whole.num_instances.tolist() == LENGTHS
    parts = list(split_episodes(state, 5))
    assert [part.num_instances.tolist() for part in parts] == [LENGTHS[first::5] for first in range(5)]
    assert [len(part) for part in split_episodes(state.select(slice(3)), 5)] == [1, 1, 1]  # none is empty


def test_an_episode_ends_at_the_limit_of_steps_and_its_unit_is_told_to_go_on(learner, begin, tiny):
    state = begin(tiny, [1])
    assert state.num_instances.tolist() == [4]
    limited = replace(state, step_limit=torch.tensor([2]))
    episodes = run_episodes(learner.actor, learner.decoder, limited)
    assert [step.remaining.tolist() for step in episodes.steps] == [[4], [3]]  # instances, not steps
    assert episodes.continue_targets.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_the_differentiable_score_is_that_of_the_environment(leaves, name):
    label_map = leaves.gather([1, 2, 3])[1]
    masks = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    areas = instance_areas(label_map, 4)
    in_environment = score(masks[:, 0], label_map, areas, name)

    def own(masks, label_maps, areas):
        return score(masks, label_maps, areas, name) ** 2

    for instance in (0, 1, 2):
        chosen = torch.full((3,), instance)
        expected = in_environment[:, instance]
        torch.testing.assert_close(assigned_scores(masks, label_map, areas, chosen, name), expected)
        torch.testing.assert_close(assigned_scores(masks, label_map, areas, chosen, own), expected**2)
    nobody = torch.full((3,), -1)
    assert assigned_scores(masks, label_map, areas, nobody, name).eq(0).all()
    assert assigned_scores(masks, label_map, areas, nobody, own).eq(0).all()
    empty = torch.zeros(3, 1, 32, 32)
    assert soft_score(empty, empty, name).eq(0).all()
