"""The report: means, differences, claims and plots, from the result files alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from agents.evaluation.classical import is_available
from agents.experiments import over_runs, plan
from agents.experiments.bootstrap import CAUTION, interquartile_mean, performance_profile, probability_of_improvement
from agents.experiments.claims import claims
from agents.experiments.methods import CONTROL, HEIGHT, NEARNESS, Method
from agents.experiments.report import write_set_report
from agents.experiments.results import Results
from agents.experiments.statistics import mean_interval, paired_interval
from agents.training.config import Stage


def test_the_report_states_means_and_differences_of_the_results(finished, results_of, row_of):
    report = (finished / "plants" / "report.md").read_text()
    scores = {
        method: [[float(np.mean(r["rows"]["agent"]["scenes"][m])) for r in results_of(finished, method)]
                 for m in ("sbd", "abs_dic", "sbd_gt_stop", "dice_star")]
        for method in ("BL-Trunc", "AC-Dice")
    }  # fmt: skip
    for method, values in scores.items():
        assert row_of(report, "## Table 1", method)[2:6] == [str(mean_interval(v)) for v in values]
    expected = [str(paired_interval(a, b)) for a, b in zip(scores["AC-Dice"], scores["BL-Trunc"], strict=True)]
    assert row_of(report, "To BL-Trunc:", "AC-Dice")[1:] == expected
    for picture in ("order", "memory", "dice_per_step", "dice_difference", "learning_sbd", "critic_explained_variance"):
        assert f"({picture}.png)" in report
        assert (finished / "plants" / f"{picture}.png").stat().st_size > 1000


def test_the_report_has_interquartile_means_probabilities_of_improvement_and_profiles(finished, results_of, row_of):
    report = (finished / "plants" / "report.md").read_text()
    runs = {name: results_of(finished, name) for name in ("AC-Dice", "BL-Trunc")}
    ac, bl = ([[run["rows"]["agent"]["mean"]["sbd"] for run in found]] for found in runs.values())
    better = str(probability_of_improvement(ac, bl))
    assert row_of(report, "## Over runs", "AC-Dice")[1:] == ["2", str(interquartile_mean(ac)), better]
    assert row_of(report, "## Over runs", "BL-Trunc")[1:] == ["2", str(interquartile_mean(bl)), ""]
    assert CAUTION in report.split("## Over runs")[1].split("\n## ")[0]
    assert (finished / "plants" / "profile.png").stat().st_size > 1000


def test_a_profile_is_drawn_from_the_scenes_of_the_runs(finished, results_of, monkeypatch):
    drawn = {}
    monkeypatch.setattr(over_runs, "draw_plots", lambda results, name, curves, *_: drawn.update({name: curves}) or [])
    over_runs.over_runs(Results.load(finished / "plants"))
    scenes = [run["rows"]["agent"]["scenes"]["sbd"] for run in results_of(finished, "AC-Dice")]
    levels, profile = drawn["profile"]["AC-Dice"]
    assert profile == performance_profile([scenes])
    assert profile[10].mean == np.mean([score > levels[10] for run in scenes for score in run])


@pytest.mark.skipif(not is_available(), reason="needs scikit-image")
def test_the_watershed_is_a_row_of_table_1(finished):
    report = (finished / "plants" / "report.md").read_text()
    rows = json.loads((finished / "plants" / "references.json").read_text())["rows"]
    assert f"| watershed, own stopping |  | {rows['standard']['watershed']['mean']['sbd']:.3f} |" in report
    assert not any("watershed" in row for name, row in rows.items() if name != "standard")


def test_the_progress_of_training_is_told_by_its_share_and_by_what_is_left_to_the_bound(finished, results_of, row_of):
    report = (finished / "plants" / "report.md").read_text()
    curves = [[scores["sbd"] for scores in result["history"]] for result in results_of(finished, "AC-Dice")]
    first, second, last = (mean_interval(values) for values in zip(*curves, strict=True))  # after 2, 4 and 5 of 5
    bound = json.loads((finished / "plants" / "references.json").read_text())["rows"]["standard"]["reconstruction"]
    row = row_of(report, "SBD, own stopping, by the share", "AC-Dice")
    assert row[2:] == [*map(str, (first, first, second, last)), f"{bound['mean']['sbd'] - last.mean:.3f}"]


def test_the_claims_are_answered_by_their_intervals(finished, results_of, row_of):
    report = (finished / "plants" / "report.md").read_text()
    pairs = zip(results_of(finished, "AC-Dice"), results_of(finished, "BL-Trunc"), strict=True)
    gains = [a["rows"]["agent"]["mean"]["sbd"] - b["rows"]["agent"]["mean"]["sbd"] for a, b in pairs]
    row = row_of(report, "## Claims", "AC-Dice beats BL-Trunc in SBD")
    assert row[1:] == [mean_interval(gains).is_positive, f"difference of SBD: {mean_interval(gains)}"]
    assert row_of(report, "## Claims", "the State Pyramid is needed")[1] == "not run"


def made_up(seed, *, sbd=0.5, abs_dic=1.0, dice_at_step=(0.5, 0.5, 0.5), size=0.0, label=0.0):
    """The part of a result that claims are made from."""
    spread = 0.001 * seed  # so that intervals are not empty
    agent = {"mean": {"sbd": sbd + spread, "abs_dic": abs_dic - spread}, "scenes_at_step": [9, 5, 2]}
    agent["dice_at_step"] = [dice + spread * t for t, dice in enumerate(dice_at_step)]
    return {"rows": {"agent": agent}, "order": [{"size": size + spread, "label": label + spread}, {}]}


def test_every_claim_holds_for_results_that_bear_it_out_and_not_for_their_opposite():
    good = {"sbd": 0.7, "abs_dic": 0.4, "dice_at_step": (0.5, 0.6, 0.8), "size": -0.5, "label": -0.5}
    bad = {"sbd": 0.4, "abs_dic": 2.0, "dice_at_step": (0.5, 0.4, 0.2), "size": 0.5, "label": 0.5}
    for values, answer, most in ((good, "holds", 100), (bad, "does not hold", 60)):
        names = ("BL-Trunc", "AC-Dice", "AC-Dice-NoKL", "AC-Dice-NoSP")
        cells = {n: {s: made_up(s, **(values if n == "AC-Dice" else {})) for s in (0, 1, 2)} for n in names}
        used = {"steps": [1, 20], "bytes": {"AC-Dice": [9, 40], "BL": [9, most]}}
        found = claims(Results(Path(), cells, {"memory": used}), HEIGHT)
        assert [row[1] for row in found] == [answer] * 8


def test_every_run_is_a_line_of_a_file_beside_the_report(finished, results_of):
    lines = (finished / "plants" / "runs.json").read_text().splitlines()
    runs = {(run["method"], run["seed"]): run for run in json.loads("".join(lines))}
    assert len(lines) == len(runs) + 2
    assert set(runs) == {(method, seed) for method in ("BL-Trunc", "AC-Dice") for seed in (0, 1)}
    for (method, seed), run in runs.items():
        result = results_of(finished, method)[seed]
        for row in ("agent", "initial"):
            assert run["mean"][row] == pytest.approx(result["rows"][row]["mean"], abs=5e-5)
        scenes = result["rows"]["agent"]["scenes"]
        assert run["scenes"]["sbd"] == pytest.approx(scenes["sbd"], abs=5e-4)
        assert run["scenes"]["dic"] == scenes["dic"]
        assert run["history"]["sbd"] == pytest.approx([entry["sbd"] for entry in result["history"]], abs=5e-5)
        assert (run["commit"], run["actor_updates"]) == (result["commit"], result["actor_updates"])


def test_labels_that_are_in_no_order_are_in_no_claim_and_no_table(finished, tmp_path):
    copy = tmp_path / "plants"
    shutil.copytree(finished / "plants", copy)
    texts = {order: write_set_report(copy, order, "").read_text() for order in (None, HEIGHT, NEARNESS)}
    near = "| near cars come before far ones |"
    assert [near in texts[order] for order in (None, HEIGHT, NEARNESS)] == [False, False, True]
    assert ["| size | nearness |" in texts[order] for order in (None, HEIGHT, NEARNESS)] == [False, False, True]
    assert "height" not in texts[NEARNESS].split("## Figure 4")[1]
    assert "unoccluded instances" not in texts[None]


def test_the_report_names_one_command_for_all_methods_of_the_same_seeds(finished, tmp_path):
    copy = tmp_path / "plants"
    shutil.copytree(finished / "plants", copy)
    end = " --scale quick --out x\n"
    text = write_set_report(copy, HEIGHT, "--out x").read_text()
    assert "    acis reproduce --sets plants --methods BL-Trunc AC-Dice\n      --seeds 0 1" + end in text
    (copy / "AC-Dice" / "seed-1" / "result.json").unlink()
    text = write_set_report(copy, HEIGHT, "--out x").read_text()
    for method, seeds in (("BL-Trunc", "0 1"), ("AC-Dice", "0")):
        assert f"    acis reproduce --sets plants --methods {method}\n      --seeds {seeds}" + end in text


def test_runs_of_a_version_that_noted_other_iterations_are_interpolated(finished, tmp_path, row_of, results_of):
    copy = tmp_path / "plants"
    shutil.copytree(finished / "plants", copy)
    row = ("SBD, own stopping, by the share", "AC-Dice")
    before = row_of(write_set_report(copy, HEIGHT, "").read_text(), *row)
    path = copy / "AC-Dice" / "seed-1" / "result.json"
    result = json.loads(path.read_text())
    result["history"] = [entry for entry in result["history"] if entry["iteration"] != 4]
    for curve in result["curves"].values():
        curve["iteration"], curve["value"] = curve["iteration"][1:], curve["value"][1:]
    path.write_text(json.dumps(result))
    after = row_of(write_set_report(copy, HEIGHT, "").read_text(), *row)
    between = float(np.interp(4, [2, 5], [entry["sbd"] for entry in result["history"]]))
    at_four = results_of(finished, "AC-Dice")[0]["history"][1]["sbd"]
    assert after == [*before[:4], str(mean_interval([at_four, between])), *before[5:]]


def test_a_ranking_critic_is_reported_beside_what_the_truth_would_choose(
    world, monkeypatch, tmp_path, row_of, schedule, tiny_algorithms, tiny_learner
):
    def ranked(iterations):
        return (*schedule("score")(iterations), Stage("ranking", tiny_algorithms["critic-ranking"], iterations))

    methods = [
        Method(CONTROL, "score", "any", schedule("score"), learner=tiny_learner),
        Method("Search-Distillation", "critic", "any", ranked, learner=tiny_learner, rival=CONTROL),
    ]
    monkeypatch.setattr(plan, "METHODS", {method.name: method for method in methods})
    world(tmp_path, seeds=(0,), methods=(CONTROL, "Search-Distillation"))
    control, ranking = (
        json.loads((tmp_path / "plants" / name / "seed-0" / "result.json").read_text())
        for name in (CONTROL, "Search-Distillation")
    )
    bounds = {name: row["mean"]["sbd"] for name, row in control["rows"].items() if name.startswith("best of 16 by")}
    report = (tmp_path / "plants" / "report.md").read_text()
    for name, sbd in bounds.items():
        assert row_of(report, "## Table 1", f"{CONTROL}, {name}, true count")[2] == f"{sbd:.3f}"
    assert len(bounds) == 2
    table_2 = report.split("## Table 2")[1].split("## Figure 3")[0]
    assert f"| {CONTROL} |" in table_2
    assert "Search-Distillation" not in table_2  # not blocked, which would cost more than its training
    assert set(ranking["rows"]) == {"agent", "initial"}
    heading = "Rank correlation (Spearman)"
    assert row_of(report, heading, "Search-Distillation")[1:] == [
        f"{ranking['rank_correlation'][n]:.3f}" for n in ("reward", "return")
    ]
    assert "critic/explained_spread" in ranking["curves"]
    # The paper's methods are left out of the first plot here, since all of them are rivals in the second.
    for picture in ("order", "dice_per_step", "learning_sbd"):
        assert f"({picture}_beyond.png)" in report
        assert (tmp_path / "plants" / f"{picture}_beyond.png").stat().st_size > 1000
        assert not (tmp_path / "plants" / f"{picture}.png").exists()
    gain = ranking["rows"]["agent"]["mean"]["sbd"] - control["rows"]["agent"]["mean"]["sbd"]
    verdict = ["undecided", f"{gain:.3f}"]  # of one seed
    assert row_of(report, "## Beyond the paper", f"Search-Distillation beats {CONTROL} in SBD")[1:3] == verdict
