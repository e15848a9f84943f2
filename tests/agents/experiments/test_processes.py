"""Processes of jobs, which end with the command whatever ends it."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import agents
from agents.experiments import running
from agents.experiments.cell import Cell
from agents.experiments.methods import Method, Scale
from agents.experiments.processes import Processes
from agents.experiments.running import run_jobs

RUN_IT = """
import pickle, sys
from pathlib import Path
from agents.experiments.processes import Processes
from agents.experiments.running import run_jobs

if __name__ == "__main__":
    with Processes(1) as executor:
        run_jobs([pickle.loads(Path(sys.argv[1]).read_bytes())], executor)
"""


@pytest.fixture
def make_cell(tiny_world, tmp_path, small, tiny_learner, schedule):
    """A function of a name and iterations, which are too many to wait for by default."""
    plants = tiny_world.scene_sets["plants"]

    def make(name, iterations=10**6, **env):
        method = Method(name, "", "any", schedule("score"), env, tiny_learner)
        config = small(plants, method, Scale("any", {"any": iterations}), plants.weights["standard"], 0)
        return Cell(tmp_path / name, plants, name, "", "standard", config, "any")

    return make


def is_running(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_interruption_ends_all_jobs_that_run(make_cell, monkeypatch):
    failing, endless = make_cell("failing", augmentation={"petals": 3}), make_cell("endless")

    def interrupt(line):
        if line.startswith("started: "):
            return
        assert "plants/failing/seed-0: failed" in line
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_report", interrupt)
    with pytest.raises(KeyboardInterrupt), Processes(2) as executor:
        run_jobs([endless, failing], executor)
    assert multiprocessing.active_children() == []
    assert not endless.result.exists()
    assert "petals" in (failing.folder / "log.txt").read_text()


def test_a_call_that_fails_is_known_by_its_future_and_others_go_on():
    with Processes(1) as executor:
        futures = [executor.submit(sys.exit, status) for status in (3, 0)]
    assert isinstance(futures[0].exception(), ChildProcessError)
    assert futures[1].exception() is None


def test_a_job_that_is_done_is_not_run_again(make_cell, capsys):
    done = make_cell("done")
    done.result.parent.mkdir()
    done.result.touch()
    with Processes(1) as executor:
        assert run_jobs([done], executor) == []
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_no_job_outlives_a_command_that_was_killed(make_cell, tmp_path):
    endless = make_cell("endless")
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(endless))
    (tmp_path / "command.py").write_text(RUN_IT)
    root = Path(agents.__file__).parents[1]
    command = subprocess.Popen(
        [sys.executable, str(tmp_path / "command.py"), str(tmp_path / "job.pickle")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        wait_until(lambda: (endless.folder / "job.json").exists())  # it is at work
        children = Path(f"/proc/{command.pid}/task").glob("*/children")
        pids = [int(pid) for path in children for pid in path.read_text().split()]
        assert pids
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    wait_until(lambda: not any(map(is_running, pids)))


def test_ctrl_c_on_a_terminal_leaves_a_checkpoint_of_every_run(make_cell, tmp_path):
    endless = make_cell("endless")
    path = tmp_path / "cell.pickle"
    path.write_bytes(pickle.dumps(endless))
    parent = subprocess.Popen(
        [sys.executable, "-c", RUN_IT, str(path)],
        cwd=Path(agents.__file__).parents[1],
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_until((endless.folder / "initial.pt").exists)
        os.killpg(parent.pid, signal.SIGINT)  # as the terminal does: to the whole group
        assert parent.wait(60) != 0
    finally:
        parent.kill()
    assert "KeyboardInterrupt" in parent.stderr.read()
    assert (endless.folder / "checkpoint.pt").exists()
    assert "SIGTERM after iteration" in (endless.folder / "log.txt").read_text()


def test_a_job_is_named_when_it_starts_and_the_time_left_when_one_is_done(make_cell, monkeypatch):
    lines = []
    monkeypatch.setattr(running, "_report", lines.append)

    def wait_to_be_named(job):
        while f"started: {job.name}" not in lines:
            time.sleep(0.01)

    monkeypatch.setattr(running, "run_alone", wait_to_be_named)
    with ThreadPoolExecutor(1) as executor:
        assert run_jobs([make_cell("one", 1), make_cell("two", 1)], executor) == []
    assert [line for line in lines if line.startswith("started")] == [
        "started: plants/one/seed-0",
        "started: plants/two/seed-0",
    ]
    assert lines.index("started: plants/one/seed-0") == 0
    done = [line for line in lines if line.endswith(": done")]
    assert done[0].startswith("[1/2, ")
    assert "about" in done[0]
    assert "about" not in done[1]
