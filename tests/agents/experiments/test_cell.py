"""One run of a method: what its result holds, and that it resumes."""

import json

import pytest
import torch

from agents.experiments import reproduce
from agents.experiments.timing import TimedTrainer


def test_a_result_holds_what_the_report_needs(finished, results_of, plants_options):
    (result, _), (baseline, _) = results_of(finished, "AC-Dice"), results_of(finished, "BL-Trunc")
    assert result["actor_updates"] == 5
    assert result["cpu_seconds"] > 0
    assert result["peak_memory"] > 2**20
    assert set(result["rows"]) == {"agent", "initial", "both", "mask only", "LSTM only"}
    assert len(result["rows"]["agent"]["scenes"]["sbd"]) == plants_options["length"]
    assert len(result["critic"]["explained_variance"]) == len(result["rows"]["agent"]["dice_at_step"])
    assert "critic" not in baseline
    assert result["curves"]["critic/explained_variance"]["iteration"] == [1, 2, 3, 4]
    assert [scores["iteration"] for scores in result["history"]] == [2, 4, 5]
    seconds = [scores["cpu_seconds"] for scores in result["history"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2] <= result["cpu_seconds"]


def test_an_interrupted_run_resumes_to_the_same_weights_and_adds_up_its_time(
    finished, world, tmp_path, monkeypatch, results_of, only_cells
):
    save = TimedTrainer.save

    def save_once(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(TimedTrainer, "save", save_once)
    monkeypatch.setattr(reproduce, "write_set_report", lambda *arguments: None)
    options = {"methods": ("AC-Dice",), "seeds": (1,)}
    with pytest.raises(KeyboardInterrupt):
        world(tmp_path, **options)
    folder = tmp_path / "plants" / "AC-Dice" / "seed-1"
    assert not (folder / "result.json").exists()
    before = json.loads((folder / "clock.json").read_text())["2"]
    monkeypatch.setattr(TimedTrainer, "save", save)
    world(tmp_path, **options)
    result = json.loads((folder / "result.json").read_text())
    whole = results_of(finished, "AC-Dice")[1]
    assert result["rows"] == whole["rows"]
    assert result["cpu_seconds"] > before[0]
    assert result["wall_seconds"] > before[1]
    expected, resumed = (
        torch.load(path / "agent.pt", weights_only=True)["actor"]
        for path in (finished / "plants" / "AC-Dice" / "seed-1", folder)
    )
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
