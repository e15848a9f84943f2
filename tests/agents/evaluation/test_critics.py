"""Measures of critics: perfect for one that knows the answers, and none for one that knows nothing."""

from dataclasses import replace

import pytest
import torch

from agents.algorithms import CriticRankingConfig, ValueExpansionConfig
from agents.algorithms.comparisons import rank_correlation
from agents.algorithms.search import CandidateConfig
from agents.evaluation.critics import candidate_correlation, explained_variance_per_step
from agents.models.ranking_critic import RankingCriticConfig


def test_a_critic_that_knows_the_returns_explains_them_and_a_constant_one_does_not(
    make_algorithm, actor_critic, source, leaves
):
    algorithm = make_algorithm(replace(actor_critic, exploration=(0.0, 1.0)))
    algorithm.critic.values = lambda played: played.returns
    knowing = explained_variance_per_step(algorithm, source)
    counts = leaves.gather(range(12))[1].flatten(1).amax(1)
    assert knowing["count"] == [int((counts > t).sum()) for t in range(int(counts.max()))]
    assert all(value in (0.0, 1.0) for value in knowing["explained_variance"])
    assert knowing["explained_variance"][0] == 1
    assert knowing["target"] == knowing["prediction"]

    algorithm.critic.values = lambda played: torch.full_like(played.returns, 5.0)
    ignorant = explained_variance_per_step(algorithm, source)
    assert ignorant["target"] == knowing["target"]  # the same episodes
    assert max(ignorant["explained_variance"]) <= 0


def test_the_critic_of_value_expansion_is_measured_by_what_follows_the_reward(make_algorithm, actor_critic, source):
    shared = {name: value for name, value in vars(actor_critic).items() if name != "kind"}
    algorithm = make_algorithm(ValueExpansionConfig(**shared))
    algorithm.critic.values = lambda played: played.returns - played.reward
    knowing = explained_variance_per_step(algorithm, source)
    assert knowing["explained_variance"][0] == 1
    assert knowing["target"] == knowing["prediction"]
    assert knowing["target"][-1] == 0  # nothing follows a last step


def test_only_the_first_scenes_are_played_if_so_many_are_asked_for(make_algorithm, actor_critic, source):
    measured = explained_variance_per_step(make_algorithm(actor_critic), source, num_scenes=2)  # of 2 and 4 leaves
    assert measured["count"] == [2, 2, 1, 1]


def test_the_candidates_of_a_critic_that_knows_their_values_are_in_order(make_algorithm, source):
    candidates = CandidateConfig(number=3, spreads=(0.5, 2.0))
    algorithm = make_algorithm(CriticRankingConfig(critic=RankingCriticConfig(hidden=(8, 8)), candidates=candidates))
    algorithm.critic.rank_correlation = lambda compared: rank_correlation(compared.values.T, compared.values.T).mean()
    known = candidate_correlation(algorithm, source)
    algorithm.critic.rank_correlation = lambda compared: rank_correlation(-compared.values.T, compared.values.T).mean()
    reversed_ = candidate_correlation(algorithm, source)
    assert known.keys() == {"reward", "return"}
    for name, value in known.items():
        assert value > 0.9  # 0 in states where all candidates are worth the same
        assert reversed_[name] == pytest.approx(-value)
