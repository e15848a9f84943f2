"""Candidates, what they are worth by the truth, and a critic that judges them without it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from acis_env import dynamics
from agents.algorithms.replay import comparisons
from agents.algorithms.rollout import Visit, choose_mean, discounted_returns, run_episodes
from agents.algorithms.search import Judge, Search, SearchConfig, explore, look, pick, propose, rank_correlation
from agents.models.agent import Agent
from agents.models.critic import CriticConfig
from agents.training.config import Phase, TrainConfig
from agents.training.trainer import Trainer

CONFIG = SearchConfig(candidates=3, spreads=(0.5, 2.0), judged=4)
GAMMA = 0.7


@pytest.fixture
def learner(make_learner):
    return make_learner(search=CONFIG, critic=CriticConfig(hidden=(8, 8), remaining_steps=False))


@pytest.fixture
def make_search(learner):
    """A function of the number of scenes and of what a candidate is worth."""

    def make(num_scenes, value="reward"):
        noise = torch.randn(2, num_scenes, 4, 4, generator=torch.Generator().manual_seed(1))
        return Search(learner.actor, learner.decoder, replace(CONFIG, value=value), noise, GAMMA)

    return make


def test_the_mean_is_the_first_candidate_and_wins_ties():
    mean, offsets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.full((1, 1, 2), 10.0)
    latents = propose(mean, offsets)
    assert torch.equal(latents, torch.stack([mean, mean + 10]))
    assert torch.equal(pick(latents, torch.tensor([[0.5, 0.1], [0.5, 0.2]])), torch.stack([mean[0], mean[1] + 10]))


def test_spreads_take_turns_among_the_candidates():
    scaled = SearchConfig(spreads=(1.0, 3.0)).scale(torch.ones(3, 2, 5))
    assert scaled[:, 0, 0].tolist() == [1, 3, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"candidates": 1}, "candidates must be at least 2, .* got 1"),
        ({"judged": 0}, "judged must be at least 2, .* got 0"),
        ({"spreads": (1.0, 0.0)}, r"spreads must be positive numbers, got \(1.0, 0.0\)"),
        ({"spreads": ()}, "spreads must be positive"),
    ],
)
def test_a_search_without_a_choice_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**fields)


def test_a_candidate_is_worth_the_reward_that_a_step_with_it_earns(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    search = make_search(3)
    run_episodes(learner.actor, learner.decoder, state, choose=look(search))
    first = search.tried[0]
    for latents, masks, values in zip(*first, strict=True):
        after, reward = dynamics.step(state, latents, learner.decoder)
        assert torch.equal(values, reward)
        assert torch.equal(masks, after.predicted_mask)
    assert (first.values.max(0).values > first.values[0]).any()  # or the choice below would prove nothing
    assert torch.equal(first.best, pick(first.latents, first.values))


def test_a_return_is_what_the_mean_policy_earns_after_the_candidate(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    search = make_search(3, "return")
    run_episodes(learner.actor, learner.decoder, state, choose=look(search))
    for t, candidates in enumerate(search.tried):
        for latents, values in zip(candidates.latents, candidates.values, strict=True):

            def choose(visit, t=t, latents=latents):
                return latents if visit.t == t else visit.out.mean

            episodes = run_episodes(learner.actor, learner.decoder, state, choose=choose)
            expected = discounted_returns(episodes, GAMMA)[t]
            torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


def test_exploring_follows_the_best_candidate_where_it_is_told_to(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2])
    search = make_search(2)
    out = learner.actor(learner.actor.condition(state.context), state.accumulated_mask, learner.actor.initial_memory(2))
    chosen = explore(search, torch.tensor([[True], [False]]))(Visit(0, state, out))
    assert torch.equal(chosen[0], search.tried[0].best[0])
    assert torch.equal(chosen[1], out.mean[1])


def test_rank_correlations_are_spearmans_ties_included():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (6, 5)).astype(float), rng.normal(size=(6, 5))
    expected = [spearmanr(a, b).statistic for a, b in zip(first.T, second.T, strict=True)]
    measured = rank_correlation(torch.from_numpy(first), torch.from_numpy(second))
    assert measured.tolist() == pytest.approx(expected)
    assert rank_correlation(torch.ones(3, 1), torch.arange(3.0)[:, None]).item() == 0


def test_comparisons_hold_every_state_with_all_its_candidates(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2])
    search = make_search(2)
    episodes = run_episodes(learner.actor, learner.decoder, state, choose=look(search))
    kept = comparisons(episodes, search.tried)
    num_states = int(state.num_instances.sum())
    assert len(kept) == kept.total == num_states
    assert kept.returns.shape == (num_states, 3)
    first = search.tried[0]  # its states are the first ones
    assert torch.equal(kept.returns[:2], first.values.T)
    masks = kept.predicted_mask[:2].transpose(0, 1) / 255
    assert (masks - first.masks[:, :, 0]).abs().max() <= 0.5 / 255 + 1e-6


def test_a_judge_learns_to_rank_candidates(learner, begin, deal, tiny):
    compared, _ = learner.compare(deal(begin(tiny)), torch.Generator().manual_seed(0))
    before = learner.correlate(compared)["critic/rank_correlation"]
    for _ in range(60):
        learner.update_judge(compared)
    assert learner.correlate(compared)["critic/rank_correlation"] > before + 0.1


def test_the_mean_is_drawn_towards_the_best_candidate(make_learner, begin, deal, tiny, make_phase):
    learner = make_learner(search=replace(CONFIG, weight=50.0), clip_norm=1e9)
    batch, generator = deal(begin(tiny)), lambda: torch.Generator().manual_seed(0)
    state = batch.parts[0].state

    def first_means():
        return run_episodes(learner.actor, learner.decoder, state).steps[0].mean.detach()

    search = learner._search(batch.parts[0], learner._draw_search(batch, generator()))
    before = first_means()
    run_episodes(learner.actor, learner.decoder, state, choose=look(search))
    best = search.tried[0].best
    moves = (best - before).norm(dim=1) > 0
    assert moves.any()
    learner.update_actor(batch, make_phase("search", learning_rate=1e-3), generator())
    distance = [((best - mean)[moves] ** 2).sum().item() for mean in (before, first_means())]
    assert distance[1] < distance[0]


class Taste(nn.Module):
    """A critic that likes masks of a certain size."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def condition(self, context):
        return context, context

    def forward(self, conditioning, mask, predicted_mask):
        return -(predicted_mask.mean((1, 2, 3)) - self.size).abs()


