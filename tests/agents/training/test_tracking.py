"""Runs in experiment trackers, offline: what these hold in the end, however often a run was interrupted."""

import importlib.machinery
import importlib.util
import json
import logging
import struct
import time
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from acis_env.checksums import read_json
from acis_env.files import write_json
from agents.models.checkpoints import load_checkpoint
from agents.training.tracking import RECORD, check_tracker, tracked
from agents.training.trainer import Trainer

BLOCK = 32768


@pytest.fixture(scope="module")
def mlflow_client(tmp_path_factory):
    """A client of a store in a database file."""
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'store.db'}")
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "leaves")
        patch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
        yield mlflow.MlflowClient()


@pytest.fixture
def offline_wandb(monkeypatch):
    """Where wandb is installed, it writes files and asks nobody."""
    pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def run_and_fail(config, folder, tracker, iteration):
    """A run that fails in the middle, after the tracker was told so much."""
    trainer = Trainer(config, folder)

    def fail(done, metrics):
        if done == iteration:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"), tracked(trainer, tracker):  # noqa: PT012
        trainer.callbacks.append(fail)
        trainer.run()


def resume_and_finish(folder):
    trainer = Trainer.resume(folder)
    with tracked(trainer):
        trainer.run()
    assert trainer.callbacks == []
    return trainer


def tensorboard_scalars(folder):
    """Values by tag and number of iterations done."""
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["scalars"]
    return {(tag, e.step): e.value for tag in tags for e in events.Scalars(tag)}


