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
from acis_env.weights import save_weights
from agents.models.agent import load_checkpoint, save_checkpoint
from agents.training.config import Phase
from agents.training.trainer import Trainer, load_config

SCHEDULES = {
    "bl-score": (Phase("init", "bl-score", 3, 1e-2, sequence_length=1), Phase("main", "bl-score", 9, 1e-2)),
    "ac": (Phase("warm-up", "critic", 3), Phase("main", "ac", 9, 1e-2, kl_weight=1e-3)),
}
NUM_ITERATIONS = 12

CHILD = """
import json, sys, time
from pathlib import Path
import torch
from acis_env.configs import config_from_dict
from agents.training.config import TrainConfig
from agents.training.trainer import Trainer

class Slow(Trainer):
    def _train_iteration(self, *arguments):
        time.sleep(0.05)  # or it might be through before the signal comes
        return super()._train_iteration(*arguments)

torch.set_num_threads(1)
Slow(config_from_dict(TrainConfig, json.loads(sys.argv[1]), "argument"), Path(sys.argv[2])).run()
"""


@pytest.fixture(scope="module")
def configs(config, make_tiny, tmp_path_factory):
    """By objective; checkpoints and evaluations come at different times."""
    weights, networks = tmp_path_factory.mktemp("weights"), make_tiny()
    for network in (networks.context_network, networks.autoencoder):
        save_weights(weights, network)
    settings = {"weights": str(weights), "checkpoint_every": 2, "eval_every": 5}
    return {name: replace(config, phases=phases, **settings) for name, phases in SCHEDULES.items()}


@pytest.fixture(scope="module")
def whole_runs(configs, tmp_path_factory):
    """Folders of runs that nothing interrupted, by objective."""
    folders = {name: tmp_path_factory.mktemp(name) for name in configs}
    for name, folder in folders.items():
        Trainer(configs[name], folder).run()
    return folders


def start_child(config, folder):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(asdict(config)), str(folder)],
        cwd=Path(agents.__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )


def differences(one, other, path="checkpoint"):
    """Where two checkpoints differ in a bit, or in anything else."""
    if type(one) is not type(other):
        return [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [path]
        return [found for key in one for found in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [path]
        return [
            found for i, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{path}/{i}")
        ]
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    return [] if one == other else [path]


def check_same_end(one, other):
    """Both runs have left the same, down to the last bit."""
    first, second = (load_checkpoint(folder / "checkpoint.pt") for folder in (one, other))
    assert first["iteration"] == NUM_ITERATIONS
    assert [scores["iteration"] for scores in first["history"]] == [5, 10, 12]
    parts = {"actor", "critic", "actor_optimizer", "critic_optimizer", "termination_optimizer"}
    assert parts <= first["learner"].keys()
    assert differences(first, second) == []
    assert (one / "history.json").read_bytes() == (other / "history.json").read_bytes()
    for name in ("agent.pt", "initial.pt"):
        assert differences(load_checkpoint(one / name), load_checkpoint(other / name), name) == []


def spoil_at(trainer, iteration, update, weight):
    """Let a weight of `trainer` be NaN from an iteration's `update` on."""
    original = getattr(trainer.learner, update)

    def spoil_and_update(*arguments, **options):
        if trainer.iteration == iteration:
            with torch.no_grad():
                weight.view(-1)[0] = torch.nan
        return original(*arguments, **options)

    setattr(trainer.learner, update, spoil_and_update)


def break_at(trainer, iteration, error):
    """Let `trainer` fail in an iteration after it has already learned from it."""
    update = trainer.learner.update_actor

    def update_and_fail(*arguments):
        losses = update(*arguments)
        if trainer.iteration == iteration:
            raise error
        return losses

    trainer.learner.update_actor = update_and_fail


@pytest.mark.parametrize("objective", SCHEDULES)
def test_a_run_killed_at_a_random_moment_and_resumed_ends_with_the_same_bits(configs, whole_runs, tmp_path, objective):
    child = start_child(configs[objective], tmp_path)
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
    assert 2 <= resumed.iteration < NUM_ITERATIONS
    resumed.run()
    check_same_end(whole_runs[objective], tmp_path)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_and_is_resumed_ends_with_the_same_bits(configs, whole_runs, tmp_path, error):
    trainer = Trainer(configs["ac"], tmp_path)
    break_at(trainer, 7, error("enough"))
    with pytest.raises(error, match="enough"):
        trainer.run()
    resumed = Trainer.resume(tmp_path)
    assert resumed.iteration == 6
    before = load_checkpoint(tmp_path / "checkpoint.pt")["learner"]
    assert differences(before, load_checkpoint(whole_runs["ac"] / "checkpoint.pt")["learner"])
    resumed.run()
    check_same_end(whole_runs["ac"], tmp_path)


@pytest.mark.parametrize(
    ("update", "find_weight", "named"),
    [
        ("update_critic", lambda learner: learner.critic.head[-1].bias, "critic/loss nan"),
        ("update_actor", lambda learner: learner.critic.head[-1].bias, "actor/objective nan"),
        ("update_actor", lambda learner: learner.actor.termination[-1].bias, "termination/loss nan"),
        ("update_actor", lambda learner: learner.actor.skip.bias, "scores.* nan"),  # of masks of NaN
    ],
)
def test_what_is_not_finite_is_named_and_stops_the_run_which_can_go_on_from_before(
    configs, whole_runs, tmp_path, update, find_weight, named
):
    trainer = Trainer(configs["ac"], tmp_path)
    spoil_at(trainer, 7, update, find_weight(trainer.learner))
    with pytest.raises(FloatingPointError, match=f"iteration 7, phase 'main': .*{named}.* keeps its last checkpoint"):
        trainer.run()
    resumed = Trainer.resume(tmp_path)
    assert resumed.iteration == 6
    resumed.run()
    check_same_end(whole_runs["ac"], tmp_path)


def test_resuming_a_finished_run_changes_nothing(whole_runs):
    checkpoint = whole_runs["bl-score"] / "checkpoint.pt"
    before = checkpoint.read_bytes()
    Trainer.resume(checkpoint.parent).run()
    assert checkpoint.read_bytes() == before


def test_resuming_what_is_no_run_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.pt: no such file"):
        Trainer.resume(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        load_config(tmp_path)
    save_checkpoint({"format": "acis-agent-1"}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: expected a run of format"):
        Trainer.resume(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a whole checkpoint"):
        Trainer.resume(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": 0')
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": 0, "speed": 1}')
    with pytest.raises(ValueError, match=r"config\.json: speed: unknown key, the nearest of TrainConfig are 'seed'"):
        load_config(tmp_path)
