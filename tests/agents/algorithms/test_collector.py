"""Experience is what the environment says: its masks, its rewards, its ends of episodes, through whatever wraps it."""

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch

from acis_env.observations import unpack
from acis_env.reward import overlap
from agents.algorithms.collector import Collector

GAMMA = 0.9


class HalvedRewards(gym.vector.VectorRewardWrapper):
    """Pays half."""

    def rewards(self, rewards):
        return rewards / 2


class Witness(gym.vector.VectorWrapper):
    """Writes down what the environment shows, is told and pays."""

    def __init__(self, env):
        super().__init__(env)
        self.steps, self.resets = [], []

    def reset(self, **arguments):
        observation, info = self.env.reset(**arguments)
        self.resets.append((observation, arguments.get("options")))
        self.shown = observation
        return observation, info

    def step(self, actions):
        before = unpack(self.shown, torch.device("cpu"))
        result = self.env.step(actions)
        ended = (result[2] | result[3]).tolist()
        masks = self.env.unwrapped.state.predicted_mask.clone()
        self.steps.append((before, torch.as_tensor(actions).clone(), result[1].clone(), ended, masks))
        self.shown = result[0]
        return result


@pytest.fixture
def collect(make_algorithm, baseline):
    """A function of an environment that collects in it: the experience, and the collector."""

    def run(env, number=12, seed=0, **settings):
        actor = make_algorithm(baseline, env).learner.actor
        collector = Collector(env, actor, GAMMA, **settings)
        return collector.collect(number, torch.Generator().manual_seed(seed)), collector

    return run


def episodes_of(witness):
    """Whole episodes as the witness saw them, in the order of their ends: lists of steps of one slot."""
    running, finished = [[] for _ in range(witness.num_envs)], []
    for (context, mask), actions, rewards, ended, masks in witness.steps:
        for slot in range(witness.num_envs):
            running[slot].append((context[slot], mask[slot], actions[slot], float(rewards[slot]), masks[slot]))
        for slot in np.flatnonzero(ended):
            finished.append(running[slot])
            running[slot] = []
    return finished


def check(collected, episodes):
    """The experience is that of `episodes`, with Monte-Carlo returns."""
    assert len(collected.context) == len(episodes)
    for number, episode in enumerate(episodes):
        rows = (collected.scene == number).nonzero()[:, 0]
        assert collected.step[rows].tolist() == list(range(len(episode)))
        rewards = [step[3] for step in episode]
        assert collected.reward[rows].tolist() == pytest.approx(rewards)
        returns = [sum(GAMMA ** (i - t) * rewards[i] for i in range(t, len(episode))) for t in range(len(episode))]
        assert collected.returns[rows].tolist() == pytest.approx(returns, abs=1e-6)
        for row, (context, mask, _, _, predicted) in zip(rows.tolist(), episode, strict=True):
            assert torch.equal(collected.context[number], (context * 255).round().to(torch.uint8))
            assert torch.equal(collected.mask[row], (mask * 255).round().to(torch.uint8))
            torch.testing.assert_close(collected.predicted_mask[row] / 255, predicted, atol=3e-3, rtol=0)


def test_experience_is_what_was_shown_and_paid_in_whole_episodes(make_env, collect):
    witness = Witness(make_env(4))
    collected, _ = collect(witness)
    episodes = episodes_of(witness)
    assert len(episodes) >= 12
    check(collected, episodes)
    # Every episode has one step per instance, and says how many were missing.
    for number, episode in enumerate(episodes):
        assert int(collected.label_map[number].max()) == len(episode)
        rows = collected.scene == number
        assert collected.remaining[rows].tolist() == list(range(len(episode), 0, -1))


def test_a_reward_that_a_wrapper_changes_reaches_the_returns(make_env, collect):
    whole, _ = collect(make_env(4))
    halved, _ = collect(HalvedRewards(make_env(4)))
    assert torch.equal(halved.predicted_mask, whole.predicted_mask)
    torch.testing.assert_close(halved.reward, whole.reward / 2)
    torch.testing.assert_close(halved.returns, whole.returns / 2)


def test_a_score_of_ones_own_and_a_penalty_reach_the_returns(make_env, collect):
    def covered(masks, label_maps, areas):
        """Share of each instance that the mask covers."""
        return overlap(masks, label_maps, areas.shape[1]) / areas.clamp_min(1)

    witness = Witness(make_env(4, score=covered))
    collected, _ = collect(witness)
    check(collected, episodes_of(witness))
    by_dice, _ = collect(make_env(4))
    assert torch.equal(by_dice.predicted_mask, collected.predicted_mask)
    assert not torch.allclose(by_dice.reward, collected.reward)


