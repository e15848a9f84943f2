"""Micro-batches and processes: however the scenes of a batch are shared out, the weights come out the same."""

import json
import os
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
from agents.algorithms.distributed import SINGLE, Group, join_group
from agents.algorithms.replay import ReplayBuffer
from agents.algorithms.rollout import Batch
from agents.models.agent import load_checkpoint, save_checkpoint
from agents.training.config import Phase
from agents.training.trainer import Trainer

BASELINES = (Phase("score", "bl-score", 1, 1e-3), Phase("bce", "bl-bce", 1, 1e-3, sequence_length=2))
ACTOR_CRITIC = (Phase("warm-up", "critic", 1), Phase("main", "ac-score", 2, 1e-3, kl_weight=1e-3))
LONGER = (ACTOR_CRITIC[0], replace(ACTOR_CRITIC[1], iterations=3))


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
    """Weights and last gradients of a run in this process."""
    return outcome(Trainer(config, folder))


def outcome(trainer):
    trainer.run()
    learner = trainer.learner
    gradients = [parameter.grad for parameter in learner.actor.policy_parameters()]
    return {"actor": learner.actor.state_dict(), "critic": learner.critic.state_dict(), "gradients": gradients}


def extend(folder):
    """Turn a finished run of ACTOR_CRITIC into an interrupted one of LONGER."""
    state = load_checkpoint(folder / "checkpoint.pt")
    state["config"]["phases"] = json.loads(json.dumps([asdict(phase) for phase in LONGER]))
    save_checkpoint(state, folder / "checkpoint.pt")


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def _smooth_adam(monkeypatch):
    """As in the workers: by default Adam makes whole steps of gradients that are nothing but rounding."""
    monkeypatch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, eps=1e-3))


@pytest.fixture(scope="module")
def base(config, make_tiny, tmp_path_factory):
    """Settings of all runs: five scenes, so that shares are unequal."""
    weights, tiny = tmp_path_factory.mktemp("weights"), make_tiny()
    save_weights(weights, tiny.context_network)
    save_weights(weights, tiny.autoencoder)
    return replace(config, weights=str(weights), batch_size=5, monitor_every=1, clip_norm_bce=1.0)


@pytest.fixture(scope="module")
def two(base, tmp_path_factory):
    """What two processes did, one of which was killed in the last run; and the runs of one for comparison."""
    folder = tmp_path_factory.mktemp("two")
    runs = {"baselines": replace(base, phases=BASELINES), "actor-critic": replace(base, phases=ACTOR_CRITIC)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, eps=1e-3))
        alone = {name: train(config, folder / "alone" / name) for name, config in runs.items()}
        extend(folder / "alone" / "actor-critic")
        jobs = {name: asdict(config) for name, config in runs.items()}
        jobs["parts"] = asdict(replace(runs["actor-critic"], accumulate=2))
        jobs["resumed"] = {"resume": str(folder / "alone" / "actor-critic")}
        endless = Phase("endless", "bl-score", 10**6)
        jobs["endless"] = asdict(replace(base, phases=(endless,), checkpoint_every=1))
        workers = launch(jobs, folder)
        alone["parts"] = alone["actor-critic"]
        alone["resumed"] = train(replace(base, phases=LONGER), folder / "alone" / "longer")
    deadline = time.monotonic() + 120
    while not (folder / "endless" / "checkpoint.pt").exists():
        ended = [worker.communicate()[0] for worker in workers if worker.poll() is not None]
        assert not ended, ended
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers[1].kill()
    printed = [worker.communicate(timeout=60)[0] for worker in workers]
    return SimpleNamespace(folder=folder, alone=alone, workers=workers, printed=printed)


@pytest.mark.parametrize("name", ["baselines", "actor-critic", "parts", "resumed"])
def test_two_processes_end_with_the_gradients_and_weights_of_one(two, name):
    for rank in range(2):
        assert_same(torch.load(two.folder / f"{name}-{rank}.pt"), two.alone[name])


def test_one_process_goes_on_where_two_stopped(two):
    extend(two.folder / "actor-critic")
    assert_same(outcome(Trainer.resume(two.folder / "actor-critic")), two.alone["resumed"])


