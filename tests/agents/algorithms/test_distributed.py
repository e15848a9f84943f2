"""Processes that train together: each has scenes of its own, and all take the step of their union."""

import json
import os
import runpy
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import agents
from acis_env.weights import save_weights
from agents.algorithms import ActorCriticConfig, BaselineConfig, CriticRankingConfig, OutcomeJudgingConfig
from agents.algorithms.base import Learner, LearnerConfig
from agents.algorithms.distributed import SINGLE_PROCESS, ProcessGroup, join_group, on_host
from agents.models.checkpoints import load_checkpoint, save_checkpoint
from agents.models.critic import CriticConfig
from agents.models.ranking_critic import RankingCriticConfig
from agents.training.config import Stage
from agents.training.presets import COMPACT_ACTOR
from agents.training.trainer import Trainer

watch_gradients = runpy.run_path(Path(__file__).with_name("worker.py"))["watch_gradients"]

SCORE, CROSS_ENTROPY = BaselineConfig(decay=()), BaselineConfig(decay=(), objective="cross-entropy")
CRITIC = CriticConfig(hidden=(8, 8))
ACTOR_CRITIC = ActorCriticConfig(critic=CRITIC, critic_batch_size=8, critic_warmup=1, replay_size=2, decay=())
RANKING = CriticRankingConfig(critic=RankingCriticConfig(hidden=(8, 8)), critic_batch_size=8, replay_size=2, decay=())
OUTCOMES = OutcomeJudgingConfig(
    hidden=(8, 8), widths=(4, 6), scene_batches=2, updates=2, update_scenes=4, update_labels=8, decay=()
)
STAGES = {
    "baselines": (Stage("score", SCORE, 2), Stage("cross-entropy", CROSS_ENTROPY, 1, sequence_length=2)),
    "actor-critic": (Stage("main", ACTOR_CRITIC, 3),),
    "ranking": (Stage("main", RANKING, 2),),
    "outcomes": (Stage("main", OUTCOMES, 2),),
}
LONGER = (*STAGES["baselines"][:1], Stage("cross-entropy", CROSS_ENTROPY, 3, sequence_length=2))


