"""`acis watch` before it serves anything; tests/agents/watch has its page."""

import importlib.util

import pytest

from agents.commands.main import main
from agents.commands.watch import Watch


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"port": 65536}, ValueError, "port must be from 0 to 65535, got 65536"),
        ({"max_steps": 0}, ValueError, "max_steps must be at least 1, got 0"),
        ({"device": "abacus"}, ValueError, "abacus"),
        ({"agent": "leaves-46"}, FileNotFoundError, "leaves-46: no such file; .*: leaves-64, leaves-224, nuclei-64"),
        ({"scenes": "leafs"}, FileNotFoundError, "scenes 'leafs': expected a folder or .* 'leaves'"),
        ({"split": "exam"}, ValueError, "exam"),
    ],
)
def test_what_cannot_be_served_is_refused(options, error, message):
    pytest.importorskip("agents.watch.server")
    with pytest.raises(error, match=message):
        Watch(**options).run()


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch, capsys):
    find, missing = importlib.util.find_spec, ("starlette", "uvicorn")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(SystemExit):
        main(["watch"])
    assert capsys.readouterr().err == "acis: acis watch needs starlette and uvicorn: pip install 'acis-env[watch]'\n"
