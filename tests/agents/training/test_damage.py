"""A run whose end is a signal, whose files are damaged, or whose folder is another one's."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from acis_env.folders import claimed
from acis_env.interruption import Interrupted
from agents.algorithms import ActorCritic
from agents.models.checkpoints import load_checkpoint, save_checkpoint
from agents.training.trainer import Trainer
from tests.reliability.compare import check_same_end, differences


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_the_iteration_with_a_checkpoint_and_nothing_is_lost(
    configs, whole_runs, tmp_path, monkeypatch, signal_number
):
    update, handlers = ActorCritic.update_actor, [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    trainer = Trainer(configs["actor-critic"], tmp_path)
    with monkeypatch.context() as patch:

        def update_and_signal(*arguments):
            if trainer.iteration == 8:
                os.kill(os.getpid(), signal_number)
            return update(*arguments)

        patch.setattr(ActorCritic, "update_actor", update_and_signal)
        with pytest.raises(Interrupted, match=rf"after iteration 9 of 12: {tmp_path} holds a checkpoint") as error:
            trainer.run()
    assert error.value.number == signal_number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = Trainer.resume(tmp_path)
    assert resumed.iteration == 9
    resumed.run()
    check_same_end(whole_runs["actor-critic"], tmp_path)


def test_a_second_signal_ends_a_run_at_once(configs, tmp_path, monkeypatch):
    trainer = Trainer(configs["actor-critic"], tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it

    def interrupt_twice(*arguments):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # or two may become one, or come after what follows
        raise AssertionError("went on")

    monkeypatch.setattr(ActorCritic, "update_actor", interrupt_twice)
    try:
        with pytest.raises(KeyboardInterrupt) as error:
            trainer.run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(error.value, Interrupted)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before_and_says_so(
    configs, whole_runs, tmp_path, caplog, damage
):
    trainer = Trainer(configs["actor-critic"], tmp_path)
    for _ in range(7):
        trainer.train_iteration()
        trainer.save()
    path = tmp_path / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content if damage == "flipped" else content[:1000])
    if damage == "gone":  # killed between the two renames
        path.unlink()
    resumed = Trainer.resume(tmp_path)
    assert resumed.iteration == 6
    assert f"{path}: " in caplog.text
    assert f"going on from {tmp_path / 'checkpoint.previous.pt'}" in caplog.text
    resumed.config = replace(resumed.config, checkpoint_every=1)
    resumed.run()
    ends = [load_checkpoint(folder / "checkpoint.pt")["learner"] for folder in (whole_runs["actor-critic"], tmp_path)]
    assert differences(*ends) == []


def test_a_run_whose_checkpoints_are_both_damaged_names_both(configs, tmp_path):
    trainer = Trainer(configs["baseline"], tmp_path)
    for _ in range(2):
        trainer.train_iteration()
        trainer.save()
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (tmp_path / name).write_bytes(b"half")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a whole .*checkpoint\.previous\.pt: not a whole"):
        Trainer.resume(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda state: state["learner"]["actor"]["skip.bias"].fill_(torch.nan), "skip.bias of the actor holds NaN"),
        (lambda state: state["learner"].pop("actor_optimizer"), "does not fit its configuration .KeyError"),
        (lambda state: state.pop("environment"), "this one lacks environment"),
        (lambda state: state["learner"]["actor"].pop("skip.bias"), "does not fit its configuration .RuntimeError"),
    ],
)
def test_a_checkpoint_that_is_whole_and_does_not_fit_is_an_error_of_one_line(configs, tmp_path, spoil, named):
    trainer = Trainer(configs["baseline"], tmp_path)
    trainer.train_iteration()
    trainer.save()
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    spoil(state)
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=rf"checkpoint\.pt: .*{named}") as error:
        Trainer.resume(tmp_path)
    assert "\n" not in str(error.value)


def test_what_a_killed_writer_left_is_cleared_away_by_the_next_run(configs, whole_runs, tmp_path):
    (tmp_path / ".checkpoint.pt.1.tmp").write_bytes(b"half")
    Trainer(configs["baseline"], tmp_path).run()
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()
    check_same_end(whole_runs["baseline"], tmp_path)


def test_a_folder_in_which_another_trainer_is_at_work_is_refused(configs, tmp_path):
    trainer = Trainer(configs["baseline"], tmp_path)
    with ThreadPoolExecutor(1) as pool, claimed(tmp_path):
        refused = pool.submit(trainer.run).exception()
    assert isinstance(refused, ValueError)
    assert str(refused).startswith(f"{tmp_path}: another process is writing there")
    assert not tmp_path.exists()  # nothing was written into it
