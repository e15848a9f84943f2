"""A run survives its end at any moment: what was saved goes on to the same bits, and is never spoilt."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import agents
from agents.algorithms import ActorCritic, BaselineConfig
from agents.algorithms.collector import Collector
from agents.models.checkpoints import load_checkpoint
from agents.training.config import Stage
from agents.training.trainer import Trainer
from tests.reliability.compare import check_same_end, differences

CHILD = """
import json, sys, time
from pathlib import Path
import torch
from agents.training.config import train_config_from_dict
from agents.training.trainer import Trainer

class Slow(Trainer):
    def train_iteration(self):
        time.sleep(0.05)  # or it might be through before the signal comes
        return super().train_iteration()

torch.set_num_threads(1)
Slow(train_config_from_dict(json.loads(sys.argv[1]), "argument"), Path(sys.argv[2])).run()
"""


def start_child(config, folder):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(asdict(config)), str(folder)],
        cwd=Path(agents.__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )


def spoil_at(trainer, monkeypatch, iteration, update, find_weight):
    """Let a weight of `trainer` be NaN from an iteration's `update` on."""
    original = getattr(ActorCritic, update)

    def spoil_and_update(algorithm, *arguments):
        if trainer.iteration == iteration:
            with torch.no_grad():
                find_weight(algorithm).view(-1)[0] = torch.nan
        return original(algorithm, *arguments)

    monkeypatch.setattr(ActorCritic, update, spoil_and_update)


def break_at(trainer, monkeypatch, iteration, error):
    """Let `trainer` fail in an iteration after it has already learned from it."""
    update = ActorCritic.update_actor

    def update_and_fail(*arguments):
        losses = update(*arguments)
        if trainer.iteration == iteration:
            raise error
        return losses

    monkeypatch.setattr(ActorCritic, "update_actor", update_and_fail)


@pytest.mark.parametrize("kind", ["baseline", "actor-critic"])
def test_a_run_killed_at_a_random_moment_and_resumed_ends_with_the_same_bits(configs, whole_runs, tmp_path, kind):
    child = start_child(configs[kind], tmp_path)
    try:
        deadline = time.monotonic() + 90
        while not (tmp_path / "checkpoint.pt").exists():
            assert child.poll() is None, "ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.4))  # another moment at every call: none must matter
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        status = child.wait()
    assert status == -signal.SIGKILL
    resumed = Trainer.resume(tmp_path)
    assert 2 <= resumed.iteration < 12
    resumed.run()
    check_same_end(whole_runs[kind], tmp_path)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_and_is_resumed_ends_with_the_same_bits(configs, whole_runs, tmp_path, monkeypatch, error):
    trainer = Trainer(configs["actor-critic"], tmp_path)
    with monkeypatch.context() as patch:
        break_at(trainer, patch, 7, error("enough"))
        with pytest.raises(error, match="enough"):
            trainer.run()
    resumed = Trainer.resume(tmp_path)
    assert resumed.iteration == 6
    before = load_checkpoint(tmp_path / "checkpoint.pt")["learner"]
    assert differences(before, load_checkpoint(whole_runs["actor-critic"] / "checkpoint.pt")["learner"])
    resumed.run()
    check_same_end(whole_runs["actor-critic"], tmp_path)


@pytest.mark.parametrize(
    ("iteration", "update", "find_weight", "named"),
    [
        (7, "update_critic", lambda algorithm: algorithm.critic.critic.head[-1].bias, "critic/loss nan"),
        (7, "update_actor", lambda algorithm: algorithm.critic.critic.head[-1].bias, "actor/objective nan"),
        (7, "update_actor", lambda algorithm: algorithm.learner.actor.termination[-1].bias, "termination/loss nan"),
        (7, "update_actor", lambda algorithm: algorithm.learner.actor.skip.bias, "actor/objective nan"),
        (10, "update_actor", lambda algorithm: algorithm.learner.actor.skip.bias, "scores.* nan"),  # masks are scored
    ],
)
def test_what_is_not_finite_is_named_and_stops_the_run_which_can_go_on_from_before(
    configs, whole_runs, tmp_path, monkeypatch, iteration, update, find_weight, named
):
    trainer = Trainer(configs["actor-critic"], tmp_path)
    with monkeypatch.context() as patch:
        spoil_at(trainer, patch, iteration, update, find_weight)
        message = f"iteration {iteration}, stage 'main': .*{named}.* keeps its last checkpoint"
        with pytest.raises(FloatingPointError, match=message):
            trainer.run()
    resumed = Trainer.resume(tmp_path)
    assert resumed.iteration == iteration // 2 * 2
    resumed.run()
    check_same_end(whole_runs["actor-critic"], tmp_path)


