"""One run of a method: what its result holds, and that it resumes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from agents.algorithms import (
    ActorCriticConfig,
    BaselineConfig,
    CandidateActorCriticConfig,
    CriticRankingConfig,
    MetricStoppingConfig,
    OutcomeJudgingConfig,
    SearchDistillationConfig,
)
from agents.experiments import reproduce
from agents.experiments.cell import count_actor_updates, training_curves
from agents.experiments.timing import TimedTrainer
from agents.training.config import Stage, TrainConfig
from agents.training.log import TrainingLog


def test_a_result_holds_what_the_report_needs(finished, results_of, plants_options):
    (result, _), (baseline, _) = results_of(finished, "AC-Dice"), results_of(finished, "BL-Trunc")
    assert result["actor_updates"] == 5
    assert result["cpu_seconds"] > 0
    assert result["peak_memory"] > 2**20
    assert set(result["rows"]) == {"agent", "initial", "both", "mask only", "LSTM only"}
    assert len(result["rows"]["agent"]["scenes"]["sbd"]) == plants_options["length"]
    assert len(result["critic"]["explained_variance"]) == len(result["rows"]["agent"]["dice_at_step"])
    assert "critic" not in baseline
    assert result["curves"]["critic/explained_variance"]["iteration"] == [2, 3, 4, 5]
    assert [scores["iteration"] for scores in result["history"]] == [2, 4, 5]
    seconds = [scores["cpu_seconds"] for scores in result["history"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2] <= result["cpu_seconds"]


def test_an_interrupted_run_resumes_to_the_same_weights_and_adds_up_its_time(
    finished, world, tmp_path, monkeypatch, results_of, only_cells
):
    save = TimedTrainer.save

    def save_once(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(TimedTrainer, "save", save_once)
    monkeypatch.setattr(reproduce, "write_set_report", lambda *arguments: None)
    options = {"methods": ("AC-Dice",), "seeds": (1,)}
    with pytest.raises(KeyboardInterrupt):
        world(tmp_path, **options)
    folder = tmp_path / "plants" / "AC-Dice" / "seed-1"
    assert not (folder / "result.json").exists()
    before = json.loads((folder / "clock.json").read_text())["2"]
    monkeypatch.setattr(TimedTrainer, "save", save)
    world(tmp_path, **options)
    result = json.loads((folder / "result.json").read_text())
    whole = results_of(finished, "AC-Dice")[1]
    assert result["rows"] == whole["rows"]
    assert result["cpu_seconds"] > before[0]
    assert result["wall_seconds"] > before[1]
    expected, resumed = (
        torch.load(path / "agent.pt", weights_only=True)["actor"]
        for path in (finished / "plants" / "AC-Dice" / "seed-1", folder)
    )
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_run_that_ended_before_its_evaluation_is_evaluated_without_more_training(
    finished, world, tmp_path, monkeypatch, results_of, only_cells
):
    shutil.copytree(finished / "plants" / "AC-Dice", tmp_path / "plants" / "AC-Dice")
    folder = tmp_path / "plants" / "AC-Dice" / "seed-0"
    (folder / "result.json").unlink()
    monkeypatch.setattr(reproduce, "write_set_report", lambda *arguments: None)
    monkeypatch.setattr(TimedTrainer, "train_iteration", lambda self: pytest.fail("trained again"))
    world(tmp_path, methods=("AC-Dice",))
    result, whole = (results_of(out, "AC-Dice")[0] for out in (tmp_path, finished))
    for name in ("rows", "history", "curves", "critic", "cpu_seconds"):
        assert result[name] == whole[name]


def test_updates_of_the_actor_are_counted_without_those_of_a_critic_alone():
    algorithms = {
        BaselineConfig(): 10,
        SearchDistillationConfig(): 10,
        ActorCriticConfig(critic_warmup=4): 6,
        CandidateActorCriticConfig(): 10,
        CriticRankingConfig(): 0,
        MetricStoppingConfig(): 0,
        OutcomeJudgingConfig(): 0,
    }
    for algorithm, expected in algorithms.items():
        config = TrainConfig(stages=(Stage("init", BaselineConfig(), 3), Stage("main", algorithm, 10)))
        assert count_actor_updates(config) == 3 + expected
    both = replace(config, stages=tuple(Stage(str(n), a, 10) for n, a in enumerate(algorithms)))
    assert count_actor_updates(both) == sum(algorithms.values())


def test_curves_of_training_are_averaged_to_few_points_and_leave_validation_out(tmp_path):
    with TrainingLog(tmp_path, 0, 100) as log:
        for iteration in range(100):
            log.writer.add_scalar("critic/loss", 2.0 * iteration, iteration)
            log.writer.add_scalar("val/sbd", 1.0, iteration)
        log.writer.add_scalar("actor/kl", 3.0, 7)
    curves = training_curves(tmp_path)
    assert set(curves) == {"critic/loss", "actor/kl"}
    assert curves["actor/kl"] == {"iteration": [7.0], "value": [3.0]}
    iterations, values = curves["critic/loss"].values()
    assert len(iterations) == len(values) == 40
    assert values == [2 * iteration for iteration in iterations]
    assert iterations[0] == 1.0  # of 0, 1 and 2
