"""Tables, reports and pictures of evaluations, which say the same."""

import json

import numpy as np
import pytest
from PIL import Image

from agents.evaluation.tables import CONDITIONS, TABLE, format_table, scene_sheet, write_report


def test_the_report_says_what_the_table_says(rows, source, tmp_path):
    evaluations = rows(num_pictures=3)
    write_report(tmp_path / "report", evaluations, source, {"run": "here"})
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert report["about"] == {"run": "here"}
    assert report["num_scenes"] == 12
    header, *lines = format_table(evaluations).splitlines()
    assert header.split() == [*TABLE, *CONDITIONS]
    for line, (name, row) in zip(lines, report["rows"].items(), strict=True):
        assert line.startswith(name)
        words = line.removeprefix(name).strip().split("  ")
        *numbers, stopping, foreground, preprocessing, threshold, overlaps, fill = [
            word.strip() for word in words if word
        ]
        expected = {"reconstruction": "true count", "random actions": "random", "random codes": "random"}
        assert stopping == row["stopping"] == expected.get(name, "own")
        assert (foreground, preprocessing, float(threshold)) == ("none", "squeeze", 0.5)
        assert (overlaps, float(fill)) == (row["overlaps"], row["fill"]) == ("most-probable", 0)
        assert (row["foreground"], row["preprocessing"], row["threshold"]) == ("none", "squeeze", 0.5)
        assert [float(number) for number in numbers] == pytest.approx([row["mean"][c] for c in TABLE], abs=5.1e-4)
        assert len(row["scenes"]) == 12
        for column in TABLE:
            assert np.mean([scene[column] for scene in row["scenes"]]) == pytest.approx(row["mean"][column])
        assert len(row["dice_at_step"]) == 4
    for picture in ("scenes.png", "dice_per_step.png"):
        with Image.open(tmp_path / "report" / picture) as image:
            assert np.array(image).std() > 0


def test_the_sheet_has_a_row_per_scene_and_a_column_per_evaluation(rows, source):
    few, more = (rows(num_pictures=n) for n in (1, 3))
    assert scene_sheet(more, source).shape[0] > 2 * scene_sheet(few, source).shape[0]
    assert scene_sheet(more, source).shape[1] > scene_sheet(more[:1], source).shape[1]
