"""`acis benchmark`: what it plans, what it refuses, and that a killed one goes on to the same report."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import agents
from acis_env.datasets.leaves import Leaves
from acis_env.folders import claimed
from agents.benchmark.plan import stages
from agents.benchmark.registry import AGENTS, LEADERBOARD, find_agent
from agents.commands import benchmark as command
from agents.commands.benchmark import Benchmark
from agents.experiments.jobs import run_job
from tests.agents.experiments.conftest import run_here

ROOT = Path(agents.__file__).parents[1]


@pytest.fixture
def pairs(tmp_path):
    """Folder of five small plants in train and in val."""
    for split in ("train", "val"):
        folder = tmp_path / "plants" / split
        folder.mkdir(parents=True)
        for index, scene in enumerate(Leaves(split, (32, 32), max_leaves=3, length=5)):
            Image.fromarray(scene.image.transpose(1, 2, 0)).save(folder / f"{index}_rgb.png")
            Image.fromarray(scene.label_map.astype(np.uint8)).save(folder / f"{index}_label.png")
    return tmp_path / "plants"


def without_times(report):
    """The report without the CPU minutes of the large table, and without the section on speed."""
    lines = report.split("### Speed and memory")[0].splitlines()
    (first,) = [index for index, line in enumerate(lines) if line.endswith("| CPU min |")]
    after = lines.index("", first)
    return [*lines[:first], *(line.rsplit("|", 2)[0] for line in lines[first:after]), *lines[after:]]


def wait_until_free(folder):
    """Wait for the end of the process that has claimed `folder`, which may take a moment after it was killed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with claimed(folder):
                return
        except ValueError:
            time.sleep(0.05)
    raise AssertionError(f"{folder} is still claimed")