def test_a_judge_takes_the_candidate_that_its_critic_values_most(learner, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    means = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    decode = tiny.autoencoder.decoder
    sizes = []
    for size in (0.0, 1.0):
        judge = Judge(Taste(size), decode, CONFIG)
        chosen = judge(judge.critic.condition(state.context), state.conditioning, state.accumulated_mask, means)
        sizes.append(decode(chosen, state.conditioning).mean((1, 2, 3)))
        candidates = propose(means, judge.offsets)
        assert len(candidates) == CONFIG.judged
        areas = torch.stack([decode(z, state.conditioning).mean((1, 2, 3)) for z in candidates])
        torch.testing.assert_close(sizes[-1], areas.min(0).values if size == 0 else areas.max(0).values)
    assert (sizes[0] < sizes[1]).all()


def test_a_judged_agent_is_the_same_after_saving_and_for_any_batch(learner, begin, tiny, tmp_path):
    judge = Judge(learner.critic.requires_grad_(False), tiny.autoencoder.decoder, CONFIG)
    agent = Agent(learner.actor.requires_grad_(False), tiny, max_steps=3, judge=judge)
    context = begin(tiny, [1, 2, 3]).context
    masks = agent.predict_masks(context, min_steps=3).masks
    unjudged = Agent(agent.actor, tiny, max_steps=3).predict_masks(context, min_steps=3).masks
    assert not torch.allclose(masks, unjudged)
    agent.save(tmp_path / "agent.pt")
    torch.testing.assert_close(Agent.load(tmp_path / "agent.pt").predict_masks(context, min_steps=3).masks, masks)
    torch.testing.assert_close(agent.predict_masks(context[1:2], min_steps=3).masks, masks[1:2], rtol=1e-4, atol=1e-5)
    action, _ = agent.predict(observation(context))
    conditioned = judge.critic.condition(context), judge.decoder.condition(context)
    latent = judge(*conditioned, torch.zeros_like(context[:, :1]), mean_of(agent, context))
    np.testing.assert_allclose(action, (latent / agent.action_scale).clamp(-1, 1).numpy(), atol=1e-5)


def observation(context):
    """The first observation of the episodes in `context`."""
    parts = {"image": context[:, :3], "foreground": context[:, 3:4], "angles": context[:, 4:]}
    return {**parts, "mask": torch.zeros_like(context[:, :1])}


def mean_of(agent, context):
    actor = agent.actor
    mask = torch.zeros_like(context[:, :1])
    return actor(actor.condition(context), mask, actor.initial_memory(len(context))).mean


def test_a_run_with_a_judge_ends_in_an_agent_that_has_one(config, tiny_weights, tmp_path):
    phases = (Phase("main", "bl-score", 1), Phase("judge", "judge", 2))
    settings = replace(
        config,
        phases=phases,
        weights=str(tiny_weights),
        search=CONFIG,
        critic=CriticConfig(hidden=(8, 8), remaining_steps=False),
    )
    trainer = Trainer(settings, tmp_path)
    before = [parameter.clone() for parameter in trainer.learner.actor.parameters()]
    agent = trainer.run()
    assert agent.judge is not None
    assert Agent.load(tmp_path / "initial.pt").judge is None
    loaded = Agent.load(tmp_path)
    assert loaded.judge is not None
    assert loaded.judge.config == CONFIG
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.learner.actor.parameters(), strict=True))


