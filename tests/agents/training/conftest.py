"""Runs of a few iterations: a configuration with tiny networks, and every algorithm for them."""

from dataclasses import replace

import pytest

from acis_env.weights import save_weights
from agents.algorithms import (
    ActorCriticConfig,
    BaselineConfig,
    CandidateActorCriticConfig,
    CriticRankingConfig,
    MetricStoppingConfig,
    OutcomeJudgingConfig,
    SearchDistillationConfig,
    ValueExpansionConfig,
)
from agents.algorithms.search import CandidateConfig
from agents.models.critic import CriticConfig
from agents.models.ranking_critic import RankingCriticConfig
from agents.training.config import Stage
from agents.training.trainer import Trainer

CRITIC = {"critic": CriticConfig(hidden=(8, 8)), "critic_updates": 2, "critic_batch_size": 8, "replay_size": 2}
CANDIDATES = {"candidates": CandidateConfig(number=2)}
RANKING = {**CRITIC, "critic": RankingCriticConfig(hidden=(8, 8))}
ACTOR_CRITIC = {**CRITIC, "max_remaining": 6, "critic_warmup": 1, "learning_rate": 1e-2}
ALGORITHMS = {
    config.kind: config
    for config in (
        BaselineConfig(learning_rate=1e-2, sample=True),
        ActorCriticConfig(**ACTOR_CRITIC),
        ValueExpansionConfig(**ACTOR_CRITIC),
        SearchDistillationConfig(learning_rate=1e-2, **CANDIDATES),
        CriticRankingConfig(**RANKING, **CANDIDATES),
        CandidateActorCriticConfig(
            learning_rate=1e-2,
            candidates=CandidateConfig(number=3, mirrored=True),
            **RANKING,
        ),
        MetricStoppingConfig(replay_size=2),
        OutcomeJudgingConfig(hidden=(8, 8), widths=(4, 6), scene_batches=2, updates=3, replay_size=2),
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


@pytest.fixture(scope="module")
def settings(config, make_tiny, tmp_path_factory):
    """Configuration without stages, whose checkpoints and evaluations come at different times."""
    weights, networks = tmp_path_factory.mktemp("weights"), make_tiny()
    for network in (networks.context_network, networks.autoencoder):
        save_weights(weights, network)
    return replace(config, env=config.env.having(weights=str(weights)), checkpoint_every=2, eval_every=5)


@pytest.fixture(scope="module")
def configs(settings, algorithms):
    """By the kind of the main stage, which follows another in the middle of the run."""
    first = Stage("init", BaselineConfig(learning_rate=1e-2), 3, sequence_length=1)
    return {
        kind: replace(settings, stages=(first, Stage("main", algorithms[kind], 9)))
        for kind in ("baseline", "actor-critic")
    }


@pytest.fixture(scope="module")
def whole_runs(configs, tmp_path_factory):
    """Folders of runs that nothing interrupted, by kind."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in configs}
    for kind, folder in folders.items():
        Trainer(configs[kind], folder).run()
    return folders