def test_a_benchmark_that_was_killed_goes_on_to_the_report_of_one_that_was_not(
    acis, pairs, tiny_weights, tmp_path, monkeypatch
):
    names = ("foreground-components", "BL-Trunc")
    options = ["--agents", *names, "--seeds", "0", "1", "--budget", "smoke", "--reference", "BL-Trunc"]
    places = ["--sets", str(pairs), "--weights", f"plants={tiny_weights}"]
    arguments = ["benchmark", *places, *options, "--out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    launch = [sys.executable, "-m", "agents.commands", *arguments, str(tmp_path / "killed")]
    killed = subprocess.Popen(launch, cwd=ROOT, env=environment, stdout=subprocess.PIPE, start_new_session=True)
    cell = tmp_path / "killed" / "plants" / "BL-Trunc" / "seed-0"
    deadline = time.monotonic() + 240
    while not (cell / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)  # with the processes that it has started
    killed.wait()
    wait_until_free(cell)
    assert not (cell / "result.json").exists()
    assert not (tmp_path / "killed" / "report.md").exists()
    done = [path.stat().st_mtime_ns for path in tmp_path.glob("killed/plants/foreground-components/*/result.json")]
    assert len(done) == 1
    monkeypatch.setattr("agents.experiments.running.run_jobs", run_here)
    for out in ("killed", "whole"):
        acis(*arguments, tmp_path / out)
    again = [path.stat().st_mtime_ns for path in tmp_path.glob("killed/plants/foreground-components/*/result.json")]
    assert again == done
    first, second = ((tmp_path / out / "report.md").read_text() for out in ("killed", "whole"))
    assert "± " in first
    assert without_times(first) == without_times(second)
    for path in (tmp_path / "whole" / "plants").glob("*/*/result.json"):
        other = tmp_path / "killed" / path.relative_to(tmp_path / "whole")
        assert json.loads(path.read_text())["rows"] == json.loads(other.read_text())["rows"]


def test_the_plan_says_what_is_done_and_how_long_the_rest_takes_and_runs_nothing(acis, tmp_path):
    out = tmp_path / "out"
    options = ("--agents", "BL-Trunc", "watershed", "--seeds", 0, 1, "--budget", "quick", "--out", out, "--plan")
    printed = acis("benchmark", *options).splitlines()
    assert printed == [
        "leaves/BL-Trunc: 0 of 2 done, 2 min each (assumed)",
        "leaves/watershed: 0 of 1 done, 20 s each (assumed)",
        "3 of 3 cells to run: 4 min of CPU time, about 4 min with 1 at a time",
    ]
    assert not out.exists()
    folder = out / "leaves" / "BL-Trunc" / "seed-1"
    folder.mkdir(parents=True)
    configuration = next(
        cell.configuration
        for cell in Benchmark(agents=("BL-Trunc",), seeds=(1,), out=out)._cells()
        if cell.folder == folder
    )
    content = {"configuration": configuration, "total_seconds": 300}
    (folder / "result.json").write_text(json.dumps(content))
    printed = acis("benchmark", *options, "--jobs", 2).splitlines()
    assert printed[0] == "leaves/BL-Trunc: 1 of 2 done, 5 min each (measured)"
    assert printed[-1] == "2 of 3 cells to run: 5 min of CPU time, about 3 min with 2 at a time"


def test_networks_that_a_set_lacks_are_in_the_plan(acis, pairs, tmp_path):
    printed = acis("benchmark", "--sets", pairs, "--agents", "BL-Trunc", "--out", tmp_path / "out", "--plan")
    assert printed.startswith("weights plants: 7 min, assumed\n")


def test_agents_with_networks_of_their_own_need_none_of_the_set(pairs, tmp_path):
    cells = Benchmark((str(pairs),), ("leaves-64",), seeds=(0,), out=tmp_path / "out")._cells()
    networks, sharing, kept, own = stages(cells)
    assert not networks
    assert not sharing
    assert own == cells
    (job,) = kept
    run_job(job)
    assert json.loads(job.result.read_text())["size"] == [64, 64]
    agent = find_agent("leaves-64")[1]
    assert agent.size == (64, 64)


def test_what_failed_is_told_where_there_is_nothing_to_report(mistake, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_stages", lambda *_: ["scenes of plants"])
    message = mistake("benchmark", "--sets", pairs, "--agents", "leaves-64", "--out", tmp_path / "out")
    assert "failed: scenes of plants; a file log.txt in the folder says why" in message


def test_the_command_of_a_report_has_all_that_decides_its_results():
    told = Benchmark(seeds=(1,), device="cuda", gpus_per_cell=2, trust=True, reference="AC-Dice")._command()
    assert "--seeds 1 " in told
    assert told.endswith("--reference AC-Dice --gpus-per-cell 2 --device cuda --trust")
    assert not any(option in Benchmark()._command() for option in ("reference", "device", "gpus", "trust"))


def test_a_name_or_an_option_that_makes_no_sense_is_one_line(mistake, tmp_path):
    cases = {
        ("--sets", "roses"): "set 'roses': expected a folder or one of ",
        ("--sets", "bbbc038"): "--roots bbbc038=FOLDER",
        ("--agents", "BL-Trunk"): "agent 'BL-Trunk': expected a folder or a name, unknown 'BL-Trunk', the nearest are",
        ("--agents", "preset:quik"): "agent 'preset:quik': unknown 'quik', the nearest are 'quick'",
        ("--budget", "huge"): "unknown budget 'huge': expected one of ",
        ("--roots", "cvppp"): "--roots must be NAME=VALUE, got 'cvppp'",
        ("--jobs", 0): "jobs must be at least 1, got 0",
        ("--roots", f"leaves={tmp_path}"): f"--roots leaves={tmp_path} would have no effect",
        ("--fill", "leafs=8"): "--fill leafs=... must be for one of the sets leaves: it would have no effect",
        ("--splits", "cars=val"): "--splits cars=... must be for one of the sets leaves",
        ("--reference", "Critic-Serch"): "--reference must be one of the agents Critic-Search, ",
        ("--seeds", 0, 1, 0): "--seeds must differ, got 0 2 times",
        ("--seeds",): "--seeds must have a value, got none",
        ("--sets",): "--sets must have a value, got none",
        ("--agents", "AC-Dice", "AC-Dice"): "--agents must differ, got AC-Dice 2 times",
        ("--merge", tmp_path): "expected the folder of a benchmark",
        ("--report-only",): "no finished run to report",
        ("--slurm", "partition=gpu"): "--slurm needs --executor slurm, got 'local'",
        ("--agents", f"AC-Dice={tmp_path}"): "'AC-Dice' must be a new name without slashes",
    }
    for arguments, message in cases.items():
        assert message in mistake("benchmark", "--out", tmp_path / "out", *arguments)


def test_options_of_a_folder_are_given_by_its_name_or_as_the_folder_is(pairs, tiny_weights, tmp_path):
    for name in ("plants", str(pairs)):
        options = {"weights": (f"{name}={tiny_weights}",), "splits": (f"{name}=train",), "fill": (f"{name}=3",)}
        (cell,) = Benchmark((str(pairs),), ("BL-Trunc",), (0,), "smoke", **options, out=tmp_path)._cells()
        assert (cell.scene_set.split, cell.scene_set.fill) == ("train", 3)
        assert cell.scene_set.weights == {"standard": str(tiny_weights)}


def test_folders_of_one_name_are_told_apart_by_names_that_are_given(pairs, tiny_weights, tmp_path):
    other = tmp_path / "more" / "plants"
    shutil.copytree(pairs, other)
    with pytest.raises(ValueError, match=rf"--sets must differ, got plants 2 times \({pairs}, {other}\); folders may"):
        Benchmark((str(pairs), str(other)), ("watershed",), out=tmp_path)._cells()
    named = Benchmark((str(pairs), f"more={other}"), ("watershed",), weights=(f"more={tiny_weights}",), out=tmp_path)
    assert [cell.scene_set.name for cell in named._cells()] == ["plants", "more"]
    assert f"--sets {pairs} more={other}" in named._command()
    assert "--weights more=FOLDER" in named._command()
    strange = tmp_path / "lr=0.1" / "plants"
    shutil.copytree(pairs, strange)
    (cell,) = Benchmark((str(strange),), ("watershed",), out=tmp_path)._cells()
    assert (cell.scene_set.name, cell.scene_set.scenes) == ("plants", str(strange))
    with pytest.raises(ValueError, match="'a/b' must be a name without slashes"):
        Benchmark((f"a/b={other}",), ("watershed",), out=tmp_path)._cells()


def test_results_of_another_budget_are_refused(mistake, tmp_path):
    folder = tmp_path / "leaves" / "BL-Trunc" / "seed-0"
    cell = next(iter(Benchmark(agents=("BL-Trunc",), seeds=(0,), budget="smoke", out=tmp_path)._cells()))
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"configuration": cell.configuration}))
    message = mistake("benchmark", "--agents", "BL-Trunc", "--seeds", 0, "--budget", "quick", "--out", tmp_path)
    assert "job.json has another configuration: budget is 'smoke' there and 'quick' here" in message


def test_the_leaderboard_has_chance_in_two_forms_yardsticks_the_papers_agents_and_those_of_another_library():
    ours = {"BL-Trunc", "BL-Trunc-Dice", "AC-Dice", "Candidate-AC", "Critic-Search", "Critic-Search-Outcomes"}
    references = {"random-actions", "random-codes", "foreground-components", "watershed", "reconstruction"}
    assert ours | references | {"sb3-ppo", "sb3-td3"} == set(LEADERBOARD)
    assert set(LEADERBOARD) <= set(AGENTS)
