"""The tables of docs/results are those of the runs beside them."""

import json
from pathlib import Path

import pytest

from tests.scripts import load_script

FOLDER = Path(__file__).parents[1] / "docs" / "results"
PAGE = (FOLDER / "README.md").read_text()
PAIRS = [
    ("small", "Critic-Search-Outcomes", "BL-Trunc-Dice-Refined"),
    ("small", "Critic-Search-Outcomes", "Critic-Search"),
    ("small", "Critic-Search", "BL-Trunc-Dice-Refined"),
    ("small", "Candidate-AC", "BL-Trunc"),
    ("quick", "Candidate-AC", "AC-Dice"),
    ("quick", "Critic-Search", "Critic-Search-NoStop"),
    ("quick", "Critic-Search", "Critic-Search-NoRefine"),
    ("nuclei-224", "Critic-Search-Outcomes", "watershed"),
]
"""Folder of the runs and methods of the page's comparisons."""


@pytest.fixture(scope="module")
def compare():
    """The script as a module."""
    return load_script(FOLDER / "compare.py")


def write_runs(path, runs):
    """Write runs of two scenes, given as (method, seed, SBD per scene, difference in count per scene)."""
    entries = []
    for method, seed, sbd, dic in runs:
        means = {"sbd": sum(sbd) / 2, "sbd_gt_stop": 0.9, "abs_dic": sum(map(abs, dic)) / 2}
        scenes = {"sbd": sbd, "dic": dic}
        entries.append({"set": "x", "method": method, "seed": seed, "mean": {"agent": means}, "scenes": scenes})
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize("folder", ["quick", "small", "leaves-224", "nuclei-224"])
def test_the_means_of_the_page_are_those_of_its_runs(compare, folder):
    rows = list(compare.means(compare.read(FOLDER / folder / "runs.json")))
    assert rows
    assert [row for row in rows if row not in PAGE] == []


@pytest.mark.parametrize(("folder", "first", "second"), PAIRS)
def test_the_differences_of_the_page_are_those_of_its_runs(compare, folder, first, second):
    rows = list(compare.differences(compare.read(FOLDER / folder / "runs.json"), first, second))
    assert rows
    assert [row for row in rows if row not in PAGE] == []
    assert f"compare.py docs/results/{folder}/runs.json --pair {first} {second}" in PAGE


def test_runs_are_paired_by_seed_and_scenes_by_their_number(compare, tmp_path, capsys):
    runs = [
        ("a", 0, [0.9, 0.7], [0, -2]),
        ("a", 1, [0.7, 0.7], [1, 0]),
        ("a", 2, [0.8, 0.6], [0, 0]),
        ("a", 3, [0.0, 0.0], [9, 9]),  # the other method lacks this seed
        ("b", 2, [0.7, 0.5], [0, 0]),
        ("b", 0, [0.8, 0.5], [0, 3]),
        ("b", 1, [0.4, 0.5], [-1, 2]),
    ]
    path = write_runs(tmp_path / "runs.json", runs)
    compare.main(compare.Args(path, ("a", "b")))
    head, line, row = capsys.readouterr().out.splitlines()
    assert head.replace(r"\|", "").count("|") == line.count("|") == row.count("|") == 7
    # SBD of runs: .8 - .65, .7 - .45, .7 - .6; of scenes over runs: .8 and .667 beside .633 and .5.
    # Errors of counts: 1 - 1.5, .5 - 1.5, 0 - 0; of scenes over runs: .333 and .667 beside .333 and 1.667.
    assert row == "| x | 0, 1, 2 | 0.167 ± 0.190 | 0.167 | -0.500 ± 1.242 | -0.500 |"
    compare.main(compare.Args(path))
    assert "| x | b | 0, 1, 2 | 0.567 ± 0.259 | 0.900 ± 0.000 | 1.000 ± 2.151 |" in capsys.readouterr().out


def test_what_cannot_be_compared_is_named(compare, tmp_path):
    path = write_runs(tmp_path / "runs.json", [("a", 0, [1, 1], [0, 0]), ("b", 1, [1, 1], [0, 0])])
    assert list(compare.differences(compare.read(path), "a", "b")) == []
    with pytest.raises(
        SystemExit, match=r"runs of a and b with the same seed on one set; its methods are \['a', 'b'\]"
    ):
        compare.main(compare.Args(path, ("a", "b")))
    with pytest.raises(SystemExit, match=r"none\.json is not there"):
        compare.main(compare.Args(tmp_path / "none.json"))
