"""Other systems, simulated: no module that only POSIX has, no write through a handle for reading, narrow consoles."""

import ast
import builtins
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import acis_env
from acis_env.files import replacing

ROOT = Path(acis_env.__file__).parents[1]
POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
SOURCES = [ROOT / "acis_command.py", *(path for name in ("acis_env", "agents") for path in (ROOT / name).rglob("*.py"))]


def imported(body):
    """Modules that a body of statements imports without a function being called and without a way out."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.ClassDef | ast.If | ast.With):
            yield from imported(node.body)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_needs_one_that_only_posix_has(path):
    assert not POSIX_ONLY & set(imported(ast.parse(path.read_text(encoding="utf-8")).body))


def python(code, *arguments, **variables):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code, *map(os.fsencode, arguments)]
    return subprocess.run(command, env=env, capture_output=True, timeout=120)


def test_every_command_is_imported_where_the_standard_library_has_no_resource():
    code = """import importlib, sys
sys.modules["resource"] = None
from agents.commands.main import COMMANDS
for name in COMMANDS:
    importlib.import_module(f"agents.commands.{name}")
from acis_env.allocator import peak_memory
print(peak_memory())"""
    assert python(code).stdout.split() == [b"nan"]


def test_files_are_flushed_through_handles_that_may_write(tmp_path, monkeypatch):
    modes, fsync, opened = [], os.fsync, {}
    plain_open = Path.open

    def note(path, mode="r", *arguments, **options):
        file = plain_open(path, mode, *arguments, **options)
        opened[file.fileno()] = mode
        return file

    monkeypatch.setattr(Path, "open", note)
    monkeypatch.setattr(builtins, "open", lambda path, mode="r", *a, **k: note(Path(path), mode, *a, **k))
    monkeypatch.setattr(os, "fsync", lambda number: (modes.append(opened.get(number, "")), fsync(number)))
    with replacing(tmp_path / "file") as unfinished:
        unfinished.write_bytes(b"content")
    flushed = [mode for mode in modes if mode]
    assert flushed
    assert all(set(mode) & set("wax+") for mode in flushed)


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        (["blätter.png"], "ascii"),
        (["叶.png"], "cp1252"),
        (["a [1] %s 100%;#.png", "two\nlines.png", b"\xff.png"], "utf-8"),
    ],
)
def test_a_console_that_lacks_a_letter_of_a_name_is_no_problem(agent_file, tmp_path, names, encoding):
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for path in paths:
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path, format="PNG")
    code = "from agents.commands.main import main; main()"
    options = ["--agent", agent_file, "--out", tmp_path / "out"]
    done = python(code, "segment", *paths, tmp_path / "none-ü.png", *options, PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"no such" in done.stderr
    done = python(code, "segment", *paths, *options, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"left after overlaps") == len(paths)


@pytest.fixture(scope="session")
def agent_file(tmp_path_factory):
    """An agent that is as small as they come."""
    path = tmp_path_factory.mktemp("agent") / "agent.pt"
    code = """import sys, torch
from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.decoder import AutoencoderConfig
from acis_env.networks import TrunkConfig
from acis_env.weights import Pretrained
from agents.models.actor import Actor, ActorConfig
from agents.models.agent import Agent
trunk = TrunkConfig((4, 6), 8, "stride")
config = AutoencoderConfig((32, 32), 4, 16, 4, (6, 4), trunk)
context_network = ContextNetwork(ContextConfig(widths=(4, 6), size=(32, 32)))
networks = Pretrained(context_network.eval(), MaskAutoencoder(config).eval())
Agent(Actor(config, ActorConfig(6, 1, 8, 4)), networks, max_steps=2).save(sys.argv[1])"""
    done = python(code, path)
    assert done.returncode == 0, done.stderr
    return path