def test_resuming_a_finished_run_changes_nothing(whole_runs):
    for folder in whole_runs.values():
        before = {path: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("events.")}
        Trainer.resume(folder).run()
        assert {path: path.read_bytes() for path in before} == before


def stages_of(algorithm):
    """Three stages, of which the last goes on with the critic of the one before, if that has one."""
    rates = {"critic_learning_rate": 2e-3} if hasattr(algorithm, "critic_learning_rate") else {}
    memory = {"replay_size": 1} if hasattr(algorithm, "replay_size") else {}
    own = {} if algorithm.kind == "critic-ranking" else {"learning_rate": 1e-3}  # whose actor stays as it is
    later = replace(algorithm, clip_norm=0.1, **own, **rates, **memory)
    first = Stage("init", BaselineConfig(learning_rate=1e-2), 2, sequence_length=1)
    length = None if algorithm.needs_whole_scenes else 2
    return (first, Stage("main", algorithm, 3), Stage("more", later, 3, sequence_length=length))


@pytest.fixture(scope="module")
def run_in_stages(settings, algorithms, tmp_path_factory):
    """A function of a kind: the configuration of a run of three stages, and the folder of one in one piece."""
    made = {}

    def run(kind):
        if kind not in made:
            config = replace(settings, stages=stages_of(algorithms[kind]), checkpoint_every=1000, eval_every=1000)
            made[kind] = config, tmp_path_factory.mktemp(kind)
            Trainer(*made[kind]).run()
        return made[kind]

    return run


KINDS = [
    "baseline",
    "actor-critic",
    "value-expansion",
    "search-distillation",
    "critic-ranking",
    "candidate-actor-critic",
    "metric-stopping",
    "outcome-judging",
]


def test_every_algorithm_is_resumed_in_these_tests(algorithms):
    assert sorted(algorithms) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_any_algorithm_stopped_anywhere_and_resumed_ends_with_the_same_bits(run_in_stages, tmp_path, kind):
    config, whole = run_in_stages(kind)
    trainer = Trainer(config, tmp_path)
    # In the first stage, at its end, in a stage, at an end, and in the last stage: one run, interrupted five times.
    for stop in (1, 2, 4, 5, 6):
        while trainer.iteration < stop:
            trainer.train_iteration()
        trainer.save()
        trainer = Trainer.resume(tmp_path)
        assert trainer.iteration == stop
    trainer.run()
    check_same_end(whole, tmp_path, num_iterations=8, evaluated=(8,))


@pytest.mark.parametrize("kind", ["metric-stopping", "outcome-judging"])
def test_a_run_resumed_in_a_stage_that_keeps_the_policy_chooses_as_the_stage_before(
    settings, algorithms, tmp_path, kind
):
    stages = (Stage("ranking", algorithms["critic-ranking"], 2), Stage("then", algorithms[kind], 3))
    config = replace(settings, stages=stages, checkpoint_every=1000, eval_every=1000)
    whole, part = tmp_path / "whole", tmp_path / "part"
    Trainer(config, whole).run()
    trainer = Trainer(config, part)
    for _ in range(3):
        trainer.train_iteration()
    trainer.save()
    resumed = Trainer.resume(part)
    assert resumed.agent().selection is not None
    resumed.run()
    check_same_end(whole, part, num_iterations=5, evaluated=(5,))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"stop": "agent", "count_penalty": 0.2, "max_episode_steps": 4},
        {"augmentation": {"brightness": 0.5}, "matching_noise": 0.1, "sampler": "random"},
        {"sequence_length": 2, "prefill": "random", "refine": True, "reward": "greedy"},
    ],
)
def test_a_run_in_an_environment_with_other_rules_is_resumed_to_the_same_bits(settings, algorithms, tmp_path, kwargs):
    config = replace(
        settings,
        env=settings.env.having(**kwargs),
        stages=(Stage("main", algorithms["actor-critic"], 5),),
        learner=replace(settings.learner, accumulate=2),
        eval_every=1000,
    )
    Trainer(config, tmp_path / "whole").run()
    trainer = Trainer(config, tmp_path / "stopped")
    for _ in range(3):
        trainer.train_iteration()
    trainer.save()
    Trainer.resume(tmp_path / "stopped").run()
    check_same_end(tmp_path / "whole", tmp_path / "stopped", num_iterations=5, evaluated=(5,))


