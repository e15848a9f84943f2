"""The commands that made a run."""

import json
import subprocess
import sys

import pytest

from agents.training.command_line import record_command

PROGRAM = "from agents.training.command_line import command_line\nprint(command_line())\n"


@pytest.mark.parametrize(
    ("start", "expected"),
    [(["tool.py"], "python tool.py"), (["tool"], "tool"), (["-m", "tool"], "python -m tool")],
)
def test_a_command_is_told_as_it_was_typed_without_the_folder_of_the_program(start, expected, tmp_path):
    for name in ("tool.py", "tool"):
        (tmp_path / name).write_text(PROGRAM)
    words = start if start[0] == "-m" else [str(tmp_path / start[0])]
    env = {"PYTHONPATH": ":".join([str(tmp_path), *sys.path]), "PATH": ""}
    command = [sys.executable, *words, "--name", "two words"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{expected} --name 'two words'\n", done.stderr


def test_commands_that_go_on_with_a_run_come_after_the_one_that_began_it(tmp_path, monkeypatch):
    for arguments in (["train", "quick"], ["train", "--resume", "runs/x"]):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/acis", *arguments])
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
        record_command(tmp_path)
    commands = json.loads((tmp_path / "commands.json").read_text())["commands"]
    assert commands == ["acis train quick", "acis train --resume runs/x"]
