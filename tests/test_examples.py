"""What a newcomer copies: the README's first program, and the shortest example."""

import importlib.util
import re
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def load(path):
    """Import a script by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_first_program_of_the_readme_runs_and_finishes_episodes(capsys):
    program = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]
    exec(compile(program, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("tensor([") for line in lines)


def test_the_random_agent_earns_less_than_half_of_what_there_is(capsys):
    module = load(ROOT / "examples" / "random_agent.py")
    torch.manual_seed(0)
    module.main(module.Args(num_envs=4, steps=30))
    episodes, dice, sbd = re.fullmatch(
        r"(\d+) episodes: Dice per instance ([\d.]+), SBD ([\d.]+)\n", capsys.readouterr().out
    ).groups()
    assert int(episodes) > 8
    assert 0 < float(dice) < 0.5
    assert 0 < float(sbd) < 0.5
