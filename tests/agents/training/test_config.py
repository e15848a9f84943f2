"""Configurations of runs: what they refuse, and that they come back from JSON as they were."""

import importlib
import json
from dataclasses import asdict, dataclass, replace

import pytest
import torch

from agents.algorithms import (
    BaselineConfig,
    CriticRankingConfig,
    MetricStoppingConfig,
    OutcomeJudgingConfig,
    SearchDistillationConfig,
)
from agents.algorithms.search import CandidateConfig
from agents.training.config import Stage, TrainConfig, train_config_from_dict
from agents.training.trainer import Trainer, load_config

OWN_ALGORITHM = """
from dataclasses import dataclass
from typing import Literal
from agents.algorithms import Baseline, BaselineConfig

@dataclass(frozen=True)
class PatientConfig(BaselineConfig):
    kind: Literal["patient"] = "patient"
    waits: int = 1
    shares: tuple[float, ...] = (0.5,)

    def make(self, learner, previous=None):
        return Patient(self, learner)

class Patient(Baseline):
    def train_iteration(self, progress):
        return super().train_iteration(progress) if progress.iteration >= self.config.waits else {}
"""


def read_back(config):
    return train_config_from_dict(json.loads(json.dumps(asdict(config))), "text")


def changed(config, *path, **values):
    """JSON values of `config`, with `values` added at the place `path`."""
    content = json.loads(json.dumps(asdict(config)))
    place = content
    for key in path:
        place = place[key]
    place.update(values)
    return content


@pytest.fixture
def several(run_config, algorithms):
    """A configuration with a stage of every algorithm."""
    stages = [
        Stage(kind, algorithm, 3, sequence_length=None if algorithm.needs_whole_scenes else n)
        for n, (kind, algorithm) in enumerate(algorithms.items(), 1)
    ]
    return replace(run_config, stages=tuple(stages), seed=3)


def test_a_configuration_with_all_algorithms_comes_back_from_json(several, algorithms):
    again = read_back(several)
    assert again == several
    assert [type(stage.algorithm) for stage in again.stages] == [type(config) for config in algorithms.values()]
    assert again.iterations == 3 * len(algorithms)


def test_what_a_file_leaves_out_has_its_default():
    stage = {"name": "main", "algorithm": {"kind": "baseline", "learning_rate": 1}, "iterations": 2}
    assert train_config_from_dict({"stages": [stage]}, "text") == TrainConfig(
        stages=(Stage("main", BaselineConfig(learning_rate=1.0), 2),)
    )


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Name of a module, not imported yet, that defines an algorithm of one's own."""
    (tmp_path / "patient_algorithm.py").write_text(OWN_ALGORITHM)
    monkeypatch.syspath_prepend(tmp_path)
    return "patient_algorithm"


def test_an_algorithm_of_ones_own_is_trained_and_read_back_once_its_module_is_imported(
    run_config, own_module, tmp_path
):
    stage = {"name": "main", "algorithm": {"kind": "patient", "waits": 2, "shares": [0.1, 0.2]}, "iterations": 3}
    values = changed(run_config, stages=[stage])
    with pytest.raises(ValueError, match=r"got 'patient'; import the module that defines it first"):
        train_config_from_dict(values, "text")
    module = importlib.import_module(own_module)
    config = train_config_from_dict(values, "text")
    assert config.stages[0].algorithm == module.PatientConfig(waits=2, shares=(0.1, 0.2))
    trainer = Trainer(config, tmp_path / "run")
    before = {name: value.clone() for name, value in trainer.learner.actor.state_dict().items()}
    changes = []
    for _ in range(3):
        trainer.train_iteration()
        changes.append(any(not torch.equal(v, before[n]) for n, v in trainer.learner.actor.state_dict().items()))
    assert changes == [False, False, True]
    trainer.run()
    trainer.save()
    assert load_config(tmp_path / "run") == config
    resumed = Trainer.resume(tmp_path / "run")
    assert isinstance(resumed.algorithm, module.Patient)
    assert resumed.config == config


def test_an_algorithm_without_a_kind_of_its_own_is_refused_as_it_could_not_be_told_apart():
    @dataclass(frozen=True)
    class Nameless(BaselineConfig):
        patience: int = 1

    for algorithm in (Nameless(), Nameless(kind="nameless")):
        with pytest.raises(ValueError, match=r"Nameless, of stage 'main', needs a field kind: Literal.* of its own"):
            TrainConfig(stages=(Stage("main", algorithm, 1),))
    plain = TrainConfig(stages=(Stage("main", BaselineConfig(), 1),))
    assert type(read_back(plain).stages[0].algorithm) is BaselineConfig


def test_a_kind_that_does_not_exist_is_named_with_those_that_do(several):
    for kind in ("ac-score", None, 3, ["baseline"]):
        values = changed(several, "stages", 1, "algorithm", kind=kind)
        with pytest.raises(
            ValueError, match=r"^text: stages\.1\.algorithm: kind must be one of actor-critic, .*"
        ) as error:
            train_config_from_dict(values, "text")
        assert f"got {kind!r}" in str(error.value)
        assert "\n" not in str(error.value)
    values = changed(several)
    del values["stages"][0]["algorithm"]
    with pytest.raises(ValueError, match=r"stages\.0\.algorithm: kind must be one of .*, got None"):
        train_config_from_dict(values, "text")