def test_an_agent_that_ends_its_episodes_pays_for_what_it_missed(make_env, collect):
    witness = Witness(make_env(4, stop="agent", count_penalty=0.25))
    collected, _ = collect(witness, number=30)
    ended_early = ended_late = 0
    kept = []
    for episode in episodes_of(witness):
        stops = [bool(step[2][-1] > 0) for step in episode]
        assert not any(stops[:-1])
        count = len(episode) - stops[-1]
        kept += [count] * (count > 0)
        if count and stops[-1]:
            number = len(kept) - 1
            rows = (collected.scene == number).nonzero()[:, 0]
            missing = int(collected.label_map[number].max()) - count
            last = episode[-1][3]
            assert last == pytest.approx(-0.25 * max(missing, 0))
            # The stop itself adds no mask, but what it costs is in the return of the mask before it.
            assert float(collected.returns[rows[-1]]) == pytest.approx(episode[-2][3] + GAMMA * last, abs=1e-5)
            ended_early += missing > 0
            ended_late += missing < 0
            if missing < 0:
                assert float(collected.reward[rows[-1]]) <= 1 - 0.25
    assert len(collected.context) == len(kept)
    assert torch.bincount(collected.scene).tolist() == kept
    assert ended_early > 3
    assert ended_late > 0


def test_slots_go_on_with_their_episodes_from_one_collection_to_the_next(make_env, collect):
    witness = Witness(make_env(4))
    first, collector = collect(witness, number=3)
    second = collector.collect(5, torch.Generator().manual_seed(1))
    episodes = episodes_of(witness)
    assert len(first.context) >= 3
    assert len(second.context) >= 5
    check(first, episodes[: len(first.context)])
    check(second, episodes[len(first.context) :])
    resets = [options for _, options in witness.resets]
    assert resets[0] is None
    assert all(options["reset_mask"].any() for options in resets[1:])
    assert any(not options["reset_mask"].all() for options in resets[1:])


def test_a_collection_draws_from_its_generator_alone_and_carries_no_gradient(make_env, collect):
    first, again, other = (collect(make_env(4), seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first.predicted_mask, again.predicted_mask)
    assert not torch.equal(first.predicted_mask[:4], other.predicted_mask[:4])
    assert not any(tensor.requires_grad for tensor in first.tensors().values())


def test_exploration_adds_noise_of_the_level_drawn_for_each_episode(make_env, collect):
    def actions(**settings):
        witness = Witness(make_env(4, action_scale=1000.0))  # so that none is clipped
        collect(witness, **settings)
        return [torch.stack([step[2] for step in episode]) * 1000 for episode in episodes_of(witness)]

    assert max(float(episode.abs().max()) for episode in actions()) < 20
    mixed = actions(exploration=(0.0, 300.0))
    far = [(episode.abs().amax(1) > 40).tolist() for episode in mixed]
    assert all(len(set(steps)) == 1 for steps in far)
    assert {steps[0] for steps in far} == {True, False}


def test_the_actor_remembers_its_own_episode_and_nothing_of_the_one_before(make_env, collect):
    env = make_env(4)
    _, collector = collect(env)
    for slot in range(4):
        if collector._lengths[slot] == 0:
            assert collector._memory[slot].eq(0).all()
        else:
            assert collector._memory[slot].abs().max() > 0


def test_a_collection_goes_on_after_a_break_as_if_there_had_been_none(make_env, collect):
    env = make_env(4)
    _, collector = collect(env, number=3)
    state, snapshot = deepcopy(collector.state_dict()), env.get_state()
    expected = collector.collect(6, torch.Generator().manual_seed(5))
    other = make_env(4)
    other.set_state(snapshot)
    resumed = Collector(other, collector.actor, GAMMA)
    resumed.load_state_dict(state)
    found = resumed.collect(6, torch.Generator().manual_seed(5))
    for name, tensor in expected.tensors().items():
        assert torch.equal(tensor, found.tensors()[name]), name


@pytest.mark.parametrize(
    "options", [{"obs": "stacked"}, {"obs_dtype": "float32"}, {"obs": "stacked", "obs_dtype": "float32"}]
)
def test_experience_does_not_depend_on_the_kind_of_observations(make_env, collect, options):
    first, other = collect(make_env(4))[0], collect(make_env(4, **options))[0]
    assert torch.equal(first.context, other.context)
    assert torch.equal(first.step, other.step)
    torch.testing.assert_close(first.reward, other.reward, atol=0.05, rtol=0)


def test_an_environment_that_resets_itself_or_shows_too_little_is_refused(make_env, make_algorithm, baseline, collect):
    with pytest.raises(ValueError, match="autoreset_mode=\"Disabled\", got 'SameStep'"):
        make_algorithm(baseline, make_env(4, autoreset_mode="SameStep"))
    with pytest.raises(ValueError, match="must be a SegmentationVectorEnv"):
        make_algorithm(baseline, gym.make_vec("CartPole-v1", num_envs=2))
    with pytest.raises(ValueError, match='of kind "dict" or "stacked"'):
        collect(make_env(4, obs="coarse"))
