"""Executors: what runs a call elsewhere, and ends it with the command."""

import os
import sys
import time
from pathlib import Path

import pytest

from agents.benchmark.executors import open_executor
from agents.experiments import running
from agents.experiments.running import run_jobs


def test_calls_run_in_processes_of_submitit_and_failures_are_known(tmp_path):
    pytest.importorskip("submitit")
    with open_executor("submitit-local", 2, tmp_path, {}) as executor:
        found, failing = executor.submit(os.getpid), executor.submit(int, "no number")
        assert found.result() != os.getpid()
        assert "no number" in str(failing.exception())
    assert list(tmp_path.glob("*_submitted.pkl"))


class Endless:
    """A job that never ends."""

    name, is_done, is_resumable = "endless", False, False

    def __init__(self, folder):
        self.folder = folder

    def run(self):
        (self.folder / "pid").write_text(str(os.getpid()))
        time.sleep(1000)


class Failing(Endless):
    """A job that fails once the other runs."""

    name = "failing"

    def run(self):
        while not (self.folder / "pid").exists():
            time.sleep(0.05)
        raise ValueError("as it should")


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_an_interruption_cancels_what_was_submitted(tmp_path, monkeypatch):
    pytest.importorskip("submitit")

    def interrupt(line):
        if "failing: failed" in line:
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "_report", interrupt)
    jobs = [Endless(tmp_path), Failing(tmp_path)]
    with pytest.raises(KeyboardInterrupt), open_executor("submitit-local", 2, tmp_path / "jobs", {}) as executor:
        run_jobs(jobs, executor)
    assert "ValueError: as it should" in (tmp_path / "log.txt").read_text()
    status = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    deadline = time.monotonic() + 30
    while status.exists() and ") Z " not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_slurm_where_there_is_none_and_options_without_slurm_are_mistakes_of_one_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"--executor slurm: .*srun"):
        open_executor("slurm", 1, tmp_path, {})
    with pytest.raises(ValueError, match="--slurm needs --executor slurm, got 'local'"):
        open_executor("local", 1, tmp_path, {"partition": "gpu"})


def test_options_of_slurm_reach_its_script_and_unknown_ones_are_named(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit")
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    executor = open_executor("slurm", 1, tmp_path / "jobs", {"partition": "gpu", "time": "90", "gpus_per_node": "2"})
    assert isinstance(executor._engine, submitit.SlurmExecutor)
    script = executor._engine._make_submission_file_text("python job", "id")
    for line in ("--partition=gpu", "--time=90", "--gpus-per-node=2", "--job-name=acis"):
        assert f"#SBATCH {line}" in script
    executor.shutdown()
    with pytest.raises(ValueError, match=r"--slurm: .*petals"):
        open_executor("slurm", 1, tmp_path / "jobs", {"petals": "3"})
