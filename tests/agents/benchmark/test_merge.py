"""Folders of several machines, put together."""

import json
import shutil

import pytest

from agents.benchmark.merge import merge
from agents.benchmark.report import write_report


def test_halves_of_a_benchmark_give_the_report_of_the_whole(finished, tmp_path):
    for seed, folder in ((0, "one"), (1, "two")):
        for path in (finished / "plants").glob(f"*/seed-{seed}"):
            shutil.copytree(path, tmp_path / folder / "plants" / path.parent.name / path.name)
        for name in ("scenes.json", "scenes.npz"):
            shutil.copy(finished / "plants" / name, tmp_path / folder / "plants")
    assert merge(tmp_path / "two", tmp_path / "one") == 3
    assert merge(tmp_path / "two", tmp_path / "one") == 0
    texts = []
    for out in (finished, tmp_path / "one"):
        write_report([out / "plants"], out / "same.md", "tiny", "command")
        texts.append((out / "same.md").read_text())
    assert texts[0] == texts[1]


def test_the_same_cell_with_another_configuration_is_refused_and_nothing_is_copied(finished, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copytree(finished / "plants", theirs / "plants")
    shutil.copytree(finished / "plants" / "tiny", ours / "plants" / "tiny")
    path = ours / "plants" / "tiny" / "seed-1" / "result.json"
    result = json.loads(path.read_text())
    result["configuration"]["train"]["batch_size"] = 7
    path.write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"must have one configuration: train.batch_size is 7 there and 4 here"):
        merge(theirs, ours)
    planned = {tmp_path / "new" / path.relative_to(ours): result["configuration"]}
    with pytest.raises(ValueError, match=r"must have one configuration: train.batch_size is 7 there and 4 here"):
        merge(theirs, tmp_path / "new", planned=planned)
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (ours / "plants").iterdir()] == ["tiny"]


def test_results_on_other_scenes_or_with_other_networks_are_refused_and_nothing_is_copied(finished, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copytree(finished / "plants", theirs / "plants")
    shutil.copytree(finished / "plants" / "tiny", ours / "plants" / "tiny")
    path = theirs / "plants" / "longer" / "seed-1" / "result.json"
    scenes_sum = json.loads(path.read_text())["scenes_sum"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "scenes_sum": "0"}))
    with pytest.raises(ValueError, match=r"longer.* and .*tiny.* of set plants have different scenes: '0' and"):
        merge(theirs, ours)
    path.write_text(json.dumps({**json.loads(path.read_text()), "scenes_sum": scenes_sum, "networks_sum": "0"}))
    with pytest.raises(ValueError, match=r"longer.* and .*tiny.* of set plants have different networks .*: '0' and"):
        merge(theirs, ours)
    with pytest.raises(ValueError, match=r"and networks of set plants have different networks .*: '.*' and 'here'"):
        merge(theirs, tmp_path / "new", {("plants", "standard"): "here"})
    assert [path.name for path in (ours / "plants").iterdir()] == ["tiny"]


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"--merge {tmp_path}: expected the folder of a benchmark"):
        merge(tmp_path, tmp_path / "out")
