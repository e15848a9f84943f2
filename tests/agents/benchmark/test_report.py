"""The report: its numbers are those of the results, and its HTML needs no other file."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from acis_env.files import write_json
from agents.benchmark.cell import Cell
from agents.benchmark.contender import Task
from agents.benchmark.plan import check_networks
from agents.benchmark.report import write_report
from agents.benchmark.results import SetResults
from agents.experiments.bootstrap import CAUTION, interquartile_mean, probability_of_improvement
from agents.experiments.statistics import mean_interval, paired_interval


@pytest.fixture(scope="module")
def report(finished):
    path = finished / "report.md"
    write_report([finished / "plants"], path, "longer", "acis benchmark --sets plants")
    return path


def sbd(finished, name):
    files = sorted((finished / "plants" / name).glob("*/result.json"))
    return [json.loads(file.read_text())["rows"]["agent"]["mean"]["sbd"] for file in files]


def row(text, heading, name):
    lines = text.split(heading, 1)[1].splitlines()
    return next([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(f"| {name} |"))


def test_the_table_has_means_with_intervals_and_says_who_stops(report, finished):
    text = report.read_text()
    cells = row(text, "## plants", "tiny")
    assert cells[1:4] == ["2", "own", "none"]
    assert cells[4] == str(mean_interval(sbd(finished, "tiny")))
    assert row(text, "## plants", "foreground-components")[1:5] == [
        "–", "own", "none", f"{sbd(finished, 'foreground-components')[0]:.3f}"
    ]  # fmt: skip


def test_rows_are_sorted_by_sbd_and_the_bound_is_last(finished):
    results = SetResults.load(finished / "plants")
    names = results.by_score()
    assert names[-1] == "reconstruction"
    means = [sum(sbd(finished, name)) / len(sbd(finished, name)) for name in names[:-1]]
    assert means == sorted(means, reverse=True)


def test_differences_are_paired_by_seed_and_an_agent_without_seeds_is_paired_with_every_one(report, finished):
    text, longer = report.read_text(), sbd(finished, "longer")
    heading = "### Paired differences to longer"
    assert row(text, heading, "tiny")[1] == str(paired_interval(sbd(finished, "tiny"), longer))
    bound = sbd(finished, "reconstruction") * 2
    assert row(text, heading, "reconstruction")[1] == str(paired_interval(bound, longer))


def test_the_pictures_of_the_report_exist_and_are_small(report):
    links = re.findall(r"!\[.*?\]\((.*?)\)", report.read_text())
    assert links == ["report/plants-profile.png", "report/plants-dice.png", "report/plants-order.png"]
    assert all((report.parent / link).stat().st_size < 80_000 for link in links)


def test_the_html_file_holds_the_same_tables_and_loads_nothing(report):
    page, text = report.with_suffix(".html").read_text(), report.read_text()
    assert page.count("<tr>") == sum(line.startswith("| ") and "---" not in line for line in text.splitlines())
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert page.count("data:image/png;base64,") == 3
    assert f"<td>{mean_interval(sbd(report.parent, 'tiny'))}</td>" in page


def test_interquartile_means_and_probabilities_of_improvement_are_those_of_the_runs(report, finished):
    text, heading = report.read_text(), "### Over runs"
    tiny, longer, bound = ([sbd(finished, name)] for name in ("tiny", "longer", "reconstruction"))
    better = probability_of_improvement(tiny, longer)
    assert row(text, heading, "tiny")[1:] == ["2", str(interquartile_mean(tiny)), str(better)]
    assert row(text, heading, "longer")[1:] == ["2", str(interquartile_mean(longer)), ""]
    # The bound has one result, which no seed would change: its mean has no interval, its victories have one.
    better = probability_of_improvement([bound[0] * 2], longer)
    assert row(text, heading, "reconstruction")[1:] == ["–", f"{bound[0][0]:.3f}", str(better)]
    section = text.split(heading)[1].split("### Dice per step")[0]
    assert " ".join(section.split()).startswith(CAUTION)


@pytest.fixture
def two_sets(finished, tmp_path):
    """Folders of two sets; on the second, agents score half as much, and `longer` lacks seed 0."""
    folders = [tmp_path / "plants", tmp_path / "weeds"]
    for folder in folders:
        shutil.copytree(finished / "plants", folder)
    for path in folders[1].glob("*/*/result.json"):
        content = json.loads(path.read_text())
        content["rows"]["agent"]["mean"]["sbd"] /= 2
        path.write_text(json.dumps(content))
    shutil.rmtree(folders[1] / "longer" / "seed-0")
    return folders


def test_sets_together_are_strata_and_count_the_seeds_that_all_have(two_sets, finished):
    path = two_sets[0].parent / "report.md"
    write_report(two_sets, path, "tiny", "acis benchmark")
    text, heading = path.read_text(), "## All sets together"
    tiny, longer = (np.array([sbd(finished, name)]) for name in ("tiny", "longer"))
    tiny, longer = np.concatenate([tiny, tiny / 2]), np.concatenate([longer, longer / 2])[:, 1:]
    assert row(text, heading, "tiny")[1:] == ["2", str(interquartile_mean(tiny)), ""]
    better = probability_of_improvement(longer, tiny)
    assert row(text, heading, "longer")[1:] == ["1", f"{longer.mean():.3f}", f"{better.mean:.3f}"]
    assert "![Performance profile](report/all-sets-profile.png)" in text
    assert text.split(heading)[1].split("\n\n![")[0].splitlines()[-1].startswith("| reconstruction |")


def test_a_single_set_has_no_section_on_all_sets(report):
    assert "All sets" not in report.read_text()


def test_an_agent_that_is_missing_on_a_set_is_not_in_the_table_of_all_sets(two_sets):
    shutil.rmtree(two_sets[1] / "tiny")
    path = two_sets[0].parent / "report.md"
    write_report(two_sets, path, "tiny", "acis benchmark")
    section = path.read_text().split("## All sets together")[1].split("## Agents")[0]
    assert "| longer |" in section
    assert "tiny" not in section


def test_results_of_other_scenes_or_of_another_budget_are_not_put_into_one_table(finished, tmp_path):
    for name, value in (("scenes_sum", "00000000"), ("budget", "small")):
        folder = tmp_path / name / "plants"
        shutil.copytree(finished / "plants", folder)
        for path in folder.glob("tiny/*/result.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
        with pytest.raises(ValueError, match=f"results of one set must have one {name}"):
            SetResults.load(folder)


def test_seeds_of_other_scenes_or_networks_are_not_put_into_one_table_although_the_last_ones_agree(finished, tmp_path):
    assert SetResults.load(finished / "plants").first("tiny")["networks_sum"] is not None
    for name, what in (("scenes_sum", "scenes_sum"), ("networks_sum", "pair of networks around the actions")):
        folder = tmp_path / name / "plants"
        shutil.copytree(finished / "plants", folder)
        path = folder / "tiny" / "seed-0" / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), name: "0"}))
        with pytest.raises(ValueError, match=rf"must have one {what}, got .*0 \(tiny, seed 0\)"):
            SetResults.load(folder)


def test_results_of_networks_that_were_replaced_are_refused(finished, plants, tiny_agent, tmp_path):
    task = Task(finished / "plants" / "tiny" / "seed-0", plants, plants.weights["standard"], "smoke", 0)
    check_networks([Cell(task, "tiny", tiny_agent)])
    other = tmp_path / "weights"
    shutil.copytree(plants.weights["standard"], other)
    card = json.loads((other / "autoencoder.json").read_text())
    del card["sha256"]
    write_json(other / "autoencoder.json", {**card, "weights_sha256": "0"}, checksum=True)
    with pytest.raises(ValueError, match=r"result.json was made with other networks than those in .*weights now"):
        check_networks([Cell(replace(task, weights=str(other)), "tiny", tiny_agent)])


def test_published_rows_stand_only_under_their_own_data_set_and_say_that_they_are_published(finished, tmp_path):
    shutil.copytree(finished / "plants", tmp_path / "kitti")
    write_report([tmp_path / "kitti"], tmp_path / "report.md", "tiny", "acis benchmark")
    text = (tmp_path / "report.md").read_text()
    assert "Published, other scenes or protocol than above: KITTI cars, 120 test scenes" in text
    assert row(text, "120 test scenes", "AC-IoU") == ["AC-IoU", "0.756", "0.573", "0.338", "0.309"]
    assert "CVPPP" not in text


def test_an_agent_that_was_trained_before_has_no_minutes_of_training(report, finished, tmp_path):
    shutil.copytree(finished / "plants", tmp_path / "plants")
    shutil.rmtree(tmp_path / "plants" / "tiny" / "seed-1")
    file = tmp_path / "plants" / "tiny" / "seed-0" / "result.json"
    write_json(file, {**json.loads(file.read_text()), "is_seeded": False})
    write_report([tmp_path / "plants"], tmp_path / "report.md", "longer", "")
    before, after = report.read_text(), (tmp_path / "report.md").read_text()
    for heading, column in (("## plants", -1), ("### Speed and memory", 1)):
        assert row(after, heading, "tiny")[column] == "–" != row(before, heading, "tiny")[column]
        assert row(after, heading, "longer")[column] == row(before, heading, "longer")[column] != "–"
