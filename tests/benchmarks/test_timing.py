"""Times, tables and reports."""

import json
from time import sleep

import numpy as np
import pytest

from benchmarks.timing import Row, Times, draw_growth, interleave, machine, table


def times(*milliseconds):
    return Times(np.array(milliseconds))


def test_calls_take_turns_after_a_round_that_is_not_timed():
    log = []
    calls = {"a": lambda: log.append("a"), "b": lambda: log.append("b")}
    found = interleave(calls, 2, "cpu", prepare=log.append)
    assert log == [0, "a", "b", 1, "b", "a", 2, "a", "b"]
    assert {name: len(each.samples) for name, each in found.items()} == {"a": 2, "b": 2}


def test_times_are_milliseconds_without_preparation():
    found = interleave({"slow": lambda: sleep(0.02), "fast": lambda: None}, 3, "cpu", lambda _: sleep(0.05))
    assert 20 <= found["slow"].median < 200
    assert found["fast"].median < 40


def test_the_ratio_says_how_many_times_faster_ours_is_by_medians():
    row = Row("step", "64x64", times(1, 2, 90), times(5, 6, 7), "other")
    assert row.ratio == 3
    assert Row("step", "64x64", times(1)).ratio is None
    assert row.to_json()["ours"] == {
        "median_ms": 2,
        "lower_quartile_ms": 1.5,
        "upper_quartile_ms": 46,
        "repeats": 3,
    }


def test_a_table_has_a_cell_for_everything_and_gaps_for_what_was_not_measured():
    rows = [Row("step", "B=1", times(2), times(5), "naive", "note"), Row("gpu", "", note="not measured")]
    assert table(rows).splitlines()[2:] == [
        "| step | B=1 | 2 | 5 | 2.50 | naive | note |",
        "| gpu |  |  |  |  |  | not measured |",
    ]


def test_hardware_and_versions_are_told():
    about = machine("cpu")
    assert about["threads"] >= 1
    assert about["cpu"]
    assert about["torch"].split(".")[0].isdigit()
    json.dumps(about)


def test_a_growth_curve_is_a_picture(tmp_path):
    draw_growth(tmp_path / "new" / "growth.png", "pixels", [1, 2], [1.0, 2.0])
    assert (tmp_path / "new" / "growth.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="same first dimension"):
        draw_growth(tmp_path / "other.png", "pixels", [1, 2], [1.0])
    assert not (tmp_path / "other.png").exists()