@pytest.mark.parametrize("kind", ["actor-critic", "value-expansion"])
def test_episodes_under_way_go_on_where_a_run_was_stopped(run_in_stages, tmp_path, monkeypatch, kind):
    trainer = Trainer(run_in_stages(kind)[0], tmp_path)
    for _ in range(4):
        trainer.train_iteration()
    trainer.save()
    under_way = trainer.core.state.step_count.clone()
    assert under_way.any()
    resumed = Trainer.resume(tmp_path)
    for name in ("context", "accumulated_mask", "label_map", "step_count", "scores", "potential"):
        assert torch.equal(getattr(resumed.core.state, name), getattr(trainer.core.state, name))
    begun, begin = [], Collector._begin

    def begin_and_note(collector, over, generator):
        begun.append(over)
        begin(collector, over, generator)

    monkeypatch.setattr(Collector, "_begin", begin_and_note)
    resumed.train_iteration()
    assert begun
    assert not any(over is None or over.all() for over in begun[:1])


def test_equal_stages_one_after_the_other_are_told_apart_when_a_run_is_resumed(settings, algorithms, tmp_path):
    stage = Stage("main", algorithms["actor-critic"], 2)
    config = replace(settings, stages=(stage, stage), eval_every=1000)
    Trainer(config, tmp_path / "whole").run()
    trainer = Trainer(config, tmp_path / "stopped")
    for _ in range(3):
        trainer.train_iteration()
    trainer.save()
    Trainer.resume(tmp_path / "stopped").run()
    check_same_end(tmp_path / "whole", tmp_path / "stopped", num_iterations=4, evaluated=(4,))


def test_an_environment_given_to_the_trainer_has_to_be_given_again(settings, algorithms, tmp_path):
    config = replace(settings, stages=(Stage("main", algorithms["actor-critic"], 4),), eval_every=1000, batch_size=3)
    other = {"scene_options": {"max_leaves": 2, "length": 3}}
    made = config.env.having(**other)
    nowhere = replace(config, env=config.env.having(weights="nowhere", scenes="nowhere"))

    def given():
        return {"env": made.make(3), "val_env": made.make_evaluation("val")}

    Trainer(nowhere, tmp_path / "whole", **given()).run()
    trainer = Trainer(nowhere, tmp_path / "stopped", **given())
    for _ in range(3):
        trainer.train_iteration()
    trainer.save()
    for names, got in (((), "nothing"), (("env",), r"\['env'\]"), (("val_env",), r"\['val_env'\]")):
        again = {name: env for name, env in given().items() if name in names}
        with pytest.raises(ValueError, match=rf"was given \['env', 'val_env'\], and resume got {got}$"):
            Trainer.resume(tmp_path / "stopped", **again)
    resumed = Trainer.resume(tmp_path / "stopped", **given())
    assert (resumed.iteration, resumed.core.num_envs, resumed.core.scenes.max_instances) == (3, 3, 2)
    resumed.run()
    check_same_end(tmp_path / "whole", tmp_path / "stopped", num_iterations=4, evaluated=(4,))


def test_a_run_that_made_its_own_environment_is_resumed_without_one(settings, algorithms, tmp_path):
    config = replace(settings, stages=(Stage("main", algorithms["baseline"], 1),))
    Trainer(config, tmp_path).run()
    with pytest.raises(ValueError, match=r"was given nothing, and resume got \['env'\]$"):
        Trainer.resume(tmp_path, env=config.env.make(4))
