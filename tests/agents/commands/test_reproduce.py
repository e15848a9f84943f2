"""`acis reproduce`: the names it knows; tests/agents/experiments run it."""

import json

import pytest

from agents.commands.main import main
from agents.commands.reproduce import Reproduce


def test_unknown_names_are_listed_with_what_there_is(tmp_path):
    with pytest.raises(
        ValueError, match="unknown set 'leafs': expected one of leaves, leaves-224, cars, leaves-crowded"
    ):
        Reproduce(sets=("leafs",), out=tmp_path).run()
    with pytest.raises(ValueError, match="unknown method 'BL-Dise': expected one of BL-Dice, "):
        Reproduce(methods=("BL-Dise",), out=tmp_path).run()
    with pytest.raises(ValueError, match="unknown scale 'huge'"):
        Reproduce(scale="huge", out=tmp_path).run()


def test_a_command_that_may_run_no_process_is_a_mistake(mistake, tmp_path):
    assert "jobs must be at least 1, got 0" in mistake("reproduce", "--jobs", 0, "--out", tmp_path)


def test_the_plan_says_what_is_to_do_and_how_long_it_takes_and_an_interruption_names_the_folder(
    tmp_path, monkeypatch, capsys
):
    def interrupt(cells, limit):
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.commands.reproduce.run_cells", interrupt)
    done = tmp_path / "leaves" / "BL" / "seed-0" / "result.json"
    done.parent.mkdir(parents=True)
    done.write_text(json.dumps({"cpu_seconds": 50.0}))
    with pytest.raises(SystemExit) as exit_info:
        main(["reproduce", "--methods", "BL", "AC-Dice", "--seeds", "0", "1", "--jobs", "2", "--out", str(tmp_path)])
    assert exit_info.value.code == 130
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "leaves/BL: 1 of 2 done, 50 s each (measured)",
        "leaves/AC-Dice: 0 of 2 done, 2 min each (assumed)",
        "3 of 4 runs to do: 4 min of CPU time, about 2 min with 2 at a time, evaluations not counted",
    ]
    assert f"acis: interrupted: {tmp_path} keeps what is done, and the same command goes on from there" in err
