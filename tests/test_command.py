"""The command beside other distributions that have a package of the same name as one of ours."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import acis_env

ROOT = Path(acis_env.__file__).parents[1]
START = "from acis_command import main; main()"
THEIRS = {"__init__.py": "from agents.agent import Agent\n", "agent.py": "class Agent: ...\n"}


def write_package(folder):
    for name, content in THEIRS.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def write_distribution(site, name, files):
    """What pip leaves of a distribution: names and hashes of its files."""
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "RECORD").write_text("".join(f"{path},sha256={digest(site / path)},1\n" for path in files))


def digest(path):
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")


@pytest.fixture
def site(tmp_path):
    """Our packages as they are installed."""
    folder = tmp_path / "site"
    for package in ("acis_env", "agents"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "pretrained"))
    shutil.copy(ROOT / "acis_command.py", folder)
    files = [path.relative_to(folder).as_posix() for path in (folder / "agents").rglob("*.py")]
    write_distribution(folder, "acis-env", files)
    return folder


def run(tmp_path, *path, arguments=("--help",), code=START):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["segment", "--help"]])
def test_the_command_works_where_another_package_agents_comes_first(site, tmp_path, arguments):
    write_package(tmp_path / "first" / "agents")
    done = run(tmp_path, tmp_path / "first", site, arguments=arguments)
    assert done.returncode == 0, done.stderr
    assert "acis" in done.stdout


def test_processes_that_the_command_spawns_have_our_agents_too(site, tmp_path):
    write_package(tmp_path / "first" / "agents")
    script = tmp_path / "acis"
    script.write_text(
        "from acis_command import main\n"
        "if __name__ == '__main__':\n"
        "    import multiprocessing\n"
        "    from agents.commands.main import main as spawned\n"
        "    process = multiprocessing.get_context('spawn').Process(target=spawned, args=(['--help'],))\n"
        "    process.start(); process.join(); raise SystemExit(process.exitcode)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path / "first", site)))}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage: acis" in done.stdout


def test_files_that_another_distribution_has_overwritten_are_named_with_the_way_out(site, tmp_path):
    write_package(site / "agents")
    write_distribution(site, "openai-agents", ["agents/__init__.py", "agents/agent.py"])
    done = run(tmp_path, site)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"acis: {site / 'agents' / '__init__.py'} is missing or not ours: openai-agents has a package" in done.stderr
    assert "pip uninstall openai-agents && pip install --force-reinstall --no-deps acis-env" in done.stderr


@pytest.mark.parametrize("name", ["__init__.py", "models/__init__.py", "commands/main.py"])
def test_files_that_another_distribution_took_along_are_named(site, tmp_path, name):
    (site / "agents" / name).unlink()
    done = run(tmp_path, site)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "acis: " in done.stderr
    assert "run `pip install --force-reinstall --no-deps acis-env`" in done.stderr


def test_a_file_that_its_user_has_changed_is_no_damage(site, tmp_path):
    with (site / "agents" / "models" / "actor.py").open("a") as file:
        file.write("\n# mine\n")
    assert run(tmp_path, site).returncode == 0


def test_help_imports_no_library(site, tmp_path):
    code = (
        "import sys\n" + START + "\nprint(sorted({'torch', 'numpy', 'gymnasium', 'tyro', 'acis_env'} & {*sys.modules}))"
    )
    assert run(tmp_path, site, code=code).stdout.splitlines()[-1] == "[]"
