"""Runs of a few iterations: a configuration with tiny networks, and every algorithm for them."""

from dataclasses import replace

import pytest

from agents.algorithms import (
    ActorCriticConfig,
    BaselineConfig,
    CriticRankingConfig,
    SearchDistillationConfig,
    ValueExpansionConfig,
)
from agents.algorithms.search import CandidateConfig
from agents.models.critic import CriticConfig

CRITIC = {"critic": CriticConfig(hidden=(8, 8)), "critic_updates": 2, "critic_batch_size": 8, "replay_size": 2}
CANDIDATES = {"candidates": CandidateConfig(number=2)}
ACTOR_CRITIC = {**CRITIC, "max_remaining": 6, "critic_warmup": 1, "learning_rate": 1e-2}
ALGORITHMS = {
    config.kind: config
    for config in (
        BaselineConfig(learning_rate=1e-2, sample=True),
        ActorCriticConfig(**ACTOR_CRITIC),
        ValueExpansionConfig(**ACTOR_CRITIC),
        SearchDistillationConfig(learning_rate=1e-2, **CANDIDATES),
        CriticRankingConfig(**CRITIC, **CANDIDATES),
    )
}


@pytest.fixture(scope="session")
def algorithms():
    """Configurations of all algorithms for `tiny`, by kind."""
    return ALGORITHMS


@pytest.fixture
def run_config(config, tiny_weights):
    """`config` with the networks of `tiny`, and no stages yet."""
    return replace(config, env=config.env.having(weights=str(tiny_weights)), checkpoint_every=2)
