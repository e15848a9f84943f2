"""`acis reproduce`: the names it knows; tests/agents/experiments run it."""

import pytest

from agents.commands.reproduce import Reproduce


def test_unknown_names_are_listed_with_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="unknown set 'roses': expected one of leaves, leaves-crowded"):
        Reproduce(sets=("roses",), out=tmp_path).run()
    with pytest.raises(ValueError, match="unknown method 'DC': expected one of BL, BL-Trunc"):
        Reproduce(methods=("DC",), out=tmp_path).run()
    with pytest.raises(ValueError, match="unknown scale 'huge'"):
        Reproduce(scale="huge", out=tmp_path).run()


def test_a_command_that_may_run_no_process_is_a_mistake(mistake, tmp_path):
    assert "jobs must be at least 1, got 0" in mistake("reproduce", "--jobs", 0, "--out", tmp_path)