def launch(jobs, folder, processes=2):
    """Start `worker.py` as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    (folder / "jobs.json").write_text(json.dumps(jobs))
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(folder / "jobs.json"), str(folder)]
    return [
        subprocess.Popen(
            command,
            cwd=Path(agents.__file__).parents[1],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]


def train(config, folder):
    """Weights of a run in this process, and the gradients of all its steps."""
    trainer = Trainer(config, folder)
    gradients = watch_gradients(trainer.learner)
    trainer.run()
    return {"actor": trainer.learner.actor.state_dict(), "gradients": gradients}


def extend(folder, stages):
    """Turn a finished run into an interrupted one of longer `stages`."""
    state = load_checkpoint(folder / "checkpoint.pt")
    state["config"]["stages"] = json.loads(json.dumps([asdict(stage) for stage in stages]))
    save_checkpoint(state, folder / "checkpoint.pt")


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def _smooth_adam(monkeypatch):
    """As in the workers: by default Adam makes whole steps of gradients that are nothing but rounding."""
    monkeypatch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, eps=1e-3))


@pytest.fixture(scope="module")
def base(config, make_tiny, tmp_path_factory):
    """Settings of all runs: four scenes of unequal length."""
    weights, tiny = tmp_path_factory.mktemp("weights"), make_tiny()
    save_weights(weights, tiny.context_network)
    save_weights(weights, tiny.autoencoder)
    return replace(config, env=config.env.having(weights=str(weights)), monitor_every=1)


@pytest.fixture(scope="module")
def two(base, tmp_path_factory):
    """What two processes did, one of which was killed in the last run; and the runs of one for comparison."""
    folder = tmp_path_factory.mktemp("two")
    runs = {name: replace(base, stages=stages) for name, stages in STAGES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, eps=1e-3))
        alone = {name: train(config, folder / "alone" / name) for name, config in runs.items()}
        alone["longer"] = train(replace(base, stages=LONGER), folder / "alone" / "longer")
    extend(folder / "alone" / "baselines", LONGER)
    extend(folder / "alone" / "actor-critic", (Stage("main", ACTOR_CRITIC, 5),))
    jobs = {name: asdict(config) for name, config in runs.items()}
    jobs["parts"] = asdict(replace(runs["baselines"], learner=replace(base.learner, accumulate=2)))
    jobs["resumed"] = {"resume": str(folder / "alone" / "baselines")}
    jobs["resumed-critic"] = {"resume": str(folder / "alone" / "actor-critic")}
    jobs["stopped"] = asdict(replace(base, stages=(Stage("endless", SCORE, 10**6),)))
    jobs["endless"] = asdict(replace(base, stages=(Stage("endless", SCORE, 10**6),), checkpoint_every=1))
    workers = launch(jobs, folder)
    deadline = time.monotonic() + 120
    while not (folder / "endless" / "checkpoint.pt").exists():
        ended = [worker.communicate()[0] for worker in workers if worker.poll() is not None]
        assert not ended, ended
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers[1].kill()
    printed = [worker.communicate(timeout=60)[0] for worker in workers]
    return SimpleNamespace(folder=folder, alone=alone, workers=workers, printed=printed)


def load(two, name):
    """What each of the two processes had in the end."""
    return [torch.load(two.folder / f"{name}-{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(
    ("name", "expected"), [("baselines", "baselines"), ("parts", "baselines"), ("resumed", "longer")]
)
def test_two_processes_take_the_steps_of_one_that_has_the_scenes_of_both(two, name, expected):
    first, second = load(two, name)
    for process in (first, second):
        assert_same(process["actor"], two.alone[expected]["actor"])
        alone = two.alone[expected]["gradients"][-len(process["gradients"]) :]
        assert len(alone) == len(process["gradients"]) > 0
        assert all(gradient.norm() > 1e-3 for gradient in alone)
        assert_same(process["gradients"], alone)
    assert not torch.equal(first["scenes"], second["scenes"])  # each has its own


@pytest.mark.parametrize("name", ["actor-critic", "ranking", "outcomes", "resumed-critic"])
def test_processes_keep_experience_of_their_own_and_have_one_actor_and_one_critic(two, name):
    first, second = load(two, name)
    for part in ("actor", "critic"):
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), key
    assert first["returns"].tolist() != second["returns"].tolist()


def test_one_process_goes_on_where_two_stopped(two):
    extend(two.folder / "baselines", LONGER)
    trainer = Trainer.resume(two.folder / "baselines")
    trainer.run()
    assert_same(trainer.learner.actor.state_dict(), two.alone["longer"]["actor"])
    extend(two.folder / "actor-critic", (Stage("main", ACTOR_CRITIC, 5),))
    trainer = Trainer.resume(two.folder / "actor-critic")
    kept = trainer.algorithm.replay.sample(10**6, torch.Generator()).returns
    assert len(kept) == sum(len(part["returns"]) for part in load(two, "actor-critic"))
    trainer.run()


def test_a_callback_of_the_main_process_stops_all_of_them_after_the_same_iteration(two):
    first, second = load(two, "stopped")
    assert load_checkpoint(two.folder / "stopped" / "checkpoint.pt")["iteration"] == 2
    assert (two.folder / "stopped" / "agent.pt").exists()
    assert first["actor"].keys() == second["actor"].keys()
    assert all(torch.equal(value, second["actor"][key]) for key, value in first["actor"].items())
    assert [len(process["gradients"]) for process in (first, second)] == [2, 2]


def test_losses_in_the_log_are_those_of_all_processes(two):
    shared, alone = (read_scalars(folder / "baselines") for folder in (two.folder, two.folder / "alone"))
    assert shared.keys() == alone.keys() >= {"rollout/return", "termination/loss"}
    for tag in alone:
        assert shared[tag] == pytest.approx(alone[tag], rel=1e-3, abs=1e-4), tag


def read_scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_main_process_alone_shows_progress(two):
    assert "cross-entropy" in two.printed[0]
    assert two.printed[1] == ""


def test_when_one_process_is_killed_the_others_end(two):
    assert two.workers[0].returncode != 0
    assert "Connection" in two.printed[0]


@pytest.mark.parametrize("parts", [2, 3])
def test_micro_batches_change_nothing_but_memory(base, tmp_path, parts):
    config = replace(base, stages=STAGES["baselines"])
    whole = train(config, tmp_path / "whole")
    in_parts = replace(config, learner=replace(base.learner, accumulate=parts))
    assert_same(train(in_parts, tmp_path / "parts"), whole)


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_group("cpu") as group:
        assert group is SINGLE_PROCESS
        assert group.is_main


@pytest.mark.parametrize(
    ("accumulate", "message"), [(0, "must be at least 1, got 0"), (6, "must be at most batch_size")]
)
def test_micro_batches_without_a_scene_are_refused(base, accumulate, message):
    with pytest.raises(ValueError, match=message):
        replace(base, learner=replace(base.learner, accumulate=accumulate))


def test_scenes_that_cannot_be_shared_out_evenly_are_refused(base, tmp_path):
    config = replace(base, stages=STAGES["baselines"])
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 processes, got 4"):
        Trainer(config, tmp_path, group=ProcessGroup(1, 3))


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        (ActorCriticConfig(), "critic_batch_size"),
        (CriticRankingConfig(), "critic_batch_size"),
        (OutcomeJudgingConfig(), "update_scenes"),
    ],
)
def test_updates_that_cannot_be_shared_out_evenly_are_refused_before_training_begins(make_env, algorithm, name):
    learner = Learner(make_env(), LearnerConfig(COMPACT_ACTOR), ProcessGroup(0, 7))
    with pytest.raises(ValueError, match=f"{name} must be a multiple of the 7 processes, got"):
        algorithm.make(learner)


def test_what_processes_send_keeps_its_form():
    sent = {"replay": [(torch.ones(2), 1.5)], "none": None, "name": "a"}
    found = on_host(sent)
    assert torch.equal(found["replay"][0][0], torch.ones(2))
    assert (found["replay"][0][1], found["none"], found["name"]) == (1.5, None, "a")
    assert type(found["replay"][0]) is tuple


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_more_processes_than_gpus_are_refused(monkeypatch, device):
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    message = 'device must be "cuda" with as many GPUs as processes.*4 processes'
    with pytest.raises(ValueError, match=message), join_group(device):
        pass


@pytest.mark.parametrize("value", ["", "two", "0", "-1", "1.5"])
def test_a_number_of_processes_that_is_none_names_its_variable(monkeypatch, value):
    monkeypatch.setenv("WORLD_SIZE", value)
    with pytest.raises(ValueError, match=f"WORLD_SIZE must be a number of processes, got '{value}'"), join_group("cpu"):
        pass


def test_variables_of_torchrun_that_are_missing_are_named(monkeypatch):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_PORT", "")
    for device, missing in (("cpu", "MASTER_ADDR, MASTER_PORT"), ("cuda", "LOCAL_WORLD_SIZE, LOCAL_RANK")):
        with pytest.raises(ValueError, match=f"WORLD_SIZE is 2, but {missing} not set"), join_group(device):
            pass
