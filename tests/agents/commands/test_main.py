"""The entry point: what it lists, what it imports, and one line for every mistake."""

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import agents
from agents.commands.main import COMMANDS, main

ROOT = Path(agents.__file__).parents[1]


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_help_names_every_command_and_what_it_does(acis):
    printed = acis("--help")
    for name, line in COMMANDS.items():
        assert any(found.split() == [name, *line.split()] for found in printed.splitlines())


def test_every_module_of_a_command_is_listed_and_holds_its_arguments():
    modules = {path.stem for path in (ROOT / "agents" / "commands").glob("*.py")}
    assert modules - {"__init__", "__main__", "main"} == set(COMMANDS)
    for name in COMMANDS:
        command = getattr(importlib.import_module(f"agents.commands.{name}"), name.capitalize())
        assert callable(command.run)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_library(option):
    code = f"""import sys
from agents.commands.main import main
main(["{option}"])
print(sorted({{"torch", "numpy", "scipy", "gymnasium", "tyro", "acis_env"}} & set(sys.modules)))"""
    done = python("-c", code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_command_imports_no_module_of_another_one():
    code = """import sys
from agents.commands.main import COMMANDS, main
try:
    main(["segment", "--help"])
finally:
    print(sorted(name for name in COMMANDS if f"agents.commands.{name}" in sys.modules))"""
    assert python("-c", code).stdout.splitlines()[-1] == "['segment']"


def test_the_version_is_that_of_the_package(acis):
    assert acis("--version") == f"acis {importlib.metadata.version('acis-env')}\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("trian", "did you mean train"), ("evaluation", "did you mean evaluate"), ("x", "expected one of")],
)
def test_an_unknown_command_is_answered_by_the_nearest_ones_and_status_2(name, hint, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([name])
    assert exit_info.value.code == 2
    assert f"unknown command {name!r}: {hint}" in capsys.readouterr().err


def test_without_a_command_all_of_them_are_named(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([])
    assert exit_info.value.code == 2
    assert f"no command given: expected one of {', '.join(COMMANDS)}" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_arguments(name, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([name, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: acis {name} " in capsys.readouterr().out


def test_from_a_shell_a_mistake_is_one_line_and_a_status_without_traceback(tmp_path):
    arguments = ["segment", str(tmp_path / "none.png"), "--agent", str(tmp_path), "--out", str(tmp_path)]
    done = python("-m", "agents.commands", *arguments)
    assert done.returncode == 1
    assert done.stderr.strip() == f"acis: {tmp_path / 'none.png'}: no such image"
