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
    config = cell_config(scene_sets()["leaves"], method, Scale("any", {"ac": 3}), "leaves-64", 0)
    wanted = {"train": json.loads(json.dumps(asdict(config)))}
    recorded = json.loads(json.dumps(wanted))
    del recorded["train"]["precision"], recorded["train"]["phases"][1]["sequence_length"]
    assert differences(recorded, wanted) == []
    wanted["train"]["precision"] = "bfloat16"
    assert differences(recorded, wanted) == ["train.precision is 'float32' there and 'bfloat16' here"]
