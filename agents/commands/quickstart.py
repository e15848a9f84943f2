"""The first thing to run: an agent that learns to segment leaves in minutes, and pictures of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets import Leaves, PackedScenes
from acis_env.env import SegmentationEnv
from acis_env.rendering import plot_curves, write_gif
from agents.evaluation.evaluation import agent_segmenter, compare, format_table, write_report
from agents.models.agent import Agent
from agents.training.config import PRESETS
from agents.training.trainer import Trainer, load_config

PRESET = "quick"
"""Its objective, the soft score without a critic, learned best in minutes; the README has the comparison."""

ITERATIONS = PRESETS[PRESET].phases[-1].iterations
"""Of its main phase."""


def quickstart(
    out: Path, seed: int = 0, iterations: int = ITERATIONS, test_scenes: int = 100, device: str = "cpu"
) -> None:
    """Train on the bundled leaves, evaluate on held-out ones, and leave pictures in `out`.

    Args:
        out: folder; an interrupted quickstart with the same settings in it is continued, a finished one evaluated.
        seed: of everything random.
        iterations: of the main phase.
        test_scenes: number of held-out scenes.
        device: where to train.

    Raises:
        ValueError: `out` holds another run.
    """
    *start, main = PRESETS[PRESET].phases
    phases = (*start, replace(main, iterations=iterations))
    config = replace(PRESETS[PRESET], phases=phases, seed=seed, device=device)
    is_begun = (out / "checkpoint.pt").exists()
    if is_begun and load_config(out) != config:
        raise ValueError(f"--out {out} holds a run with other settings: choose another folder")
    print(f"Training on procedural leaves, 64x64, objective {config.phases[-1].objective!r}, seed {seed}.")
    started = time.monotonic()
    trainer = Trainer.resume(out) if is_begun else Trainer(config, out)
    agent = trainer.run()
    seconds = time.monotonic() - started

    print(f"Trained in {seconds / 60:.1f} minutes. Evaluating on {test_scenes} held-out scenes ...")
    scenes = PackedScenes(Leaves("test", agent.pretrained.size, length=test_scenes), agent.pretrained.size, device)
    initial = Agent.load(out / "initial.pt", device)
    segmenters = {"initialised": agent_segmenter(initial), "agent": agent_segmenter(agent)}
    evaluations = compare(segmenters, agent.pretrained, scenes, agent.threshold)
    write_report(out, evaluations, scenes, {"preset": PRESET, "seed": seed, "training_seconds": seconds})
    _draw_learning_curve(out / "learning_curve.png", trainer)
    write_gif(out / "episode.gif", episode_frames(agent, scene_index=3))
    print(f"\n{format_table(evaluations)}\n\n{_closing_words(out)}")


def episode_frames(agent: Agent, scene_index: int) -> list[NDArray[np.uint8]]:
    """Frames `[h, w, 3]` of one held-out episode, played in the Gymnasium environment through `agent.predict`."""
    env = SegmentationEnv(
        "rgb_array", scenes=Leaves("test", agent.pretrained.size), weights=agent.pretrained, device=agent.device
    )
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
  acis train small --out runs/longer    train for longer, from a quarter of an hour on
  acis train ac --out runs/ac    train by the paper's Algorithm 1
  acis train --help    all presets and settings"""
