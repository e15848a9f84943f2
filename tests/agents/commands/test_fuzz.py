"""Whatever is written on the command line or into a file of settings, `acis` ends with a line and never a traceback."""

import importlib.util
import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acis_env.weights import load_pretrained
from agents.commands.main import COMMANDS, main
from agents.commands.pretrain import Pretrain
from agents.commands.quickstart import Quickstart
from agents.training.trainer import Trainer, load_config

HOSTILE = [
    "",
    "-1",
    "0",
    "1e999",
    "nan",
    "99999999999999999999",
    "None",
    "leaves",
    "leaf",
    "../..",
    "/dev/null",
    "a\nb",
    "\udc80",
    "ü",
    "{}",
    "{",
    "[" * 100_000,
    '{"length": -1}',
    '{"max_leaves": 1e9}',
    '{"num_envs": 0, "scenes": 3}',
    '{"augmentation": {"flipp": 1}}',
    '{"threshold": "half", "weights": []}',
    '{"device": "abacus"}',
    '{"obs": {}, "context": 1, "decoder": 2}',
    "-h",
    "--",
]
OPTIONS = {
    "quickstart": ["--out", "--seed", "--iterations", "--test-scenes", "--device"],
    "pretrain": [
        "context",
        "--out",
        "--scenes",
        "--scene-options",
        "--val-options",
        "--size",
        "--iterations",
        "--batch-size",
        "--half",
        "--latent-size",
        "--eval-every",
        "--learning-rate",
        "--augmentation.scale",
    ],
    "train": [
        "quick",
        "qick",
        "ac-dice",
        "--out",
        "--resume",
        "--scenes",
        "--scene-options",
        "--weights",
        "--env-options",
        "--batch-size",
        "--stages.1.iterations",
        "--learner.accumulate",
        "--env.id",
        "--max-steps",
    ],
    "evaluate": ["--split", "--scenes", "--scene-options", "--num-scenes", "--variant", "--out", "--device", "--trust"],
    "segment": ["--agent", "--out", "--max-steps", "--device"],
    "data": ["check", "convert", "coco", "--dataset", "--split", "--size", "--scene-options", "--num-scenes", "--out"],
    "benchmark": [
        "--sets",
        "--agents",
        "--seeds",
        "--budget",
        "--roots",
        "--weights",
        "--plan",
        "--jobs",
        "--executor",
    ],
    "paper": ["cvppp", "kitti", "--root", "--out", "--quick", "--seed", "--device"],
    "export": ["r", "--out"],
    "submit": ["cvppp", "kitti", "r", "--root", "--out", "--split", "--max-steps", "--device"],
    "reproduce": ["--sets", "--methods", "--seeds", "--scale", "--jobs", "--scenes", "--tune", "--report-only"],
    "watch": ["--agent", "--scenes", "--split", "--max-steps", "--port", "--device"],
}
STARTS = {
    "quickstart": [[], ["--iterations", "1"]],
    "pretrain": [["context", "--out", "w"], ["decoder", "--out", "w"]],
    "train": [["quick", "--out", "r"], ["ac-dice", "--out", "r"], ["--resume", "r"]],
    "evaluate": [["r"], ["r", "--num-scenes", "1"]],
    "segment": [["a.png", "--agent", "r", "--out", "o"], ["--agent", "r", "--out", "o"]],
    "data": [["check", "."], ["check", "--dataset", "masks"], ["convert", ".", "o"], ["describe"], ["example", "coco"]],
    "reproduce": [[], ["--report-only"]],
}
"""Beginnings that a command understands, so that what comes behind them is looked at."""
FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@st.composite
def command_lines(draw):
    """A command with options that it has, values of any kind, and words of no meaning."""
    command = draw(st.sampled_from([*COMMANDS, "trian", "", "-x", "\udc80"]))
    words = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_characters="\0"), max_size=8)
    known = st.sampled_from(OPTIONS.get(command, ["--out"]))
    pairs = st.tuples(known, words).map(list) | known.map(lambda word: [word]) | words.map(lambda word: [word])
    start = draw(st.just([]) | st.sampled_from(STARTS.get(command, [[]])))
    return [command, *start, *(word for pair in draw(st.lists(pairs, max_size=5)) for word in pair)]


