"""What a run tells while it trains."""

import errno
import logging
import threading
import time

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from acis_env import meter
from agents.training.log import COSINES, CriticWatch, TrainingLog

HISTORY = [{"iteration": 1, "sbd": 0.25, "abs_dic": 1.5}]


def losses_of(value):
    return {"critic/loss": torch.tensor(value), "rollout/score_per_instance": torch.tensor(2 * value)}


def test_losses_scores_curves_and_pictures_are_written_at_their_iteration(tmp_path):
    with TrainingLog(tmp_path, 0, 3) as log:
        for iteration in (1, 2, 3):
            log.write(iteration, "main", losses_of(float(iteration)), HISTORY)
        picture = np.zeros((4, 6, 3), np.uint8)
        log.write_evaluation(3, {"sbd": 0.5}, {"dice_per_step": [0.25, 0.75]}, picture)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("critic/loss")] == [(1, 1), (2, 2), (3, 3)]
    assert [(event.step, event.value) for event in events.Scalars("val/sbd")] == [(3, 0.5)]
    assert [events.Scalars(f"val_dice_per_step/0{t}")[0].value for t in (1, 2)] == [0.25, 0.75]
    (image,) = events.Images("val/scenes")
    assert (image.step, image.width, image.height) == (3, 6, 4)


def test_the_progress_shows_the_stage_its_score_and_the_last_evaluation(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(meter, "INTERVAL", 0)
    with TrainingLog(tmp_path, 4, 8) as log:
        log.write(5, "curriculum", losses_of(0.125), HISTORY)
    (shown,) = capsys.readouterr().err.splitlines()
    for part in ("curriculum: 5 of 8 it", "score 0.250", "val_sbd 0.250", "val_abs_dic 1.500"):
        assert part in shown


def test_what_an_interrupted_run_wrote_after_its_checkpoint_goes(tmp_path):
    with TrainingLog(tmp_path, 0, 4) as log:
        for iteration in (1, 2, 3, 4):
            log.write(iteration, "main", losses_of(1.0), [])
            log.write_evaluation(iteration, {"sbd": 0.1 * iteration}, {}, np.zeros((4, 6, 3), np.uint8))
    with TrainingLog(tmp_path, 2, 4) as log:
        log.write(3, "main", losses_of(5.0), [])
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("critic/loss")] == [(1, 1), (2, 1), (3, 5)]
    assert [event.step for event in events.Scalars("val/sbd")] == [1, 2]
    assert [image.step for image in events.Images("val/scenes")] == [1, 2]


@pytest.fixture
def warnings(caplog):
    """A function that shows `(cosine, score)` of iterations 0, 10, ... to a watch; the iterations of its warnings."""

    def watch(*seen):
        caplog.clear()
        watching = CriticWatch()
        with caplog.at_level(logging.WARNING):
            for number, (cosine, score) in enumerate(seen):
                watching(10 * number, cosine, score)
        return [record.args[0] for record in caplog.records if "exploit the critic" in record.message]

    return watch


def test_an_exploited_critic_is_warned_about_once_each_time(warnings):
    good, bad = [(0.5, 0.8)] * COSINES, [(0.0, 0.5)] * COSINES
    assert warnings(*good, *bad, *bad) == [10 * (2 * COSINES - 1)]
    assert len(warnings(*good, *bad, *good, *bad)) == 2


def test_a_low_cosine_without_a_loss_or_a_loss_without_a_low_cosine_is_no_exploit(warnings):
    good = [(0.5, 0.8)] * COSINES
    assert warnings(*good, *[(0.0, 0.8)] * COSINES) == []  # the end of learning
    assert warnings(*good, *[(0.5, 0.5)] * COSINES) == []
    assert warnings(*[(0.0, 0.1)] * (COSINES - 1)) == []  # too early to tell


def test_a_log_hands_comparisons_of_gradients_to_the_watch(tmp_path, caplog):
    with TrainingLog(tmp_path, 0, 20) as log, caplog.at_level(logging.WARNING):
        for iteration in range(2 * COSINES):
            cosine, score = (0.5, 0.8) if iteration < COSINES else (0.0, 0.5)
            losses = {"critic/gradient_cosine": cosine, "rollout/score_per_instance": score}
            log.write(iteration, "main", {name: torch.tensor(value) for name, value in losses.items()}, [])
    assert ["exploit the critic" in record.message for record in caplog.records] == [True]


def test_a_full_disk_under_the_events_is_an_error_of_one_line_and_no_traceback_of_a_thread(tmp_path, capsys):
    hook = threading.excepthook

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (  # noqa: PT012
        pytest.raises(OSError, match=rf"{tmp_path}: cannot write the TensorBoard events: No space left on device$"),
        TrainingLog(tmp_path, 0, 20) as log,
    ):
        log.writer.file_writer.event_writer._async_writer._writer.write = fail
        for iteration in range(20):
            log.write(iteration, "main", {"actor/objective": torch.zeros(())}, ())
            time.sleep(0.01)
    assert "Traceback" not in capsys.readouterr().err
    assert threading.excepthook is hook