def wandb_records(path):
    """What is in a file of an offline run: records in blocks, cut into pieces where these end."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record = path.read_bytes(), 7, b""  # behind the file's own head
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole one, or the last piece of one
            yield Record.FromString(record)
            record = b""


def finished_records(path):
    """All records, once the last is there: another process writes them, and may come later than the end of the run."""
    for _ in range(300):
        records = list(wandb_records(path))
        if any(record.HasField("exit") for record in records):
            return records
        time.sleep(0.1)
    raise TimeoutError(f"{path} has no end")


def wandb_run(path):
    """Id, configuration, history by iteration, and summary of an offline run."""
    records = finished_records(path)
    (begun,) = (record.run for record in records if record.HasField("run"))
    config = {update.key: json.loads(update.value_json) for update in begun.config.update}
    history, summary = {}, {}
    for record in records:
        if record.HasField("history"):
            values = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            history[values["_step"]] = {tag: value for tag, value in values.items() if not tag.startswith("_")}
        if record.HasField("summary"):
            summary |= {update.key: json.loads(update.value_json) for update in record.summary.update if update.key}
    return begun.run_id, config, history, summary


def test_mlflow_holds_configuration_metrics_and_agent_of_a_run_that_was_interrupted_once(
    configs, mlflow_client, tmp_path
):
    folder = tmp_path / "a run"
    run_and_fail(configs["actor-critic"], folder, "mlflow", 7)
    run_id = read_json(folder / RECORD)["run"]
    failed = mlflow_client.get_run(run_id)
    assert failed.info.status == "FAILED"
    assert failed.data.metrics["iteration"] == 7
    assert load_checkpoint(folder / "checkpoint.pt")["iteration"] == 6  # so iteration 7 comes twice

    resume_and_finish(folder)
    assert read_json(folder / RECORD)["run"] == run_id
    (run,) = mlflow_client.search_runs([failed.info.experiment_id], f"run_id = '{run_id}'")
    assert mlflow_client.get_experiment(run.info.experiment_id).name == "leaves"
    assert (run.info.status, run.info.run_name) == ("FINISHED", "a run")
    assert run.data.tags["agent"] == str(folder / "agent.pt")
    parameters = run.data.params
    assert parameters["env.kwargs.scene_options.max_leaves"] == "3"
    assert parameters["stages.1.iterations"] == "9"
    assert parameters["stages.1.algorithm.critic.hidden"] == "(8, 8)"
    assert parameters["stages.0.algorithm.kind"] == "baseline"
    points = {tag: mlflow_client.get_metric_history(run_id, tag) for tag in run.data.metrics}
    assert sorted(point.step for point in points.pop("iteration")) == list(range(1, 13))
    told = {(tag, point.step): point.value for tag in points for point in points[tag]}
    assert len(told) == sum(map(len, points.values()))  # each once
    assert told == pytest.approx(tensorboard_scalars(folder), nan_ok=True)


def test_wandb_holds_configuration_metrics_and_agent_of_a_run_that_was_interrupted_once(
    configs, offline_wandb, tmp_path
):
    folder = tmp_path / "a run"
    run_and_fail(configs["actor-critic"], folder, "wandb", 7)
    resume_and_finish(folder)
    first, second = map(wandb_run, sorted(folder.glob("wandb/offline-run-*/*.wandb")))
    assert first[0] == second[0] == read_json(folder / RECORD)["run"]
    assert first[1]["stages"][1]["algorithm"]["critic"]["hidden"] == [8, 8]
    assert first[1]["env"]["kwargs"]["scene_options"] == {"max_leaves": 3, "length": 6}
    assert (list(first[2]), list(second[2])) == ([*range(1, 8)], [*range(7, 13)])  # it resumed from iteration 6
    assert second[3]["agent"] == str(folder / "agent.pt")
    told = {(tag, step): value for step, values in {**first[2], **second[2]}.items() for tag, value in values.items()}
    told = {key: float(value) for key, value in told.items()}  # "NaN" is a word in JSON
    assert told == pytest.approx(tensorboard_scalars(folder), nan_ok=True)


def test_a_tracker_that_fails_later_on_is_warned_about_once_and_training_goes_on(
    configs, mlflow_client, tmp_path, monkeypatch, caplog
):
    from agents.training import mlflow_run

    def refuse(run, iteration, metrics):
        raise mlflow_run.Error("the server\nis gone")

    monkeypatch.setattr(mlflow_run.Run, "write", refuse)
    trainer = Trainer(replace(configs["baseline"], eval_every=1000), tmp_path)
    with caplog.at_level(logging.WARNING), tracked(trainer, "mlflow"):
        trainer.run()
    assert trainer.iteration == 12
    messages = [record.getMessage() for record in caplog.records if record.name.endswith("tracking")]
    assert messages == ["mlflow no longer follows the run, which goes on: the server is gone"]


def test_a_run_that_the_tracker_has_forgotten_is_an_error_that_names_it(configs, whole_runs, mlflow_client, tmp_path):
    trainer = Trainer.resume(whole_runs["baseline"])
    trainer.folder = tmp_path
    write_json(tmp_path / RECORD, {"tracker": "mlflow", "run": "abc"})
    message = rf"^mlflow could not follow the run abc of {tmp_path / RECORD}: .*not found"
    with pytest.raises(OSError, match=message), tracked(trainer):
        pass


def test_a_run_that_begins_anew_does_not_go_on_in_the_tracked_run_of_the_one_before(configs, mlflow_client, tmp_path):
    write_json(tmp_path / RECORD, {"tracker": "mlflow", "run": "abc"})
    trainer = Trainer(configs["baseline"], tmp_path)
    with tracked(trainer):
        assert trainer.callbacks == []  # not tracked at all without being asked
    with tracked(trainer, "mlflow"):
        assert len(trainer.callbacks) == 1
    assert read_json(tmp_path / RECORD)["run"] != "abc"


def test_only_the_main_process_is_tracked(configs, tmp_path):
    trainer = Trainer(configs["baseline"], tmp_path)
    trainer.group = replace(trainer.group, rank=1)
    with tracked(trainer, "json"):  # a library that is there, and is no tracker
        assert trainer.callbacks == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_library_that_is_missing_is_named_with_its_extra_and_for_a_resumed_run_with_the_way_to_do_without(
    name, tmp_path, monkeypatch
):
    found = importlib.util.find_spec
    namespace = importlib.machinery.ModuleSpec(name, None, is_package=True)
    for spec in (None, namespace):
        monkeypatch.setattr(importlib.util, "find_spec", lambda module, s=spec: s if module == name else found(module))
        with pytest.raises(ValueError, match=rf"^--track: {name} is not installed: pip install 'acis-env\[{name}\]'$"):
            check_tracker(None, name)
    write_json(tmp_path / RECORD, {"tracker": name, "run": "abc"})
    with pytest.raises(ValueError, match=rf"^{tmp_path / RECORD}: {name} is not .*, or delete .*{RECORD} to go on"):
        check_tracker(tmp_path)


def test_a_record_with_another_tracker_is_an_error_of_its_file(tmp_path):
    write_json(tmp_path / RECORD, {"tracker": "paper", "run": "abc"})
    with pytest.raises(ValueError, match=rf"{RECORD}: tracker must be one of wandb, mlflow, got 'paper'"):
        check_tracker(tmp_path)


def test_a_run_without_a_tracker_has_none(tmp_path):
    assert check_tracker(tmp_path) is None
    assert check_tracker(None) is None
