"""Functions that follow a run and may stop it."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.models.agent import Agent
from agents.models.checkpoints import load_checkpoint
from agents.training.trainer import Trainer
from tests.reliability.compare import check_same_end, differences


def follower(seen, last=None):
    """A callback that appends what it is told to `seen`, and stops the run after the iteration `last`."""

    def follow(iteration, metrics):
        seen.append((iteration, metrics))
        return iteration == last

    return follow


def test_a_callback_is_told_every_iteration_what_tensorboard_shows_of_it(configs, tmp_path):
    seen = []
    Trainer(configs["actor-critic"], tmp_path, callbacks=[follower(seen)]).run()
    assert [iteration for iteration, _ in seen] == list(range(1, 13))
    assert [iteration for iteration, metrics in seen if "val/sbd" in metrics] == [5, 10, 12]
    events = EventAccumulator(str(tmp_path)).Reload()
    shown = {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
    told = {(tag, iteration): value for iteration, metrics in seen for tag, value in metrics.items()}
    assert told == pytest.approx(shown, nan_ok=True)
    assert {"critic/loss", "val/sbd", "val_dice_per_step/01"} <= {tag for tag, _ in told}


@pytest.mark.parametrize("kind", ["baseline", "actor-critic"])
def test_a_run_that_a_callback_stops_leaves_agent_and_checkpoint_and_resumes_to_the_same_bits(
    configs, whole_runs, tmp_path, kind
):
    seen = []
    agent = Trainer(configs[kind], tmp_path, callbacks=[follower(seen, last=7)]).run()
    assert len(seen) == 7
    assert load_checkpoint(tmp_path / "checkpoint.pt")["iteration"] == 7  # 6 and 8 are those of `checkpoint_every`
    assert differences(dict(agent.actor.state_dict()), dict(Agent.load(tmp_path).actor.state_dict())) == []
    Trainer.resume(tmp_path, callbacks=[follower(seen)]).run()
    assert [iteration for iteration, _ in seen] == list(range(1, 13))
    check_same_end(whole_runs[kind], tmp_path)


def test_all_callbacks_are_told_of_the_last_iteration_and_none_sees_what_another_does_to_its_metrics(configs, tmp_path):
    before, after = [], []

    def stop(iteration, metrics):
        metrics.clear()
        return iteration == 2

    Trainer(configs["baseline"], tmp_path, callbacks=[follower(before), stop, follower(after)]).run()
    assert before == after
    assert [iteration for iteration, _ in after] == [1, 2]
    assert all(metrics for _, metrics in after)


def test_a_callback_that_wants_to_stop_after_the_last_iteration_changes_nothing(configs, whole_runs, tmp_path):
    Trainer(configs["baseline"], tmp_path, callbacks=[follower([], last=12)]).run()
    check_same_end(whole_runs["baseline"], tmp_path)


def test_an_error_of_a_callback_ends_the_run_and_keeps_its_last_checkpoint(configs, tmp_path):
    def fail(iteration, metrics):
        if iteration == 5:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Trainer(configs["baseline"], tmp_path, callbacks=[fail]).run()
    assert load_checkpoint(tmp_path / "checkpoint.pt")["iteration"] == 4


def test_an_answer_that_is_neither_yes_nor_no_is_an_error(configs, tmp_path):
    with pytest.raises(ValueError, match=r"must return True to stop the run, or False or None, got 0\.5 of <function"):
        Trainer(configs["baseline"], tmp_path, callbacks=[lambda iteration, metrics: 0.5]).run()


@pytest.mark.parametrize("given", [follower([]), ["val/sbd"], 3])
def test_what_is_no_list_of_functions_is_refused_before_anything_is_made(configs, tmp_path, given):
    with pytest.raises(ValueError, match="callbacks must be a list of functions of an iteration and its metrics, got"):
        Trainer(configs["baseline"], tmp_path / "run", callbacks=given)
    assert not (tmp_path / "run").exists()
