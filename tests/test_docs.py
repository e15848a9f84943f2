"""The programs in the documentation run as they stand, and its commands have the options that they are given."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from agents import Stage, TrainConfig, Trainer
from agents.algorithms import BaselineConfig
from agents.commands.benchmark import Benchmark
from agents.commands.data import Data
from agents.commands.evaluate import Evaluate
from agents.commands.export import Export
from agents.commands.paper import Paper
from agents.commands.pretrain import Pretrain
from agents.commands.quickstart import Quickstart
from agents.commands.reproduce import Reproduce
from agents.commands.segment import Segment
from agents.commands.submit import Submit
from agents.commands.train import Train
from agents.commands.watch import Watch
from benchmarks.arguments import Arguments

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plugging_in.md"
LIBRARIES = {
    "Your own loop": "torch",
    "Gymnasium's vector wrappers": "torch",
    "Your own decoder and context": "torch",
    "Stable-Baselines3": "stable_baselines3",
    "TorchRL": "torchrl",
    "skrl": "skrl",
    "rsl_rl": "rsl_rl",
}
COMMANDS = {
    "benchmark": Benchmark,
    "data": Data,
    "evaluate": Evaluate,
    "export": Export,
    "paper": Paper,
    "pretrain": Pretrain,
    "quickstart": Quickstart,
    "reproduce": Reproduce,
    "segment": Segment,
    "submit": Submit,
    "train": Train,
    "watch": Watch,
}
LAUNCHERS = ("acis", ".venv/bin/acis", "agents.commands")
"""Words before the name of a command."""
WITH_COMMANDS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/benchmark.md",
    "docs/cite.md",
    "docs/data.md",
    "docs/export.md",
    "docs/faq.md",
    "docs/published.md",
    "docs/start.md",
    "docs/training.md",
    "docs/performance.md",
    "docs/watch.md",
)


def blocks(text, language):
    """The code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def programs(section):
    """The programs of a section of the page, in order."""
    return blocks(PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0], "python")


def run(found, source):
    """Run programs one after the other in one namespace, and return it."""
    assert found
    namespace = {"__name__": "program"}
    for program in found:
        exec(compile(program, source, "exec"), namespace)
    return namespace


def commands(page):
    """The commands of ours in a page's shell blocks: what reads their arguments, and the arguments."""
    for block in blocks((ROOT / page).read_text(), "bash"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            for before, word in enumerate(words):
                if word in LAUNCHERS:
                    yield COMMANDS[words[before + 1]], words[before + 2 :]
                elif word == "benchmarks":
                    yield Arguments, words[before + 1 :]


@pytest.mark.parametrize("section", LIBRARIES)
def test_the_programs_of_a_section_run_one_after_the_other(section):
    pytest.importorskip(LIBRARIES[section])
    run(programs(section), f"{PAGE.name}: {section}")


def test_every_section_with_a_program_is_run():
    sections = re.findall(r"\n## (.*?)\n", PAGE.read_text())
    assert {section for section in sections if programs(section)} == set(LIBRARIES)


def test_the_programs_about_training_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(blocks((ROOT / "docs" / "training.md").read_text(), "python"), "training.md")


def test_the_programs_of_the_start_page_run_once_there_is_an_agent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = Stage("main", BaselineConfig(), iterations=1)
    Trainer(TrainConfig(stages=(stage,), batch_size=2, eval_scenes=1), Path("quickstart")).run()
    found = run(blocks((ROOT / "docs" / "start.md").read_text(), "python"), "start.md")
    assert found["observations"]["image"].shape == (8, 3, 64, 64)
    assert found["result"].label_map.shape == found["image"].shape[1:] == (64, 64)


def test_final_obs_of_the_faq_is_the_last_observation_of_every_episode_and_not_the_first_of_the_next():
    found = run(blocks((ROOT / "docs" / "faq.md").read_text(), "python"), "faq.md")
    assert found["ended"].all()
    masks = slice(3 * 16, 4 * 16)  # the plane of masks among the 13 of 4x4
    assert (found["returned"][:, masks] == 0).all()
    assert (found["last"][:, masks] > 0).any(dim=1).all()


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_have_the_options_that_they_are_given(page):
    found = list(commands(page))
    assert found
    for command, arguments in found:
        parsed = tyro.cli(command, args=arguments, config=(tyro.conf.CascadeSubcommandArgs,))
        if isinstance(parsed, Train):
            assert parsed.resume or parsed.resolved().stages