def test_a_judge_phase_changes_the_critic_and_not_the_policy(config, tiny_weights, tmp_path):
    settings = replace(
        config, phases=(Phase("judge", "judge", 2),), weights=str(tiny_weights), search=CONFIG,
        critic=CriticConfig(hidden=(8, 8), remaining_steps=False),
    )  # fmt: skip
    trainer = Trainer(settings, tmp_path)
    policy, critic = (
        [p.clone() for p in parameters]
        for parameters in (trainer.learner.actor.policy_parameters(), trainer.learner.critic.parameters())
    )
    trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(policy, trainer.learner.actor.policy_parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(critic, trainer.learner.critic.parameters(), strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phases": (Phase("a", "judge", 1),)}, "remaining_steps must be False with a judge"),
        ({"phases": (Phase("a", "ac", 1), Phase("b", "judge", 1)), "critic": CriticConfig(remaining_steps=False)},
         r"must not mix the objectives \['ac', 'judge'\]"),
        (
            {
                "phases": (Phase("a", "critic", 1), Phase("b", "judge", 1)),
                "critic": CriticConfig(remaining_steps=False),
            },
            r"must not mix the objectives \['critic', 'judge'\]",
        ),
        ({"bptt_steps": 0}, "bptt_steps must be at least 1, or None, got 0"),
        ({"matching_noise": -1.0}, "matching_noise must be at least 0, got -1.0"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)


def test_noise_on_the_matching_changes_assignments_but_not_masks(make_learner, begin, tiny):
    learner = make_learner()
    state = begin(tiny, [1, 2, 3])
    noise = torch.randn(state.noise.shape, generator=torch.Generator().manual_seed(0))
    quiet, noisy = (run_episodes(learner.actor, learner.decoder, replace(state, noise=n * noise)) for n in (0.0, 5.0))
    assert torch.equal(quiet.steps[-1].predicted_mask, noisy.steps[-1].predicted_mask)
    assert not torch.equal(quiet.assignment, noisy.assignment)


def test_windows_of_bptt_let_the_gradient_through_between_their_steps_only(make_learner, begin, tiny):
    learner = make_learner()
    state = begin(tiny, [1])
    assert state.num_instances.item() >= 3

    def reaches(bptt_steps, t):
        """Whether mask `t` has a gradient to the action before it."""
        handles = []

        def choose(visit):
            handles.append(torch.zeros_like(visit.out.mean, requires_grad=True))
            return choose_mean(visit) + handles[-1]

        episodes = run_episodes(learner.actor, learner.decoder, state, choose=choose, bptt_steps=bptt_steps)
        gradient = torch.autograd.grad(episodes.steps[t].predicted_mask.sum(), handles[t - 1], allow_unused=True)[0]
        return gradient is not None and bool(gradient.abs().max() > 0)

    assert [reaches(k, t) for k in (1, 2, None) for t in (1, 2)] == [False, False, True, False, True, True]
