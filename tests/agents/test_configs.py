"""Lengths and rates of training that nothing has are refused by name."""

import pytest

from agents.algorithms import (
    ActorCriticConfig,
    BaselineConfig,
    CriticRankingConfig,
    LearnerConfig,
    SearchDistillationConfig,
    ValueExpansionConfig,
)
from agents.models.actor import ActorConfig
from agents.models.critic import CriticConfig
from agents.training.config import TrainConfig

NAN = float("nan")


@pytest.mark.parametrize("kind", [BaselineConfig, ActorCriticConfig, CriticRankingConfig, SearchDistillationConfig])
@pytest.mark.parametrize(("name", "value"), [("learning_rate", -1e-3), ("clip_norm", 0.0), ("kl_weight", NAN)])
def test_every_algorithm_refuses_them(kind, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ActorConfig, "memory_size", 0),
        (ActorConfig, "layers", 1000),
        (CriticConfig, "hidden", (256, -1)),
        (LearnerConfig, "accumulate", 0),
        (LearnerConfig, "termination_learning_rate", -1.0),
        (BaselineConfig, "bptt_steps", 0),
        (BaselineConfig, "decay", ((0.5, -1.0),)),
        (BaselineConfig, "decay", ((0.9, 0.1), (0.7, 0.3))),
        (BaselineConfig, "decay", ((1.5, 0.1),)),
        (ActorCriticConfig, "critic_batch_size", 0),
        (ActorCriticConfig, "critic_warmup", -1),
        (ActorCriticConfig, "replay_size", 0),
        (ActorCriticConfig, "exploration", ()),
        (CriticRankingConfig, "critic_updates", 0),
        (ValueExpansionConfig, "bptt_steps", -1),
        (SearchDistillationConfig, "weight", -0.1),
        (TrainConfig, "batch_size", 0),
        (TrainConfig, "max_steps", 0),
        (TrainConfig, "seed", -1),
        (TrainConfig, "eval_scenes", -5),
    ],
)
def test_a_setting_out_of_its_range_is_named_with_its_value(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name} must "):
        kind(**{name: value})
