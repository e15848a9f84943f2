"""The command `acis` as a function, a run that it made from scenes to a trained agent, and pictures to segment."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from agents.commands.main import main

FEW_SCENES = json.dumps({"max_leaves": 3, "length": 5})
SCENE_OPTIONS = ["--scene-options", FEW_SCENES, "--val-options", FEW_SCENES]


def run_command(*arguments):
    """Run the command; returns what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        main([str(argument) for argument in arguments])
    return printed.getvalue()


def arguments_of_train(weights, out):
    main = "--stages.1.algorithm"
    small = [
        "--learner.actor.memory-size",
        6,
        "--learner.actor.hidden",
        8,
        f"{main}.critic.hidden",
        8,
        "--batch-size",
        3,
    ]
    short = ["--stages.0.iterations", 1, "--stages.1.iterations", 2, f"{main}.critic-warmup", 1]
    held_out = json.dumps({"scene_options": json.loads(FEW_SCENES)})
    scenes = ["--scene-options", FEW_SCENES, "--env.val-kwargs", held_out, "--eval-scenes", 2]
    scenes.append("--accept-weak-weights")
    return ["train", "ac-dice", "--out", out, "--weights", weights, f"{main}.gamma", 0.8, *small, *short, *scenes]


@pytest.fixture(scope="session")
def acis():
    """A function that runs the command with any arguments, and returns what it printed."""
    return run_command


@pytest.fixture(scope="session")
def train_arguments():
    """A function of weights and folder: arguments that train a tiny agent for three iterations."""
    return arguments_of_train


@pytest.fixture(scope="session")
def few_scenes():
    """Options of `acis pretrain` for five small plants."""
    return SCENE_OPTIONS


@pytest.fixture
def mistake():
    """A function that runs the command with any arguments, and returns the one line with which it ends."""

    def run(*arguments):
        errors = io.StringIO()
        with redirect_stderr(errors), pytest.raises(SystemExit) as exit_info:
            run_command(*arguments)
        assert exit_info.value.code == 2
        message = errors.getvalue().splitlines()[-1]  # behind what the log has said
        assert message.startswith("acis: ")
        return message

    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Everything from pre-training to a trained agent, as a user would: `weights`, `folder`, `printed`."""
    folder = tmp_path_factory.mktemp("run")
    weights, printed = folder / "weights", []
    tiny = ["--size", 32, 32, "--iterations", 2, "--batch-size", 2, "--out", weights, *SCENE_OPTIONS]
    printed.append(run_command("pretrain", "context", *tiny))
    printed.append(run_command("pretrain", "decoder", "--latent-size", 3, *tiny))
    printed.append(run_command(*arguments_of_train(weights, folder / "run")))
    return SimpleNamespace(weights=weights, folder=folder / "run", printed=printed)


@pytest.fixture
def agent_folder(agent, tmp_path):
    agent.save(tmp_path / "agent" / "agent.pt")
    return tmp_path / "agent"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a plant.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return path