def test_losses_in_the_log_are_those_of_the_whole_batch(two):
    for name in ("baselines", "actor-critic"):
        shared, alone = (read_scalars(folder / name) for folder in (two.folder, two.folder / "alone"))
        assert shared.keys() == alone.keys() >= {"rollout/return", "termination/loss"}
        for tag in alone:
            assert shared[tag][:2] == pytest.approx(alone[tag][:2], rel=1e-3, abs=1e-4), tag


def read_scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_main_process_alone_shows_progress(two):
    assert "training" in two.printed[0]
    assert two.printed[1] == ""


def test_when_one_process_is_killed_the_others_end(two):
    assert two.workers[0].returncode != 0
    assert "Connection" in two.printed[0]


@pytest.mark.parametrize("phases", [BASELINES, ACTOR_CRITIC])
def test_micro_batches_change_nothing_but_memory(base, tmp_path, phases):
    whole, two, three = (
        train(replace(base, phases=phases, accumulate=parts), tmp_path / str(parts)) for parts in (1, 2, 3)
    )
    assert_same(two, whole)
    assert_same(three, whole)


def test_steps_are_numbered_as_episodes_list_them():
    batch = Batch(lengths=torch.tensor([3, 2, 2, 1]), parts=[])
    assert batch.num_steps == 8
    assert batch.number_steps(torch.arange(4)).tolist() == list(range(8))
    assert batch.number_steps(torch.tensor([0, 2])).tolist() == [0, 2, 4, 6, 7]
    assert batch.number_steps(torch.tensor([1, 3])).tolist() == [1, 3, 5]


def shared_out(learner, state, deal, parts):
    """What each of `parts` processes collects in the same scenes."""
    batch = deal(state, parts)
    return [learner.collect(replace(batch, parts=[part]), torch.Generator().manual_seed(1)) for part in batch.parts]


def test_processes_draw_the_same_steps_and_each_gets_those_it_keeps(make_learner, begin, deal, tiny):
    learner = make_learner()
    whole = ReplayBuffer(2)
    shares = [ReplayBuffer(2, Group(rank, 3)) for rank in range(3)]
    for indices in ([1, 9, 4, 7], [2, 3, 5, 8, 6]):
        whole.add(shared_out(learner, begin(tiny, indices), deal, 1)[0])
        for share, kept in zip(shares, shared_out(learner, begin(tiny, indices), deal, 3), strict=True):
            share.add(kept)
    for size in (1, 6, 100):
        expected = whole.sample(size, torch.Generator().manual_seed(size))
        samples = [share.sample(size, torch.Generator().manual_seed(size)) for share in shares]
        assert {sample.total for sample in samples} == {len(expected)}
        assert sorted(torch.cat([sample.number for sample in samples]).tolist()) == list(range(len(expected)))
        for sample in samples:
            torch.testing.assert_close(sample.returns, expected.returns[sample.number])
            difference = sample.context[sample.scene].int() - expected.context[expected.scene[sample.number]].int()
            assert difference.abs().sum() == 0


def test_a_process_without_a_step_of_the_sample_adds_nothing(make_learner, begin, deal, tiny):
    learner = make_learner()
    batch = shared_out(learner, begin(tiny, [1, 9]), deal, 1)[0]
    losses = learner.update_critic(batch.select(torch.arange(0)))
    assert losses["critic/loss"] == losses["critic/gradient_norm"] == 0


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_group() as group:
        assert group is SINGLE
        assert group.is_main


@pytest.mark.parametrize("accumulate", [0, 6])
def test_micro_batches_without_a_scene_are_refused(base, accumulate):
    with pytest.raises(ValueError, match=rf"accumulate must be .*, got {accumulate} with batch_size 5"):
        replace(base, accumulate=accumulate)


def test_processes_without_a_scene_are_refused(base, tmp_path):
    config = replace(base, phases=BASELINES, accumulate=3)
    with pytest.raises(ValueError, match=r"batch_size must be at least processes \* accumulate = 2 \* 3 = 6, got 5"):
        Trainer(config, tmp_path, group=Group(1, 2))


def test_more_processes_than_gpus_are_refused(base, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    config = replace(base, phases=BASELINES, device="cuda")
    with pytest.raises(ValueError, match=r'device must be "cuda" with as many GPUs as processes.*4 processes'):
        Trainer(config, tmp_path, group=Group(0, 4))
