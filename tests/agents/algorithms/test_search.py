"""Candidates, what they are worth by the truth, and what is learned from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from acis_env import dynamics
from acis_env.dynamics import DEFAULT_RULES, Rules
from agents.algorithms import CriticRankingConfig, SearchDistillationConfig
from agents.algorithms.comparisons import Comparisons, compare, rank_correlation
from agents.algorithms.rollout import DecisionStep, choose_mean, discounted_returns, run_episodes
from agents.algorithms.search import (
    CandidateConfig,
    Search,
    search_and_mix,
    search_but_take_mean,
)
from agents.models.ranking_critic import RankingCritic, RankingCriticConfig
from agents.models.selection import pick

CANDIDATES = CandidateConfig(number=3, spreads=(0.5, 2.0))
RANKING = CriticRankingConfig(
    candidates=CANDIDATES, critic=RankingCriticConfig(hidden=(8, 8)), decay=(), critic_batch_size=8
)
GAMMA = 0.7


@pytest.fixture
def learner(make_algorithm, baseline):
    made = make_algorithm(baseline).learner
    made.decoder = made.core.decoder
    return made


@pytest.fixture
def make_search(learner):
    """A function of the number of scenes and of what a candidate is worth."""

    def make(num_scenes, value="reward", rules=DEFAULT_RULES, measures=False):
        noise = torch.randn(2, num_scenes, 4, 4, generator=torch.Generator().manual_seed(1))
        return Search(learner.actor, learner.decoder, CANDIDATES.worth(value), noise, GAMMA, rules, measures=measures)

    return make


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"number": 1}, "number must be at least 2, .* got 1"),
        ({"spreads": (1.0, 0.0)}, r"spreads must be positive, got \(1.0, 0.0\)"),
        ({"spreads": (1.0, float("nan"))}, r"spreads must be positive, got \(1.0, nan\)"),
        ({"spreads": ()}, "spreads must hold at least one standard deviation, got none"),
    ],
)
def test_a_search_without_a_choice_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        CandidateConfig(**fields)


def test_candidates_are_worth_what_there_is_a_name_for():
    with pytest.raises(ValueError, match="value must be one of reward, return, got 'profit'"):
        CandidateConfig(value="profit")


def test_a_candidate_is_worth_the_reward_that_a_step_with_it_earns(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    search = make_search(3)
    run_episodes(learner.actor, learner.decoder, state, choose=search_but_take_mean(search))
    first = search.tried[0]
    for latents, values in zip(first.latents, first.values, strict=True):
        _, reward = dynamics.step(state, latents, learner.decoder)
        assert torch.equal(values, reward)
    assert (first.values.max(0).values > first.values[0]).any()  # or the choice below would prove nothing
    assert torch.equal(first.best, pick(first.latents, first.values))


def test_a_return_is_what_the_mean_policy_earns_after_the_candidate(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    search = make_search(3, "return")
    run_episodes(learner.actor, learner.decoder, state, choose=search_but_take_mean(search))
    for t, candidates in enumerate(search.tried):
        for latents, values in zip(candidates.latents, candidates.values, strict=True):

            def choose(decision, t=t, latents=latents):
                return latents if decision.t == t else decision.out.mean

            episodes = run_episodes(learner.actor, learner.decoder, state, choose=choose)
            expected = discounted_returns(episodes, GAMMA)[t]
            torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


def test_a_search_values_candidates_by_the_rules_that_it_is_given(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    for rules in (Rules(score="iou"), Rules(reward="greedy")):
        search = make_search(3, rules=rules)
        run_episodes(learner.actor, learner.decoder, state, rules, choose=search_but_take_mean(search))
        for latents, values in zip(search.tried[0].latents, search.tried[0].values, strict=True):
            assert torch.equal(values, dynamics.step(state, latents, learner.decoder, rules)[1])


def test_exploring_follows_the_best_candidate_where_it_is_told_to(learner, make_search, begin, tiny):
    state = begin(tiny, [1, 2])
    search = make_search(2)
    out = learner.actor(learner.actor.condition(state.context), state.accumulated_mask, learner.actor.initial_memory(2))
    chosen = search_and_mix(search, torch.tensor([[True], [False]]))(DecisionStep(0, state, out))
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
    search = make_search(2, measures=True)
    episodes = run_episodes(learner.actor, learner.decoder, state, choose=search_but_take_mean(search))
    kept = compare(search.tried)
    assert kept.values.shape == (int(state.num_instances.sum()), 3)
    visited, rows = state, 0
    for step, tried in zip(episodes.steps, search.tried, strict=True):
        visited = visited.select(slice(len(step.mask)))
        here = slice(rows, rows + len(visited))
        assert torch.equal(kept.values[here], tried.values.T)
        for k, latent in enumerate(tried.latents):
            masks = dynamics.transition(visited, latent, learner.decoder).predicted_mask
            expected = RankingCritic.measure(RankingCritic.condition(visited.context), visited.accumulated_mask, masks)
            torch.testing.assert_close(kept.measures[here, k], expected)
        visited = dynamics.transition(visited, step.latent, learner.decoder)
        rows = here.stop
    assert rows == len(kept)


def test_candidates_that_were_not_measured_cannot_be_compared(learner, make_search, begin, tiny):
    search = make_search(2)
    run_episodes(learner.actor, learner.decoder, begin(tiny, [1, 2]), choose=search_but_take_mean(search))
    with pytest.raises(ValueError, match="candidates were tried without their measures"):
        compare(search.tried)


def test_a_critic_learns_to_rank_candidates(make_algorithm, begin, tiny):
    algorithm = make_algorithm(RANKING)
    compared, _ = algorithm.compare(begin(tiny), torch.Generator().manual_seed(0))
    before = algorithm.critic.rank_correlation(compared)
    for _ in range(400):
        algorithm.critic.rank(compared, 1e-2)
    assert algorithm.critic.rank_correlation(compared) > before + 0.1


def test_ranking_learns_differences_within_a_state_and_hardly_what_the_state_is_worth(make_algorithm):
    critic = make_algorithm(RANKING).critic
    measures = torch.rand(50, 2, 12, generator=torch.Generator().manual_seed(0))
    measures[:, 1] = measures[:, 0]
    of_states = 10 * measures[:, :1, 0]  # large, and the same for both candidates
    compared = Comparisons(measures, of_states + torch.tensor([0.0, 1.0]) * torch.ones(50, 1))
    compared.measures[:, 1, 1] += 1  # by which they can be told
    first = critic.rank(compared, 1e-2)
    for _ in range(80):
        last = critic.rank(compared, 1e-2)
    # Candidates differ by one, so their values have a mean squared distance of 1/4 from the mean of the state.
    assert float(first["critic/explained_spread"]) == pytest.approx(1 - float(first["critic/loss"]) / 0.25, rel=1e-4)
    assert float(last["critic/explained_spread"]) > 0.9
    assert float(critic.rank_correlation(compared)) == pytest.approx(1)


def test_a_critic_learns_from_the_newest_collections(make_algorithm):
    critic = make_algorithm(replace(RANKING, replay_size=2)).critic
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        measures = torch.full((5, 3, 12), float(number))
        losses = critic.learn(Comparisons(measures, torch.rand(5, 3)), 2, 8, 1e-3, generator)
    assert [float(kept.measures[0, 0, 0]) for kept in critic.replay] == [2, 3]
    assert losses["critic/loss"] > 0


def test_ranking_changes_the_critic_and_the_termination_unit_and_not_the_policy(make_algorithm, at):
    algorithm = make_algorithm(RANKING)
    actor, critic = algorithm.learner.actor, algorithm.critic.critic
    assert algorithm.selection is None  # it has not learned anything yet
    parts = (actor.policy_parameters(), list(actor.termination.parameters()), list(critic.parameters()))
    before = [[p.clone() for p in parameters] for parameters in parts]
    losses = algorithm.train_iteration(at(monitor=True))
    assert {"critic/loss", "critic/explained_spread", "critic/rank_correlation", "termination/loss"} <= losses.keys()
    changed = [
        any(not torch.equal(a, b) for a, b in zip(old, new, strict=True))
        for old, new in zip(before, parts, strict=True)
    ]
    assert changed == [False, True, True]
    assert algorithm.selection.critic is critic
    assert algorithm.selection.config == RANKING.selection


def test_the_mean_is_drawn_towards_the_best_candidate(make_algorithm, begin, tiny, at):
    config = SearchDistillationConfig(candidates=CANDIDATES, weight=50.0, clip_norm=1e9, learning_rate=1e-3, decay=())
    algorithm, state = make_algorithm(config), begin(tiny)
    learner = algorithm.learner

    def first_means():
        return run_episodes(learner.actor, learner.core.decoder, state).steps[0].mean.detach()

    before = first_means()
    algorithm.update_actor([state], at())
    best = algorithm._search.tried[0].best
    moves = (best - before).norm(dim=1) > 0
    assert moves.any()
    distance = [((best - mean)[moves] ** 2).sum().item() for mean in (before, first_means())]
    assert distance[1] < distance[0]


def test_noise_on_the_matching_changes_assignments_but_not_masks(learner, begin, tiny):
    state = begin(tiny, [1, 2, 3])
    noise = torch.randn(state.noise.shape, generator=torch.Generator().manual_seed(0))
    quiet, noisy = (run_episodes(learner.actor, learner.decoder, replace(state, noise=n * noise)) for n in (0.0, 5.0))
    assert torch.equal(quiet.steps[-1].predicted_mask, noisy.steps[-1].predicted_mask)
    assert not torch.equal(quiet.assignment, noisy.assignment)


def test_windows_of_bptt_let_the_gradient_through_between_their_steps_only(learner, begin, tiny):
    state = begin(tiny, [1])
    assert state.num_instances.item() >= 3

    def reaches(bptt_steps, t):
        """Whether mask `t` has a gradient to the action before it."""
        handles = []

        def choose(decision):
            handles.append(torch.zeros_like(decision.out.mean, requires_grad=True))
            return choose_mean(decision) + handles[-1]

        episodes = run_episodes(learner.actor, learner.decoder, state, choose=choose, bptt_steps=bptt_steps)
        gradient = torch.autograd.grad(episodes.steps[t].predicted_mask.sum(), handles[t - 1], allow_unused=True)[0]
        return gradient is not None and bool(gradient.abs().max() > 0)

    assert [reaches(k, t) for k in (1, 2, None) for t in (1, 2)] == [False, False, True, False, True, True]
