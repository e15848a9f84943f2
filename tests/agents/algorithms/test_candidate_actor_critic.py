"""Candidates that move an actor and teach a critic, without a gradient of the reward."""

from dataclasses import replace

import pytest
import torch

from acis_env.ops.agreement import agreement
from acis_env.reward import overlap
from agents.algorithms import CandidateActorCriticConfig
from agents.algorithms.search import CandidateConfig, Candidates, slope
from agents.models.ranking_critic import RankingCriticConfig
from agents.models.selection import SelectionConfig

CONFIG = CandidateActorCriticConfig(
    decay=(), critic=RankingCriticConfig(hidden=(8, 8)), critic_batch_size=16, replay_size=2
)


def candidates_about(mean, offsets, value_of):
    latents = torch.cat([mean[None], mean + offsets])
    return Candidates(latents, torch.stack([value_of(z) for z in latents]), measures=None)


def test_mirrored_candidates_lie_on_opposite_sides_of_the_mean_and_pairs_share_their_spread(begin, tiny):
    config = CandidateConfig(number=7, spreads=(0.5, 2.0), mirrored=True)
    noise = config.draw(begin(tiny, [1, 2]), 4, torch.Generator().manual_seed(0))
    assert len(noise) == 6
    assert torch.equal(noise[0::2], -noise[1::2])
    assert config.scales().tolist() == [0.5, 0.5, 2.0, 2.0, 0.5, 0.5]
    assert CandidateConfig(number=4, spreads=(0.5, 2.0)).scales().tolist() == [0.5, 2.0, 0.5]
    with pytest.raises(ValueError, match=r"number must be odd if mirrored, .* got 4"):
        CandidateConfig(number=4, mirrored=True)


def test_a_slope_is_on_average_the_gradient_of_the_value_and_pairs_leave_out_what_is_even():
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(3, 5, generator=generator)
    mean = torch.randn(3, 5, generator=generator)
    noise = torch.randn(20_000, 3, 5, generator=generator)
    offsets, scales = 0.3 * torch.stack([noise, -noise], 1).flatten(0, 1), torch.full((40_000,), 0.3)
    linear = slope(candidates_about(mean, offsets, lambda z: (gradient * (z - mean)).sum(1)), scales)
    torch.testing.assert_close(linear, gradient, atol=0.05, rtol=0.05)
    even = candidates_about(mean, offsets[:2], lambda z: (z - mean).square().sum(1))
    assert slope(even, scales[:2]).abs().max() < 1e-6
    assert even.values[1].min() > 0.01  # or the cancelling would prove nothing


def test_candidates_of_different_spreads_agree_on_a_linear_value():
    mean, gradient = torch.zeros(2, 4), torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    noise = torch.randn(30_000, 2, 4, generator=torch.Generator().manual_seed(1))
    scales = torch.tensor([0.2, 1.0]).repeat(15_000)
    found = slope(candidates_about(mean, noise * scales[:, None, None], lambda z: (gradient * z).sum(1)), scales)
    torch.testing.assert_close(found, gradient.expand(2, 4), atol=0.08, rtol=0.05)


def rounded_dice(masks, label_maps, areas):
    """The Dice of masks rounded to 0 and 1, through which no gradient passes."""
    hard = (masks >= 0.5).float()
    sums = overlap(hard, label_maps, areas.shape[1])
    background = hard.sum((1, 2), keepdim=True)[:, 0] - sums.sum(1, keepdim=True)
    return agreement(torch.cat([background, sums], 1), areas, "dice")


@pytest.mark.parametrize("score", ["dice", rounded_dice], ids=["soft", "rounded"])
def test_actor_and_critic_learn_on_a_few_plants_also_from_a_reward_without_a_gradient(
    make_algorithm, make_env, learned, at, score
):
    env = make_env(pretrained=learned.pretrained, scenes=learned.scenes.dataset, score=score)
    algorithm = make_algorithm(replace(CONFIG, learning_rate=3e-3, kl_weight=0.0), env, learned.pretrained)
    losses = [algorithm.train_iteration(at(seed)) for seed in range(60)]
    returns = torch.stack([step["rollout/return"] for step in losses])
    spread = torch.stack([step["critic/explained_spread"] for step in losses])
    assert returns[-10:].mean() > returns[:10].mean() + 0.1
    # Later on the three plants leave little between candidates to explain.
    assert spread[2:15].mean() > max(spread[0] + 0.1, 0.5)


def test_the_actor_stays_where_all_candidates_are_worth_the_same(make_algorithm, make_env, at):
    env = make_env(score=lambda masks, label_maps, areas: 0.5 * (areas > 0).float())
    algorithm = make_algorithm(replace(CONFIG, kl_weight=0.0), env)
    before = [p.clone() for p in algorithm.learner.actor.policy_parameters()]
    losses = algorithm.train_iteration(at(0))
    assert losses["actor/gradient_norm"] < 1e-6
    assert all(map(torch.equal, before, algorithm.learner.actor.policy_parameters()))


def test_the_trained_agent_searches_by_the_critic_of_the_algorithm(make_algorithm, at):
    algorithm = make_algorithm(replace(CONFIG, selection=SelectionConfig(number=3, rounds=2)))
    assert algorithm.selection is None  # before it has learnt
    algorithm.train_iteration(at(0))
    assert algorithm.selection.critic is algorithm.critic.critic
    assert algorithm.selection.offsets.shape[:2] == (2, 2)


def test_a_discount_that_has_no_effect_is_refused():
    with pytest.raises(ValueError, match="gamma has no effect where candidates are worth their reward"):
        CandidateActorCriticConfig(gamma=0.5)
    CandidateActorCriticConfig(gamma=0.5, candidates=replace(CONFIG.candidates, value="return"))
