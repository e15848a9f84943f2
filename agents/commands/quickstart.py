"""`acis quickstart`: an agent that learns to segment leaves in minutes, and pictures of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acis_env.configs import check_at_least
from acis_env.datasets.leaves import SPLITS
from acis_env.env import SegmentationEnv
from acis_env.folders import claimed
from acis_env.networks import check_device
from acis_env.rendering import plot_curves, write_gif
from agents.algorithms.base import core_of
from agents.evaluation import agent_segmenter, compare, format_table, write_report
from agents.models.agent import Agent
from agents.training.checkpoint import holds_run
from agents.training.config import TrainConfig, main_stage, with_length
from agents.training.presets import PRESETS
from agents.training.trainer import Trainer, load_config

PRESET = "quick"
"""The method that learned best in minutes; the README has the comparison."""


@dataclass(frozen=True)
class Quickstart:
    """Train an agent on the bundled leaves in a few minutes, and show what it learned.

    An interrupted quickstart with the same settings in its folder is continued, a finished one evaluated again.
    """

    out: Path = Path("quickstart")
    """Folder of the run, its pictures and its table."""
    seed: int = 0
    """Seed of all random numbers."""
    iterations: int = PRESETS[PRESET].stages[main_stage(PRESETS[PRESET])].iterations
    """Number of iterations in which the policy learns; those of the critic and of stopping are an
    eighth of it at most."""
    test_scenes: int = 100
    """Number of held-out scenes in the final table, at most 200."""
    device: str = "cpu"
    """Device to train on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Train, evaluate on held-out leaves, and leave pictures in `out`.

        Raises:
            ValueError: `out` holds another run.
        """
        check_device(self.device)
        check_at_least(1, self, "iterations", "test_scenes")
        check_at_least(0, self, "seed")
        if self.test_scenes > SPLITS["test"][1]:
            raise ValueError(f"test_scenes must be at most {SPLITS['test'][1]}, got {self.test_scenes}")
        config = self._config()
        with claimed(self.out):
            self._run(config)

    def _run(self, config: TrainConfig) -> None:
        is_begun = holds_run(self.out)
        if is_begun and load_config(self.out) != config:
            raise ValueError(f"--out {self.out} holds a run with other settings: choose another folder")
        print(f"Training on procedural leaves, 64x64, preset {PRESET!r}, seed {self.seed}.")
        started = time.monotonic()
        trainer = Trainer.resume(self.out) if is_begun else Trainer(config, self.out)
        agent = trainer.run()
        seconds = time.monotonic() - started

        print(f"Trained in {seconds / 60:.1f} minutes. Evaluating on {self.test_scenes} held-out scenes ...")
        table = self._evaluate(agent, config, seconds)
        _draw_learning_curve(self.out / "learning_curve.png", trainer)
        write_gif(self.out / "episode.gif", episode_frames(agent, scene_index=3))
        print(f"\n{table}\n\n{_closing_words(self.out)}")

    def _config(self) -> TrainConfig:
        return replace(with_length(PRESETS[PRESET], self.iterations), seed=self.seed, device=self.device)

    def _evaluate(self, agent: Agent, config: TrainConfig, seconds: float) -> str:
        """Write the report, and return its table."""
        env = config.env.make_evaluation("test", device=self.device, weights=agent.pretrained)
        core = core_of(env)
        initial = Agent.load(self.out / "initial.pt", self.device)
        segmenters = {"initialised": agent_segmenter(initial), "agent": agent_segmenter(agent)}
        evaluations = compare(
            segmenters,
            agent.pretrained,
            core.source,
            agent.composition,
            num_scenes=self.test_scenes,
            action_scale=core.action_scale,
        )
        about = {"scenes": "leaves", "split": "test", "preset": PRESET, "seed": self.seed, "training_seconds": seconds}
        write_report(self.out, evaluations, core.source, about)
        return format_table(evaluations)


def episode_frames(agent: Agent, scene_index: int) -> list[NDArray[np.uint8]]:
    """Frames `[h, w, 3]` of one held-out episode, played in the Gymnasium environment through `agent.predict`."""
    env = SegmentationEnv("rgb_array", scenes="leaves", split="test", weights=agent.pretrained, device=agent.device)
    observation, _ = env.reset(seed=0, options={"scene_index": scene_index})
    frames, memory, is_over = [env.render()], None, False
    while not is_over:
        action, memory = agent.predict(observation, memory)
        observation, _, terminated, truncated, _ = env.step(action)
        frames.append(env.render())
        is_over = terminated or truncated
    return [frame for frame in frames if frame is not None]


def _draw_learning_curve(path: Path, trainer: Trainer) -> None:
    iterations = np.array([scores["iteration"] for scores in trainer.history])
    names = {"sbd": "SBD, own stop", "sbd_gt_stop": "SBD, true count", "dice_star": "Dice*, true count"}
    curves = {label: (iterations, np.array([s[key] for s in trainer.history])) for key, label in names.items()}
    plot_curves(path, curves, "iteration", "score on validation leaves", "Learning curve")


def _closing_words(out: Path) -> str:
    return f"""SBD, Dice*: 1 is perfect. abs_dic: error of the count. gt_stop: stopped at the true count.
"reconstruction" is the autoencoder's own copy of the ground truth: no agent can do much better.

Pictures in {out}{os.sep}: episode.gif (one episode), scenes.png (held-out scenes, blue = first mask, red = last),
learning_curve.png, dice_per_step.png. Numbers: evaluation.json. Curves: tensorboard --logdir {out}

Next:
  acis segment --agent {out} --out {out / "mine"} IMAGE.png    segment your own image
  acis train best --out runs/longer    train for longer, a quarter of an hour
  acis train ac-dice --out runs/ac-dice    train by the paper's Algorithm 1
  acis train --help    all presets and settings"""
