"""The named presets."""

import json
from dataclasses import asdict

import pytest

from acis_env.datasets import DATASETS
from agents.algorithms import ActorCriticConfig, BaselineConfig
from agents.training.config import train_config_from_dict
from agents.training.presets import CROSS_ENTROPY, PRESETS, search_schedule, short_schedule
from agents.training.trainer import FORMAT, Trainer, load_config


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_being_written_and_read(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"format": FORMAT, **asdict(PRESETS[name])}))
    assert load_config(tmp_path) == PRESETS[name]
    assert train_config_from_dict(asdict(PRESETS[name]), name) == PRESETS[name]


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.startswith("paper")])
def test_every_preset_but_the_published_ones_can_be_trained_with_what_is_bundled(name, tmp_path):
    trainer = Trainer(PRESETS[name], tmp_path)
    assert trainer.core.num_envs == 16
    assert trainer.agent().refine == (name in ("quick", "best", "small"))


@pytest.mark.parametrize(("name", "steps"), [("paper-cvppp", 21), ("paper-kitti", 16)])
def test_a_published_schedule_is_a_curriculum_and_then_algorithm_1_at_three_rates(name, steps):
    preset = PRESETS[name]
    supervised, actor_critic = preset.stages[:-3], preset.stages[-3:]
    assert [stage.sequence_length for stage in supervised] == [1, 1, 5, 10, steps]
    assert all(stage.algorithm.objective == "cross-entropy" for stage in supervised)
    assert [stage.algorithm.sample for stage in supervised] == [True, False, False, False, False]
    assert [stage.algorithm.kind for stage in actor_critic] == ["actor-critic"] * 3
    rates = [(stage.algorithm.learning_rate, stage.algorithm.critic_learning_rate) for stage in actor_critic]
    assert rates == [(rate, 2 * rate) for rate in (5e-4, 5e-5, 1e-6)]
    assert [stage.algorithm.critic_warmup for stage in actor_critic] == [1024, 0, 0]
    assert preset.max_steps == steps
    assert not preset.learner.start_from_encoder
    assert preset.env.kwargs["weights"] == f"weights/{name.removeprefix('paper-')}"
    assert preset.env.kwargs["scenes"] == f"dataset:{name.removeprefix('paper-')}"


def test_published_schedules_have_the_threshold_of_the_protocol_and_turn_no_street_upside_down():
    for name in ("cvppp", "kitti"):
        assert PRESETS[f"paper-{name}"].env.kwargs["threshold"] == DATASETS[name].protocol["threshold"]
    plants, streets = (PRESETS[f"paper-{name}"].env.kwargs["augmentation"] for name in ("cvppp", "kitti"))
    assert plants["rotation"] == 180
    assert not streets["quarter_turns"]
    assert "rotation" not in streets
    assert PRESETS["paper-kitti"].env.kwargs["scene_options"]["crop"] == [256, 768]


def test_a_short_schedule_begins_with_one_missing_instance_and_gives_a_critic_its_warm_up():
    start, main = short_schedule(CROSS_ENTROPY, 100)
    assert (start.sequence_length, main.sequence_length) == (1, None)
    assert (main.algorithm, main.iterations) == (CROSS_ENTROPY, 100)
    assert short_schedule(ActorCriticConfig(critic_warmup=7), 100)[1].iterations == 107


def test_a_schedule_with_a_search_ends_with_a_critic_and_with_stopping_that_are_never_long():
    *before, critic, stopping = search_schedule(160)
    assert tuple(before) == short_schedule(BaselineConfig(), 160)
    assert (critic.algorithm.kind, critic.iterations) == ("critic-ranking", 20)
    assert (stopping.algorithm.kind, stopping.iterations) == ("metric-stopping", 6)
    assert [stage.name for stage in search_schedule(1, ranking=False)] == ["init", "main", "stopping"]
    assert [stage.iterations for stage in search_schedule(10_000)[2:]] == [32, 24]


def test_a_critic_of_outcomes_learns_last_from_the_agent_as_it_will_be():
    *before, outcomes = search_schedule(160, outcomes=True)
    assert tuple(before) == search_schedule(160)
    assert (outcomes.algorithm.kind, outcomes.iterations) == ("outcome-judging", 13)
    assert search_schedule(10_000, outcomes=True)[-1].iterations == 24


def test_a_candidate_actor_critic_never_follows_the_gradient_of_the_score():
    kinds = [stage.algorithm.kind for stage in PRESETS["candidate-actor-critic"].stages]
    assert kinds == ["candidate-actor-critic", "candidate-actor-critic", "metric-stopping"]
