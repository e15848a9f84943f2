"""Result files, read back and compared."""

import json
import shutil
from dataclasses import asdict

import pytest

from agents.experiments.methods import METHODS, Scale, cell_config, scene_sets
from agents.experiments.results import Results, differences


def test_methods_of_another_scale_are_not_put_into_one_report(finished, tmp_path):
    shutil.copytree(finished / "plants", tmp_path / "plants")
    for path in (tmp_path / "plants" / "AC-Dice").glob("*/result.json"):
        result = json.loads(path.read_text())
        result["configuration"]["scale"] = "longer"
        path.write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"one scale, got \{'AC-Dice': 'longer', 'BL-Trunc': '.*'\}"):
        Results.load(tmp_path / "plants")


def test_an_option_younger_than_a_record_is_no_difference_until_it_is_used():
    method = METHODS["AC-Dice"]
    config = cell_config(scene_sets()["leaves"], method, Scale("any", {"actor-critic": 3}), "leaves-64", 0)
    wanted = {"train": json.loads(json.dumps(asdict(config)))}
    recorded = json.loads(json.dumps(wanted))
    main = recorded["train"]["stages"][1]
    del recorded["train"]["learner"]["compile"], main["sequence_length"], main["algorithm"]["replay_size"]
    assert differences(recorded, wanted) == []
    wanted["train"]["learner"]["compile"] = True
    wanted["train"]["env"]["kwargs"]["precision"] = "bfloat16"
    assert differences(recorded, wanted) == [
        "train.env.kwargs.precision is None there and 'bfloat16' here",
        "train.learner.compile is False there and True here",
    ]


def test_results_of_an_earlier_version_are_an_error_of_one_line_that_says_what_to_do(finished, world, tmp_path):
    for kept in ("result.json", "job.json"):
        out = tmp_path / kept
        shutil.copytree(finished, out)
        folder = out / "plants" / "AC-Dice" / "seed-1"
        result = json.loads((folder / kept).read_text())
        result["configuration"]["train"] = {"scenes": "leaves", "phases": [{"name": "main", "objective": "ac"}]}
        (folder / kept).write_text(json.dumps(result))
        message = (
            rf"seed-1/{kept}: written by an earlier version .*: run it again in another --out, or report on it with"
        )
        with pytest.raises(ValueError, match=message) as error:
            world(out)
        assert "\n" not in str(error.value)
        if kept == "result.json":
            with pytest.raises(ValueError, match=message):
                Results.load(out / "plants")
