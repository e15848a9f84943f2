"""What GitHub, pre-commit, Docker and conda read says the same as setup.cfg and names only files that are there."""

import configparser
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
RECIPE = ROOT / "conda" / "meta.yaml"
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
OTHER_NAMES = {"opencv-python-headless": "py-opencv", "torch": "pytorch", "matplotlib": "matplotlib-base"}
"""Names of packages of conda that are not those of pip."""


def load(path):
    return yaml.safe_load(path.read_text())


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements():
    """Oldest supported version of every package that we need, by its name; "" where any will do."""
    lines = settings()["options"]["install_requires"].strip().splitlines()
    return dict(line.split(">=") if ">=" in line else (line, "") for line in lines if not line.startswith("#"))


def pinned(name):
    """Versions of a file of constraints."""
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def steps(workflow):
    return [step for job in load(workflow)["jobs"].values() for step in job.get("steps", [])]


def named_files(command):
    """Words of a shell command that are files or folders of ours: no options, addresses, nor paths with a variable."""
    for word in shlex.split(command, comments=True):
        is_path = "/" in word or word.endswith((".py", ".sh", ".txt", ".cfg", ".toml"))
        if is_path and not word.startswith(("-", "http", "fresh/")) and not set(" $;") & set(word):
            yield word


def test_the_words_of_a_command_that_are_files_are_found():
    command = 'pip install -c constraints.txt "$HOME"/dist/*.whl && python -m pytest tests/a.py -k "a/b c" # x/y'
    assert list(named_files(command)) == ["constraints.txt", "tests/a.py"]


@pytest.mark.parametrize("path", ["CITATION.cff", "conda/meta.yaml"])
def test_the_version_is_that_of_the_package(path):
    (found,) = re.findall(r'^(?:version: |\{% set version = ")([\w.]+)', (ROOT / path).read_text(), flags=re.MULTILINE)
    assert found == settings()["metadata"]["version"]


def test_the_citation_names_the_paper_and_us():
    citation = load(ROOT / "CITATION.cff")
    assert [author["name"] for author in citation["authors"]] == ["The acis-env developers"]
    assert citation["license"] == settings()["metadata"]["license"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Araslanov", "Rothkopf", "Roth"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_only_what_is_there(workflow):
    jobs = load(workflow)["jobs"]
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        for name in named_files(step.get("run", "")):
            assert (ROOT / name).exists(), name
    for job in jobs.values():
        assert ("uses" in job) != ("steps" in job)
        if "uses" in job:
            called = load(ROOT / job["uses"])
            assert "workflow_call" in called[True]  # YAML reads the key `on` as true
        assert set([job.get("needs", [])] if isinstance(job.get("needs"), str) else job.get("needs", [])) <= set(jobs)


def test_the_workflows_run_the_projects_own_checks_and_nightly_the_cards():
    commands = {path.stem: [step["run"] for step in steps(path) if "run" in step] for path in WORKFLOWS}
    assert ".ci/run" in commands["tests"]
    assert ".ci/oldest" in commands["tests"]
    assert any("test_bundled.py" in command for command in commands["nightly"])


def test_a_release_waits_for_tests_and_wheel_and_only_its_last_job_may_publish():
    jobs = load(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert jobs["publish"]["needs"] == ["tests", "wheel"]
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]


def test_the_oldest_python_that_is_tested_is_the_oldest_that_is_supported():
    jobs = load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    oldest = settings()["options"]["python_requires"].removeprefix(">=")
    assert jobs["newest"]["strategy"]["matrix"]["python"][0] == oldest
    (setup,) = [step for step in jobs["oldest"]["steps"] if "python-version" in step.get("with", {})]
    assert setup["with"]["python-version"] == oldest


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_supported():
    tested = pinned("constraints-oldest.txt")
    assert tested.keys() == requirements().keys()
    for name, version in requirements().items():
        assert (tested[name] + ".").startswith(version + "."), name


def test_the_recipe_of_conda_needs_what_the_package_needs():
    run = RECIPE.read_text().split("  run:\n")[1].split("\n\n")[0]
    found = dict(re.findall(r"^    - ([\w-]+) >=([\w.]+)$", run, flags=re.MULTILINE))
    expected = {OTHER_NAMES.get(name, name): version for name, version in requirements().items()}
    assert found == {"python": settings()["options"]["python_requires"].removeprefix(">="), **expected}


def test_pre_commit_has_the_versions_of_the_continuous_integration():
    versions = pinned("constraints.txt")
    found = {Path(repo["repo"]).name: repo["rev"] for repo in load(ROOT / ".pre-commit-config.yaml")["repos"]}
    assert found == {"ruff-pre-commit": f"v{versions['ruff']}", "codespell": f"v{versions['codespell']}"}


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_the_questions_of_an_issue_form_have_names_of_their_own(form):
    names = [part["id"] for part in load(form).get("body", [])]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_acis_as_an_ordinary_user(dockerfile):
    lines = dockerfile.read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER acis"]
    assert 'ENTRYPOINT ["acis"]' in lines


def test_images_are_made_of_everything_that_the_package_is_built_from():
    parts = (ROOT / ".dockerignore").read_text().split()
    let_in = {part.removeprefix("!") for part in parts if part.startswith("!")}
    assert all((ROOT / part).exists() for part in let_in)
    options = settings()["options"]
    packages = {name.rstrip("*") for name in settings()["options.packages.find"]["include"].split()}
    modules = {f"{name}.py" for name in options["py_modules"].split()}
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", *packages, *modules} <= let_in