@pytest.mark.parametrize(
    ("path", "values", "named"),
    [
        ((), {"speed": 1}, "speed: unknown key, the nearest of TrainConfig are 'seed'"),
        ((), {"seed": "three"}, "seed: expected int, got 'three'"),
        ((), {"stages": {"name": "main"}}, "stages must be a list of objects, got {'name': 'main'}"),
        ((), {"stages": ["main"]}, r"stages must be a list of objects, got \['main'\]"),
        (("env",), {"scenes": "leaves"}, r"env\.scenes: unknown key, the nearest of EnvConfig are"),
        (("env",), {"kwargs": []}, r"env\.kwargs: expected .*, got \[\]"),
        (("learner",), {"gamma": 0.9}, r"learner\.gamma: unknown key, the nearest of LearnerConfig are"),
        (("stages", 0), {"objective": "ac"}, r"stages\[0\]\.objective: unknown key, the nearest of Stage are"),
        (("stages", 0), {"iterations": 1.5}, r"stages\[0\]\.iterations: expected int, got 1\.5"),
        (
            ("stages", 0, "algorithm"),
            {"gama": 0.9},
            r"stages\.0\.algorithm: gama: unknown key, the nearest",
        ),
        (("stages", 1, "algorithm"), {"gamma": "x"}, r"stages\.1\.algorithm: gamma: expected float, got 'x'"),
        (("stages", 1, "algorithm", "critic"), {"width": 1}, r"stages\.1\.algorithm: critic\.width: unknown key"),
        (
            ("stages", 0, "algorithm"),
            {"bptt_steps": 0},
            r"stages\.0\.algorithm: bptt_steps must be at least 1",
        ),
    ],
)
def test_what_does_not_fit_is_an_error_of_one_line_that_says_where(several, path, values, named):
    with pytest.raises(ValueError, match=rf"^text: {named}") as error:
        train_config_from_dict(changed(several, *path, **values), "text")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"eval_every": 0}, "eval_every must be at least 1, got 0"),
        ({"eval_scenes": 0}, "eval_scenes must be at least 1, got 0"),
        ({"monitor_every": 0}, "monitor_every must be at least 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        (
            {"stages": (Stage("main", BaselineConfig(), 0),)},
            "stages.0.iterations, of stage 'main', must be at least 1, got 0",
        ),
        ({"minutes": 0.0}, "minutes must be positive, got 0.0"),
        ({"minutes": -1.0}, "minutes must be positive, got -1.0"),
        ({"minutes": float("nan")}, "minutes must be positive, got nan"),
        (
            {"stages": (Stage("main", BaselineConfig(), 1, sequence_length=0),)},
            "stages.0.sequence_length, of stage 'main', must be at least 1, or None, got 0",
        ),
        (
            {"stages": (Stage("outcomes", OutcomeJudgingConfig(), 1, sequence_length=2),)},
            "stages.0.sequence_length, of stage 'outcomes', must be None, since it needs whole scenes, got 2",
        ),
    ],
)
def test_a_value_outside_of_its_range_is_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        TrainConfig(**changes)


def test_an_objective_that_there_is_not_is_refused_and_not_another_one():
    with pytest.raises(ValueError, match="objective must be one of cross-entropy, score, got 'dice'"):
        BaselineConfig(objective="dice")


@pytest.mark.parametrize(
    ("algorithm", "fields", "where"),
    [
        (SearchDistillationConfig, {"sample": True}, "episodes follow the mean: expected the default False, got True"),
        (SearchDistillationConfig, {"gamma": 0.5}, "candidates are worth their reward: expected the default 0.9"),
        (CriticRankingConfig, {"kl_weight": 1.0}, "the actor stays as it is: expected the default 0.0, got 1.0"),
        (MetricStoppingConfig, {"kl_weight": 1.0}, "the policy stays as it is: expected the default 0.0, got 1.0"),
        (OutcomeJudgingConfig, {"kl_weight": 1.0}, "the policy stays as it is: expected the default 0.0, got 1.0"),
    ],
)
def test_a_setting_without_an_effect_is_refused(algorithm, fields, where):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} has no effect where {where}"):
        algorithm(**fields)
    returns = CandidateConfig(value="return")
    assert SearchDistillationConfig(candidates=returns, gamma=0.5).gamma == 0.5


def test_more_micro_batches_than_slots_are_refused(config):
    learner = replace(config.learner, accumulate=5)
    with pytest.raises(ValueError, match=r"accumulate must be at most batch_size, .* got 5 with batch_size 4"):
        replace(config, learner=learner)
    assert replace(config, learner=learner, batch_size=5).learner.accumulate == 5


@pytest.mark.parametrize("value", [lambda masks: masks, (64, 64), {"size": (64, 64)}, {1: 2}, float("nan"), {3}])
def test_arguments_of_the_environment_that_json_would_not_keep_are_refused(config, value):
    with pytest.raises(ValueError, match=r"env\.kwargs must be JSON .*, got score = .*give the trainer an environment"):
        replace(config, env=config.env.having(score=value))
    with pytest.raises(ValueError, match=r"env\.val_kwargs must be JSON .*, got score = "):
        replace(config, env=replace(config.env, val_kwargs={"score": value}))
