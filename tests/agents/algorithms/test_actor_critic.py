"""Algorithm 1 as a whole: what it learns from is what the environment says, and a page of its own agrees with it."""

from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import pytest
import torch

from acis_env.datasets import Leaves
from acis_env.reward import overlap
from agents.algorithms.rollout import num_steps
from examples import algorithm1


def covered(masks, label_maps, areas):
    """Share of each instance that the mask covers: a score of one's own."""
    return overlap(masks, label_maps, areas.shape[1]) / areas.clamp_min(1)


class Bonus(gym.vector.VectorRewardWrapper):
    """Doubles rewards, and adds one hundredth."""

    def rewards(self, rewards):
        return 2 * rewards + 0.01


class Ledger(gym.vector.VectorWrapper):
    """Adds up what is paid in every episode, step by step, without a look at anything else."""

    def __init__(self, env):
        super().__init__(env)
        self.running = [[] for _ in range(env.unwrapped.num_envs)]
        self.paid = []

    def reset(self, **arguments):
        return self.env.reset(**arguments)

    def step(self, actions):
        result = self.env.step(actions)
        for slot, (reward, *over) in enumerate(zip(*(x.tolist() for x in result[1:4]), strict=True)):
            self.running[slot].append(reward)
            if any(over):
                self.paid.append(self.running[slot])
                self.running[slot] = []
        return result


@pytest.mark.parametrize(
    ("options", "wrapper"),
    [
        ({"score": covered}, None),
        ({"count_penalty": 0.2, "stop": "agent"}, None),
        ({"score": "iou", "reward": "greedy"}, None),
        ({}, Bonus),
        ({"matching_noise": 0.3, "sequence_length": 2, "prefill": "random"}, Bonus),
    ],
)
def test_algorithm_1_learns_the_rewards_of_whatever_environment_it_is_given(
    make_env, make_algorithm, actor_critic, at, options, wrapper
):
    env = make_env(4, **options)
    env = Ledger(env if wrapper is None else wrapper(env))
    algorithm = make_algorithm(replace(actor_critic, replay_size=100), env)
    before = [p.clone() for p in (*algorithm.learner.actor.policy_parameters(), *algorithm.critic.critic.parameters())]
    for iteration in range(3):
        losses = algorithm.train_iteration(at(iteration))
        assert all(torch.isfinite(loss) for loss in losses.values())
    after = (*algorithm.learner.actor.policy_parameters(), *algorithm.critic.critic.parameters())
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > 0.9 * len(before)
    # The targets of the critic are the discounted sums of what was paid, each of a step that added a mask.
    gamma, expected = actor_critic.gamma, []
    for rewards in env.paid:
        returns = [sum(gamma ** (i - t) * rewards[i] for i in range(t, len(rewards))) for t in range(len(rewards))]
        expected.append(returns)
    kept = algorithm.replay.sample(10**6, torch.Generator())
    targets = algorithm.critic_targets(kept)
    by_episode = [targets[kept.scene == number].tolist() for number in range(len(kept.context))]
    assert sum(map(len, by_episode)) == len(targets)
    if options.get("stop") == "agent":  # an episode may end with a step that adds none, or consist of it
        found = sorted(tuple(round(x, 4) for x in episode) for episode in by_episode)
        possible = {tuple(round(x, 4) for x in returns[:n]) for returns in expected for n in range(len(returns) + 1)}
        assert all(episode in possible for episode in found)
        assert any(min(returns) < 0 for returns in expected)
    else:
        assert len(by_episode) == len(expected)
        for found, returns in zip(by_episode, expected, strict=True):
            assert found == pytest.approx(returns, abs=1e-5)


def test_only_the_critic_learns_while_it_warms_up(make_algorithm, actor_critic, at):
    algorithm = make_algorithm(replace(actor_critic, critic_warmup=2))
    actor = {name: value.clone() for name, value in algorithm.learner.actor.state_dict().items()}
    for iteration in range(3):
        critic = [p.clone() for p in algorithm.critic.critic.parameters()]
        losses = algorithm.train_iteration(at(iteration=iteration, iterations=5))
        assert any(not torch.equal(a, b) for a, b in zip(critic, algorithm.critic.critic.parameters(), strict=True))
        is_same = all(torch.equal(v, actor[name]) for name, v in algorithm.learner.actor.state_dict().items())
        assert is_same == (iteration < 2)
        assert ("actor/objective" in losses) == (iteration >= 2)


