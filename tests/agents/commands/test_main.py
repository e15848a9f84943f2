"""The entry point: what it lists, what it imports, and one line for every mistake."""

import importlib
import importlib.metadata
import os
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
    assert done.returncode == 2
    assert done.stderr.strip() == f"acis: {tmp_path / 'none.png'}: no such image"


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_wait_without_turning_unless_the_user_says_so_before_torch_is_imported(given, expected):
    code = """import os, sys
from agents.commands.main import main
class Spy:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr)
sys.meta_path.insert(0, Spy())
main(["segment", "--help"])"""
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {} if given is None else {"OMP_WAIT_POLICY": given}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.stderr.split() == [expected]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: 9 GB")])
def test_a_lack_of_memory_is_one_line(mistake, monkeypatch, error):
    def run(self):
        raise error

    monkeypatch.setattr("agents.commands.quickstart.Quickstart.run", run)
    assert "out of memory: use smaller sizes" in mistake("quickstart")


@pytest.mark.parametrize("words", ["a slip", "CUDA error: an illegal memory access was encountered"])
def test_an_error_of_our_own_keeps_its_traceback(acis, monkeypatch, words):
    def run(self):
        raise RuntimeError(words)

    monkeypatch.setattr("agents.commands.quickstart.Quickstart.run", run)
    with pytest.raises(RuntimeError, match=words):
        acis("quickstart")
