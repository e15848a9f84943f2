"""The command, and what its suites report."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.arguments import Arguments
from benchmarks.suites import SUITES, run_suites


def run(folder, *suites):
    run_suites(Arguments(suites=suites, repeats=1, quick=True, out=folder))
    return json.loads((folder / "report.json").read_text())


def test_a_suite_reports_ratios_masks_and_machine(tmp_path, capsys):
    report = run(tmp_path, "decoder", "scores")
    rows = report["suites"]["decoder"]["rows"]
    assert {(row["name"], row["shape"]) for row in rows} == {
        (name, f"64x64, B={batch}")
        for name in ("decoder forward", "decoder forward + action gradient")
        for batch in (1, 8)
    }
    for row in rows:
        assert row["ratio"] == pytest.approx(row["other"]["median_ms"] / row["ours"]["median_ms"])
        assert "leaves-64 weights" in row["note"]
    assert report["machine"]["threads"] == 1
    assert report["arguments"]["repeats"] == 1
    printed = capsys.readouterr().out
    assert "| decoder forward | 64x64, B=8 |" in printed
    assert "## scores" in printed


def test_steps_stand_beside_the_straightforward_one_and_the_decoder(tmp_path):
    rows = run(tmp_path, "step")["suites"]["step"]["rows"]
    assert [row["against"] for row in rows] == ["straightforward", "the decoder alone"] * 2
    shares = [float(row["note"].split("%")[0]) for row in rows[1::2]]  # of the step outside the decoder
    assert all(0 < share < 100 for share in shares)


def test_growth_is_drawn(tmp_path):
    rows = run(tmp_path, "growth")["suites"]["growth"]["rows"]
    assert sum(row["name"] == "growth with step" for row in rows) == 19
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {f"growth_{name}.png" for name in ("environments", "instances", "pixels", "step")}


def test_without_a_gpu_its_suite_says_so(tmp_path):
    (row,) = run(tmp_path, "gpu")["suites"]["gpu"]["rows"]
    assert row["ours"] is None
    assert row["note"] == "not measured: needs --device cuda"


def test_without_stable_baselines3_its_row_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.environment.find_spec", lambda name: None)
    notes = {row["against"]: row["note"] for row in run(tmp_path, "vector")["suites"]["vector"]["rows"]}
    assert "Stable-Baselines3 is not installed" in notes["DummyVecEnv"]
    assert "environment steps/s" in notes["SyncVectorEnv of straightforward"]


@pytest.mark.parametrize("suite", ["matching", "policy", "reset", "training", "inference"])
def test_other_suites_run(tmp_path, suite):
    rows = run(tmp_path, suite)["suites"][suite]["rows"]
    assert rows
    assert all(row["ratio"] > 0 for row in rows)


def test_the_command_names_a_suite_that_is_unknown(tmp_path):
    with pytest.raises(SystemExit, match=r"^benchmarks: suites must be among decoder, .*, got decodr$"):
        main(["--suites", "decodr", "--out", str(tmp_path)])


def test_the_command_refuses_no_repeats(tmp_path):
    with pytest.raises(SystemExit, match=r"^benchmarks: repeats must be at least 1, got 0$"):
        main(["--repeats", "0", "--out", str(tmp_path)])


def test_the_help_of_the_command_names_every_suite(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in SUITES)


def test_streamed_scenes_stand_beside_those_in_memory(tmp_path):
    rows = run(tmp_path, "streaming")["suites"]["streaming"]["rows"]
    assert [(row["name"], row["against"]) for row in rows] == [
        ("opening, the first time", "one thread"),
        ("opening again", "the first time"),
        ("stepping, warm cache", "the same scenes in memory"),
        ("stepping, cold cache", "the same scenes in memory"),
        ("resident memory while stepping", ""),
    ]
    assert rows[1]["ratio"] > 1
    peak, imported = (int(part.split()[-1]) for part in rows[-1]["note"].split(" MB")[:2])
    assert 0 < imported < peak
