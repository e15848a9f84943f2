"""The whole command: what it runs again, what it refuses, and what it names."""

from dataclasses import replace

import pytest

from agents.experiments import plan, reproduce, running
from agents.experiments.running import FailedRunsError, run_jobs
from agents.experiments.timing import TimedTrainer


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_command_trains_nothing_and_writes_the_report_again(finished, world, monkeypatch):
    monkeypatch.setattr(TimedTrainer, "run", lambda self: pytest.fail("trained again"))
    before = contents(finished / "plants" / "AC-Dice")
    report = (finished / "plants" / "report.md").read_text()
    (finished / "plants" / "report.md").unlink()
    world(finished)
    assert contents(finished / "plants" / "AC-Dice") == before
    assert (finished / "plants" / "report.md").read_text() == report


def test_the_report_alone_runs_nothing(finished, world, monkeypatch):
    written = []
    monkeypatch.setattr(reproduce, "write_set_report", lambda folder, *others: written.append(folder))
    monkeypatch.setattr(running, "run_jobs", lambda *arguments: pytest.fail("ran something"))
    world(finished, seeds=(0, 1, 2), report_only=True)
    assert written == [finished / "plants"]


def test_results_of_another_configuration_are_refused(finished, world, monkeypatch, tiny_algorithms):
    monkeypatch.setitem(tiny_algorithms, "actor-critic", replace(tiny_algorithms["actor-critic"], gamma=0.8))
    place = r"train\.stages\.1\.algorithm\.gamma"
    message = rf"AC-Dice/seed-0/result\.json has another configuration: {place} is 0\.9 there and 0\.8 here"
    with pytest.raises(ValueError, match=message):
        world(finished)


def test_a_failing_cell_is_named_and_the_others_finish(tiny_world, world, tmp_path, monkeypatch, only_cells):
    monkeypatch.setattr(running, "run_jobs", run_jobs)  # real processes
    good = tiny_world.methods["BL-Trunc"]
    bad = replace(good, name="bad", env={"augmentation": {"petals": 3}})
    monkeypatch.setattr(plan, "METHODS", {"bad": bad, "BL-Trunc": good})
    monkeypatch.setattr(reproduce, "write_set_report", lambda *arguments: tmp_path / "report.md")
    with pytest.raises(FailedRunsError, match=r"failed: plants/bad/seed-0; a file log.txt"):
        world(tmp_path, seeds=(0,), jobs=2)
    assert "petals" in (tmp_path / "plants" / "bad" / "seed-0" / "log.txt").read_text()
    assert (tmp_path / "plants" / "BL-Trunc" / "seed-0" / "result.json").exists()
