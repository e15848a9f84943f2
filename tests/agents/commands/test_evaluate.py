"""`acis evaluate`: tables and reports of runs and of policies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acis_env import SegmentationVectorEnv
from acis_env.datasets.preprocessing import Tile
from agents.evaluation.classical import is_available
from agents.evaluation.rules import measure_rules
from agents.evaluation.whole_pictures import WholePictures
from agents.models.agent import Agent
from agents.models.bundled import BUNDLED
from agents.models.outcome_critic import OutcomeCritic, OutcomeCriticConfig
from agents.models.outcomes import OutcomeChoice, OutcomeChoiceConfig

CLASSICAL = ["watershed"] if is_available() else []


def test_evaluation_prints_its_table_and_writes_its_report(acis, run, tmp_path):
    printed = acis("evaluate", run.folder, "--split", "test", "--num-scenes", 3, "--out", tmp_path / "report")
    assert "split test, 3 scenes" in printed
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    between = [*CLASSICAL, "initialised", "agent"]
    assert list(report["rows"]) == ["random actions", "random codes", *between, "reconstruction"]
    assert report["num_scenes"] == 3
    assert report["about"]["split"] == "test"
    for name, row in report["rows"].items():
        line = next(line for line in printed.splitlines() if line.startswith(name))
        numbers = line.removeprefix(name).split()
        assert numbers[0] == f"{row['mean']['sbd']:.3f}"
        assert line.split()[-5:] == [
            str(row[c]) for c in ("foreground", "preprocessing", "threshold", "overlaps", "fill")
        ]
        expected = {"reconstruction": "true count", "random actions": "random", "random codes": "random"}
        assert row["stopping"] == expected.get(name, "own")
        assert (row["foreground"], row["preprocessing"], row["threshold"]) == ("none", "squeeze", 0.5)


def test_label_maps_are_filled_in_all_rows_and_by_the_rule_chosen_on_training_scenes(acis, run, tmp_path):
    def rows(*options):
        printed = acis("evaluate", run.folder, "--num-scenes", 3, "--out", tmp_path, *options)
        return printed, json.loads((tmp_path / "evaluation.json").read_text())["rows"]

    plain, filled, (printed, chosen) = rows()[1], rows("--fill", 4)[1], rows("--fill", "chosen")
    assert {row["fill"] for row in filled.values()} == {4}
    for name in ("initialised", "random codes"):
        assert filled[name]["mean"]["dice_star"] == plain[name]["mean"]["dice_star"]  # masks stay as they are
        assert filled[name]["mean"]["fbd"] != plain[name]["mean"]["fbd"]
    table = printed.split("SBD on training scenes")[1].split("chosen:")[0].splitlines()[2:]
    scores = [line.split() for line in table if line]
    best = max(scores, key=lambda row: float(row[2]))
    assert {(row["overlaps"], row["fill"]) for row in chosen.values()} == {(best[0], float(best[1]))}
    assert len(scores) == 12


def test_the_rule_of_an_agent_without_a_run_is_chosen_on_the_scenes_that_are_named(acis, agent_folder, tmp_path):
    few = ["--scenes", "leaves", "--scene-options", json.dumps({"length": 3, "max_leaves": 3})]
    printed = acis("evaluate", agent_folder, *few, "--fill", "chosen", "--out", tmp_path / "report")
    chosen = printed.split("chosen: overlaps ")[1].split(", fill ")
    rows = json.loads((tmp_path / "report" / "evaluation.json").read_text())["rows"]
    assert rows["agent"]["overlaps"] == chosen[0]
    assert rows["agent"]["fill"] == float(chosen[1].split()[0])


def test_the_rule_is_chosen_on_pictures_that_are_cut_as_those_that_are_evaluated(acis, run, tmp_path, monkeypatch):
    seen = []

    def watch(segmenters, source, rules):
        seen.append(WholePictures(source).preprocessing.name)
        return measure_rules(segmenters, source, rules)

    monkeypatch.setattr("agents.commands.evaluate.measure_rules", watch)
    acis("evaluate", run.folder, "--num-scenes", 2, "--preprocessing", "tile", "--fill", "chosen", "--out", tmp_path)
    assert seen == ["tile"]


def test_the_file_of_an_agent_needs_a_folder_for_its_report(mistake, run):
    message = mistake("evaluate", run.folder / "agent.pt")
    assert f"agent.pt is a file: give --out, or the folder of its run, {run.folder}" in message


@pytest.mark.parametrize(("value", "named"), [("-1", "fill must be"), ("nan", "fill must be")])
def test_a_distance_of_filling_that_is_none_is_named(mistake, run, value, named):
    assert named in mistake("evaluate", run.folder, "--fill", value)


def test_an_agent_that_chooses_among_episodes_can_be_measured_with_another_number_of_them(acis, mistake, run, tmp_path):
    assert "plays one episode" in mistake("evaluate", run.folder, "--episodes", 2, "--out", tmp_path / "none")
    agent = Agent.load(run.folder)
    critic = OutcomeCritic(OutcomeCriticConfig(max_count=3, widths=(4, 6), hidden=(8, 8)))
    agent.outcomes = OutcomeChoice(critic, agent.decoder, OutcomeChoiceConfig(episodes=2))
    shutil.copytree(run.folder, tmp_path / "run")
    agent.save(tmp_path / "run" / "agent.pt")
    for number, options in ((2, ()), (1, ("--episodes", 1))):
        out = tmp_path / str(number)
        acis("evaluate", tmp_path / "run", "--split", "test", "--num-scenes", 2, "--out", out, *options)
        assert json.loads((out / "evaluation.json").read_text())["about"]["episodes"] == number


def test_the_environment_of_a_run_is_made_again_with_the_scenes_and_options_that_it_had(acis, run, tmp_path):
    few, other = {"max_leaves": 3, "length": 4}, {"max_leaves": 2, "length": 2}
    options = ["--scene-options", json.dumps(few), "--env.val-kwargs", json.dumps({"scene_options": other})]
    short = ["--batch-size", 2, "--stages.0.iterations", 1, "--iterations", 1, "--eval-scenes", 1]
    options.append("--accept-weak-weights")
    acis("train", "small", "--weights", run.weights, *options, *short, "--out", tmp_path)  # whose masks are refined
    for split, expected in (("train", few), ("val", other)):
        assert f"split {split}, {expected['length']} scenes" in acis("evaluate", tmp_path, "--split", split)
        about = json.loads((tmp_path / f"evaluation-{split}" / "evaluation.json").read_text())["about"]
        assert about["options"] == expected
        assert about["config"]["env"]["kwargs"]["refine"] is True


def test_a_policy_of_another_library_is_evaluated_as_a_run_is_once_it_is_trusted(acis, mistake, save_program, tmp_path):
    env = SegmentationVectorEnv(2, scenes="leaves", weights="leaves-64", obs="coarse")
    network = torch.nn.Sequential(torch.nn.Linear(208, 16), torch.nn.Tanh())
    save_program(tmp_path, network, env.arguments, env.reset(seed=0)[0])
    options = ["--scene-options", '{"max_leaves": 3}']
    assert "--trust" in mistake("evaluate", tmp_path, *options)
    printed = acis("evaluate", tmp_path, "--split", "test", "--num-scenes", 3, "--trust", *options)
    assert "split test, 3 scenes" in printed
    report = json.loads((tmp_path / "evaluation-test" / "evaluation.json").read_text())
    assert list(report["rows"]) == ["random actions", "random codes", *CLASSICAL, "agent", "reconstruction"]
    assert report["about"]["options"] == {"max_leaves": 3}
    assert report["about"]["arguments"]["obs"] == "coarse"


def test_a_card_of_a_policy_beside_an_agent_of_ours_changes_nothing(acis, run, tmp_path):
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    expected = acis("evaluate", folder, "--num-scenes", 2).splitlines()
    (folder / "policy.json").write_text('{"kind": "sb3", "algorithm": "PPO", "arguments": {}}')
    assert acis("evaluate", folder, "--num-scenes", 2).splitlines() == expected


@pytest.mark.parametrize("arguments", [{}, {"scenes": "leaves"}, {"weights": "leaves-64"}, {"weights": 3, "scenes": 4}])
def test_a_policy_must_name_its_scenes_and_weights(mistake, save_program, tmp_path, arguments):
    env = SegmentationVectorEnv(2, scenes="leaves", weights="leaves-64", obs="coarse")
    network = torch.nn.Sequential(torch.nn.Linear(208, 16), torch.nn.Tanh())
    save_program(tmp_path, network, arguments, env.reset(seed=0)[0])
    assert "policy.json: arguments must name" in mistake("evaluate", tmp_path, "--trust")


def test_measures_of_published_variants_are_columns_with_their_names(acis, run, tmp_path):
    out = tmp_path / "report"
    plain = acis("evaluate", run.folder, "--num-scenes", 2, "--out", out).splitlines()
    assert not any("." in column for column in plain[2].split())
    printed = acis("evaluate", run.folder, "--num-scenes", 2, "--variant", "codalab", "e2e", "--out", out).splitlines()
    columns = printed[2].split()
    added = [column for column in columns if "." in column]
    assert added[:2] == ["codalab.best_dice", "codalab.sbd"]
    assert {column.split(".")[0] for column in added} == {"codalab", "e2e"}
    rows = json.loads((out / "evaluation.json").read_text())["rows"]
    agent = next(line for line in printed if line.startswith("agent")).split()
    for column in added:
        assert float(agent[1 + columns.index(column)]) == pytest.approx(rows["agent"]["mean"][column], abs=5.1e-4)
        assert all(column in scene for row in rows.values() for scene in row["scenes"])
    assert rows["agent"]["mean"]["e2e.mucov"] == rows["agent"]["mean"]["mucov"]
    assert rows["agent"]["mean"]["codalab.dic"] == rows["agent"]["mean"]["dic"]  # labels were made consecutive
    with pytest.raises(SystemExit, match="2"):
        acis("evaluate", run.folder, "--variant", "coco")


def test_the_watershed_has_no_row_without_scikit_image_or_training_scenes(acis, run, tmp_path, monkeypatch):
    (tmp_path / "val").mkdir()
    blank = np.zeros((32, 32), np.uint8)
    blank[4:20, 4:20] = 1
    Image.fromarray(blank).save(tmp_path / "val" / "a_label.png")
    Image.fromarray(np.repeat(blank[..., None] * 20, 3, axis=2)).save(tmp_path / "val" / "a_rgb.png")
    arguments = ["evaluate", run.folder, "--scenes", tmp_path, "--scene-options", "{}", "--out", tmp_path / "report"]
    if CLASSICAL:
        assert "no row of the watershed, which is tuned on training scenes: " in acis(*arguments)
    monkeypatch.setattr("agents.commands.evaluate.is_available", lambda: False)
    assert "scikit-image is not installed (pip install 'acis-env[benchmark]')" in acis(*arguments)
    assert "watershed" not in json.loads((tmp_path / "report" / "evaluation.json").read_text())["rows"]


def test_evaluation_on_a_folder_of_scenes_reports_beside_the_run(acis, run, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        label_map = np.zeros((40, 60), np.uint8)
        label_map[5:20, 5:30], label_map[22:38, 30:55] = 7, 9
        Image.fromarray(label_map).save(tmp_path / split / "a_label.png")
        Image.fromarray(np.repeat(label_map[..., None] * 20, 3, axis=2)).save(tmp_path / split / "a_rgb.png")
    printed = acis("evaluate", run.folder, "--scenes", tmp_path, "--scene-options", "{}")
    assert "split val, 1 scenes" in printed
    report = json.loads((run.folder / "evaluation-val" / "evaluation.json").read_text())
    for row in report["rows"].values():
        (scene,) = row["scenes"]
        assert row["mean"]["abs_dic"] == abs(scene["dic"])
        assert row["mean"]["sbd"] == pytest.approx(scene["sbd"])


def test_wrong_scenes_and_splits_and_options_are_named(mistake, acis, run, tmp_path):
    evaluate = ["evaluate", run.folder, "--scene-options", "{}"]
    assert "nowhere" in mistake(*evaluate, "--scenes", tmp_path / "nowhere")
    assert "split must be one of" in mistake(*evaluate, "--split", "tset")
    assert "max_leafs" in mistake("evaluate", run.folder, "--scene-options", '{"max_leafs": 3}')
    with pytest.raises(SystemExit) as exit_info:
        acis("evaluate", run.folder, "--scene-options", "{max_leaves: 3}")
    assert exit_info.value.code == 2


def test_a_folder_that_is_no_run_is_named(mistake, tmp_path):
    assert str(tmp_path / "nowhere") in mistake("evaluate", tmp_path / "nowhere")


def test_an_agent_that_comes_with_the_package_has_the_scores_on_its_card_but_needs_scenes_and_a_folder(
    acis, mistake, tmp_path
):
    out = tmp_path / "report"
    acis("evaluate", "leaves-64", "--scenes", "leaves", "--split", "test", "--num-scenes", 3, "--out", out)
    found = json.loads((out / "evaluation.json").read_text())["rows"]["agent"]["scenes"]
    card = json.loads((BUNDLED / "leaves-64" / "card.json").read_text())
    assert [scene["sbd"] for scene in found] == pytest.approx(card["first_scenes"][:3], abs=0.02)
    assert "give --out" in mistake("evaluate", "leaves-64", "--scenes", "leaves")
    assert "give --scenes and --out" in mistake("evaluate", "leaves-64")
    (tmp_path / "alone").mkdir()
    shutil.copy(BUNDLED / "leaves-64" / "agent.pt", tmp_path / "alone")
    assert f"{tmp_path / 'alone'} has no run" in mistake("evaluate", tmp_path / "alone")


@pytest.fixture
def plants(tmp_path):
    """Folder of two plants of 80x64 in train and in val."""
    for split in ("train", "val"):
        (tmp_path / "plants" / split).mkdir(parents=True)
        for name in "ab":
            label_map = np.zeros((80, 64), np.uint8)
            label_map[4:24, 5:30], label_map[30:70, 20:55] = 1, 2
            Image.fromarray(label_map).save(tmp_path / "plants" / split / f"{name}_label.png")
            picture = np.repeat(label_map[..., None] * 100, 3, axis=2)
            Image.fromarray(picture).save(tmp_path / "plants" / split / f"{name}_rgb.png")
    return tmp_path / "plants"


def test_a_run_is_trained_evaluated_and_used_by_one_preprocessing_unless_told_otherwise(
    acis, mistake, run, plants, tmp_path
):
    folder, short = tmp_path / "run", ["--batch-size", 2, "--stages.0.iterations", 1, "--iterations", 1]
    short.append("--accept-weak-weights")
    tiled = ["--env-options", '{"preprocessing": "tile"}', "--scene-options", "{}", "--eval-scenes", 1]
    acis("train", "quick", "--weights", run.weights, "--scenes", plants, *tiled, *short, "--out", folder)
    assert Agent.load(folder).preprocessing == Tile((32, 32))
    for options, expected in (([], "tile"), (["--preprocessing", "shorter-side"], "shorter-side")):
        printed = acis("evaluate", folder, *options)
        assert "split val, 2 scenes" in printed
        report = json.loads((folder / "evaluation-val" / "evaluation.json").read_text())
        assert report["num_scenes"] == 2
        assert {row["preprocessing"] for row in report["rows"].values()} == {expected}
        assert all(expected in line for line in printed.splitlines() if line.startswith(tuple(report["rows"])))
    acis("evaluate", folder, "--scenes", "leaves", "--scene-options", '{"length": 2, "max_leaves": 2}')
    report = json.loads((folder / "evaluation-val" / "evaluation.json").read_text())
    assert report["rows"]["agent"]["preprocessing"] == "tile"
    assert "must be one of" in mistake("evaluate", folder, "--preprocessing", "stretch")
    acis("segment", plants / "val" / "a_rgb.png", "--agent", folder, "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "a_rgb_label.png") as label_map:
        assert label_map.size == (64, 80)


def test_a_foreground_that_is_asked_for_and_missing_is_named(mistake, run):
    assert "expected an official foreground" in mistake("evaluate", run.folder, "--foreground", "official")