def end_of(*arguments):
    """Status and last words of `acis`; any error that it lets through is one of this test."""
    printed, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(errors):
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            return end.code, errors.getvalue()
    return 0, printed.getvalue()


def assert_explained(code, words):
    """Success, or tyro's or `acis`'s own explanation."""
    assert code in (None, 0, 2)
    assert code != 2 or "--help" in words or words.splitlines()[-1].startswith("acis: ")
    assert "Traceback" not in words


@pytest.fixture
def _no_work(monkeypatch, tmp_path):
    """Commands go as far as their work, which is not what is tested here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "run", lambda self: None)
    monkeypatch.setattr("agents.commands.pretrain.pretrain_context", lambda *_: None)
    monkeypatch.setattr("agents.commands.pretrain.pretrain_autoencoder", lambda *_: None)
    monkeypatch.setattr(Pretrain, "_judge", lambda *_: None)
    monkeypatch.setattr("agents.commands.reproduce.run_cells", lambda *_: [])
    monkeypatch.setattr("agents.commands.benchmark.run_stages", lambda *_: [])
    if importlib.util.find_spec("uvicorn"):
        monkeypatch.setattr("agents.watch.server.make_server", lambda _: SimpleNamespace(run=lambda **_: None))
    monkeypatch.setattr("agents.commands.evaluate.compare", lambda *_, **__: sys.exit(0))
    monkeypatch.setattr(Quickstart, "run", lambda self: self._config())


@pytest.mark.usefixtures("_no_work")
@settings(FUZZ, max_examples=300)
@given(command_lines())
def test_any_command_line_ends_with_an_explanation(arguments):
    assert_explained(*end_of(*arguments))


VALUES = st.sampled_from([None, True, -1, 0, 1, 2**63, 1e300, float("nan"), "", "leaves", [], [[]], {}, {"kind": "x"}])


def places(value, path=()):
    """Every place in a JSON value, from the outside in."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def change(value, path, new):
    """A copy of `value` with `new` at `path`; without the place if `new` is `places`."""
    if not path:
        return new
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if not rest and new is places:
        del copy[key]
    else:
        copy[key] = change(value[key], rest, new)
    return copy


@st.composite
def damaged(draw, content):
    """Text of a file of settings: with another value or without one at some place, with more or cut off."""
    path = draw(st.sampled_from([place for place in places(content) if place]))
    text = json.dumps(change(content, path, draw(VALUES | st.just(places))))
    end = draw(st.none() | st.integers(0, len(text)))
    return text[:end].encode() + draw(st.sampled_from([b"", b"", b"", b"\xff", b"[" * 100_000]))


def outcome(read, path):
    """The error of `read(path)`, if it is one that `acis` explains."""
    try:
        read(path)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


@settings(FUZZ, max_examples=300)
@given(data=st.data())
def test_any_change_of_a_configuration_is_read_or_is_an_error_of_one_line_that_names_the_file(run, tmp_path, data):
    path = tmp_path / "config.json"
    path.write_bytes(data.draw(damaged(json.loads((run.folder / "config.json").read_text()))))
    problem = outcome(load_config, tmp_path)
    assert problem is None or (str(path) in problem and "\n" not in problem)


@settings(FUZZ, max_examples=100)
@given(data=st.data(), name=st.sampled_from(["context.json", "autoencoder.json"]))
def test_any_change_of_the_settings_of_weights_is_read_or_an_error_of_one_line(run, tmp_path, data, name):
    folder = tmp_path / "weights"
    shutil.copytree(run.weights, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(data.draw(damaged(json.loads((run.weights / name).read_text()))))
    problem = outcome(load_pretrained, folder)
    assert problem is None or (str(folder) in problem and "\n" not in problem)


@settings(FUZZ, max_examples=100)
@given(data=st.data())
def test_any_change_of_the_card_of_a_policy_is_an_error_of_one_line(tmp_path, data):
    card = {"kind": "program", "algorithm": "PPO", "arguments": {"scenes": "leaves", "weights": "leaves-64"}}
    (tmp_path / "policy.json").write_bytes(data.draw(damaged(card)))
    code, words = end_of("evaluate", tmp_path, *data.draw(st.sampled_from([[], ["--trust"]])))
    assert code == 2, words
    assert_explained(code, words)