def test_a_later_stage_goes_on_with_the_critic_only_if_it_learned_the_same(make_algorithm, actor_critic, at):
    first = make_algorithm(actor_critic)
    first.train_iteration(at())
    slower = replace(actor_critic, learning_rate=1e-5, replay_size=5).make(first.learner, first)

    def goes_on(other):
        pairs = zip(other.critic.critic.parameters(), first.critic.critic.parameters(), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    assert goes_on(slower)
    assert str(slower.critic.optimizer.state_dict()["state"]) == str(first.critic.optimizer.state_dict()["state"])
    assert len(slower.replay.sample(10**6, torch.Generator())) == len(first.replay.sample(10**6, torch.Generator()))
    other = replace(actor_critic, gamma=0.5).make(first.learner, first)
    assert not goes_on(other)
    told_nothing = replace(actor_critic, max_remaining=None).make(first.learner, first)
    assert told_nothing.critic.critic.max_remaining is None


@pytest.mark.parametrize("stop", ["ground_truth", "agent"])
def test_the_actor_starts_again_where_the_collected_episodes_began(make_algorithm, make_env, actor_critic, stop):
    algorithm = make_algorithm(actor_critic, make_env(4, stop=stop), accumulate=2)
    collected = algorithm.collector.collect(12, torch.Generator().manual_seed(0))
    states = algorithm.first_states(collected)
    assert len(states) == 2
    lengths = torch.cat([num_steps(state) for state in states])
    counts = collected.label_map.flatten(1).amax(1)  # there is nothing to climb beyond the last instance
    assert sorted(lengths.tolist()) == sorted(torch.bincount(collected.scene).minimum(counts).tolist())
    for state in states:
        assert num_steps(state).tolist() == sorted(num_steps(state).tolist(), reverse=True)
        assert state.step_count.eq(0).all()
        for context, label_map in zip(state.context, state.label_map, strict=True):
            matches = (collected.context == (context * 255).round().to(torch.uint8)).flatten(1).all(1)
            assert matches.any()
            assert torch.equal(collected.label_map[matches][0], label_map)


def test_the_cosine_of_the_gradients_is_one_where_the_critic_is_the_score(
    make_algorithm, actor_critic, begin, tiny, at
):
    algorithm, state = make_algorithm(actor_critic), begin(tiny, [4, 5, 7])  # one leaf each
    target = (state.label_map == 1).float()[:, None]

    class Score(torch.nn.Module):
        def condition(self, context):
            return context, context

        def forward(self, conditioning, mask, predicted_mask, remaining):
            common = (predicted_mask * target).sum((1, 2, 3))
            return 2 * common / (predicted_mask.sum((1, 2, 3)) + target.sum((1, 2, 3)))

    algorithm.critic.critic = Score()
    losses = algorithm.update_actor([state], at(monitor=True))
    assert float(losses["critic/gradient_cosine"]) == pytest.approx(1, abs=1e-4)
    assert float(losses["rollout/score_per_instance"]) == pytest.approx(float(losses["actor/objective"]), abs=1e-4)
    assert "critic/gradient_cosine" not in algorithm.update_actor([state], at())


def test_the_page_has_the_gradients_of_the_package_on_the_same_transitions(
    make_algorithm, make_env, actor_critic, tiny, at, monkeypatch
):
    algorithm = make_algorithm(replace(actor_critic, kl_weight=0.3))
    learner, critic = algorithm.learner, algorithm.critic
    collected = algorithm.collector.collect(6, torch.Generator().manual_seed(0))
    kept = {}

    def keep(optimizer, rate, clip_norm, sums, count):
        parameters = optimizer.param_groups[0]["params"]
        kept[optimizer] = [p.grad / count for p in parameters]
        optimizer.zero_grad()
        return {name: torch.ones(()) for name in sums[0]}, torch.zeros(())

    monkeypatch.setattr(learner, "descend", keep)
    algorithm.update_critic(collected)
    context = collected.context[collected.scene]
    steps = algorithm1.Steps(context, collected.mask, collected.predicted_mask, collected.remaining, collected.returns)
    algorithm1.critic_loss(critic.critic, steps).backward()
    assert_close([p.grad for p in critic.critic.parameters()], kept[critic.optimizer])

    noise = torch.randn(len(collected.context), 4, 4, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr("agents.algorithms.actor_critic.draw_noise", lambda *_: noise)
    visited = SimpleNamespace()
    monkeypatch.setattr(learner, "update_termination", lambda *a: vars(visited).update(arguments=a) or {})
    algorithm.update_actor(algorithm.first_states(collected), at())
    lengths = torch.bincount(collected.scene)
    order = lengths.argsort(descending=True, stable=True)
    first_masks = collected.mask[collected.step == 0]
    starts = algorithm1.Starts(collected.context[order], first_masks[order], lengths[order])
    actor = learner.actor
    actor.zero_grad()
    features, targets = algorithm1.climb(actor, critic.critic, learner.core.decoder, starts, noise, kl_weight=0.3)
    found = [p.grad for p in actor.policy_parameters()]
    assert max(float(g.abs().max()) for g in found) > 1e-3
    assert_close(found, kept[learner.actor_optimizer])
    torch.testing.assert_close(features, visited.arguments[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(targets, visited.arguments[1])


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_page_collects_what_the_environment_pays(make_env, make_algorithm, baseline):
    env = Ledger(make_env(4, autoreset_mode="SameStep"))
    actor = make_algorithm(baseline).learner.actor
    args = algorithm1.Args(gamma=0.9)
    steps, starts, mean_return = algorithm1.execute_episodes(env, actor, args, torch.Generator().manual_seed(0))
    # The first episodes to end are those of the shortest scenes, but a slot may have begun its next one meanwhile.
    assert starts.lengths.tolist() == sorted(starts.lengths.tolist(), reverse=True)
    assert len(steps.returns) == int(starts.lengths.sum())
    assert steps.remaining.sum() == sum(n * (n + 1) // 2 for n in starts.lengths.tolist())
    first = list(steps.returns[: len(starts.lengths)])
    found = []
    for rewards in env.paid:
        found.append(sum(0.9**t * reward for t, reward in enumerate(rewards)))
    for value in first:
        assert min(abs(float(value) - other) for other in found) < 1e-5
    assert 0 < mean_return < 4


def test_the_page_learns_three_plants_by_heart(make_scenes, tmp_path):
    plants = make_scenes(Leaves("train", (64, 64), min_leaves=2, max_leaves=3, length=3))
    env = gym.make_vec("ACIS/Scenes-v0", 3, scenes=plants, weights="leaves-64", sampler="shuffle")
    args = algorithm1.Args(
        seed=0, iterations=90, critic_warmup=20, num_envs=3, critic_updates=2, critic_batch_size=32, learning_rate=5e-4
    )
    before, after = (means["return"] for means in algorithm1.train(env, args, tmp_path, num_scenes=3, split="train"))
    bound = sum(plant.num_instances for plant in plants) / 3
    assert before < 0.75 * bound
    assert after > 0.88 * bound
