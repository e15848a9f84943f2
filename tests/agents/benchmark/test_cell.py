"""One agent on one set with one seed: what its result says."""

import json
from dataclasses import replace

import numpy as np
import pytest

from acis_env.datasets import Leaves
from acis_env.metrics import segmentation_metrics
from agents.benchmark.cell import Cell, portable
from agents.benchmark.registry import AGENTS
from agents.evaluation.policy_files import load_policy
from agents.experiments.jobs import run_job
from agents.experiments.methods import SceneSet
from agents.models.agent import Agent


def results(folder, name):
    return [json.loads(path.read_text()) for path in sorted((folder / "plants" / name).glob("*/result.json"))]


def test_a_result_says_who_stops_which_foreground_there_was_and_what_training_took(finished):
    first, second = results(finished, "tiny")
    assert (first["stopping"], first["foreground"], first["kind"]) == ("own", "none", "agent")
    assert first["cpu_seconds"] > 0
    assert first["parameters"] > 1000
    assert [result["configuration"]["train"]["seed"] for result in (first, second)] == [0, 1]
    (bound,), chance = results(finished, "reconstruction"), results(finished, "random-codes")
    assert (bound["stopping"], bound["kind"], bound["cpu_seconds"]) == ("true count", "bound", 0)
    assert [result["stopping"] for result in chance] == ["random", "random"]
    assert chance[0]["rows"]["agent"]["mean"] != chance[1]["rows"]["agent"]["mean"]


def test_kept_label_maps_have_the_scores_that_the_result_says(finished):
    folder = finished / "plants" / "tiny" / "seed-0"
    scores = json.loads((folder / "result.json").read_text())["rows"]["agent"]["scenes"]["sbd"]
    with np.load(folder / "label_maps.npz") as found, np.load(finished / "plants" / "scenes.npz") as scenes:
        for index, score in enumerate(scores):
            label_map, truth = found[f"label-{index}"], scenes[f"truth-{index}"]
            assert segmentation_metrics(label_map, truth)["sbd"] == pytest.approx(score, abs=1e-5)


def test_all_results_of_a_set_were_measured_on_the_same_scenes(finished):
    sums = {json.loads(path.read_text())["scenes_sum"] for path in finished.glob("plants/*/*/result.json")}
    assert len(sums) == 1


def test_a_configuration_does_not_depend_on_where_scenes_and_networks_lie(task_of):
    here, there = (
        replace(task_of(), scene_set=SceneSet("nuclei", f"{place}/nuclei", {"root": place}), weights=f"{place}/w")
        for place in ("/here", "/there")
    )
    first, second = (
        portable({"env": {"scenes": t.scene_set.scenes, "weights": t.weights, "list": [t.scene_set.scenes, 3]}}, t)
        for t in (here, there)
    )
    assert first == second == {"env": {"scenes": "set nuclei", "weights": "weights w", "list": ["set nuclei", 3]}}


def trained_parameters(folder):
    """Numbers of the policy in `folder` that are not copies of others, as the weights of target networks are."""
    policy, _ = load_policy(folder, trust=True)
    names = [name for name, _ in policy.policy.named_parameters() if "_target." not in name]
    return sum(policy.policy.get_parameter(name).numel() for name in names)


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-td3"])
def test_an_agent_of_stable_baselines3_trains_within_the_benchmark_and_again_to_the_same_result(name, task_of):
    pytest.importorskip("stable_baselines3")
    means = []
    for attempt in range(2):
        cell = Cell(task_of(f"{name}-{attempt}"), name, AGENTS[name])
        run_job(cell)
        result = json.loads(cell.result.read_text())
        means.append(result["rows"])
        assert result["facts"]["environment_steps"] >= AGENTS[name].steps["smoke"]
        assert result["stopping"] == "true count"
        assert result["cpu_seconds"] > 0
        assert (cell.folder / "policy.json").is_file()
        assert result["parameters"] == trained_parameters(cell.folder)
    assert means[0] == means[1]


def test_a_folder_of_a_run_or_a_policy_is_compared_as_it_is(finished, task_of, tmp_path):
    pytest.importorskip("stable_baselines3")
    from agents.benchmark.registry import find_agent

    name, agent = find_agent(f"mine={finished / 'plants' / 'tiny' / 'seed-1'}")
    cell = Cell(task_of(name), name, agent)
    run_job(cell)
    result, expected = json.loads(cell.result.read_text()), results(finished, "tiny")[1]
    assert result["rows"] == expected["rows"]
    assert result["cpu_seconds"] == 0
    policy = Cell(task_of("sb3-ppo"), "sb3-ppo", AGENTS["sb3-ppo"])
    run_job(policy)
    name, agent = find_agent(f"policy={policy.folder}", trust=True)
    again = Cell(task_of(name), name, agent)
    run_job(again)
    assert json.loads(again.result.read_text())["rows"] == json.loads(policy.result.read_text())["rows"]
    with pytest.raises(ValueError, match="if you trust whoever made the folder"):
        Cell(task_of("untrusted"), "untrusted", find_agent(f"policy={policy.folder}")[1]).run()


def test_an_agent_that_comes_with_the_package_is_compared_by_its_name(task_of):
    from agents.benchmark.registry import find_agent

    name, contender = find_agent("leaves-64")
    cell = Cell(task_of(name), name, contender)
    run_job(cell)
    result, agent = json.loads(cell.result.read_text()), Agent.load("leaves-64")
    scenes = Leaves("test", **task_of().scene_set.val_options)
    found = [segmentation_metrics(agent.segment(scene.image).label_map, scene.label_map)["sbd"] for scene in scenes]
    assert name == "leaves-64"
    assert result["rows"]["agent"]["scenes"]["sbd"] == pytest.approx(found, abs=1e-4)
    assert np.mean(found) > 0.8
    with pytest.raises(ValueError, match="the nearest are 'leaves-64'"):
        find_agent("leaves-46")
