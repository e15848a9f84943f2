"""The published pipeline as a list of commands: networks around the agent, the agent, its measures, a submission.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.2 and supplement, and its public code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.algorithms import ActorCriticConfig
from agents.training.checkpoint import holds_run
from agents.training.config import TrainConfig
from agents.training.presets import KITTI_CROPS, PAPER_AUGMENTATION, PRESETS


@dataclass(frozen=True)
class Recipe:
    """What the pipeline does on one data set."""

    dataset: str
    """Name of the data set."""
    size: tuple[int, int]
    """Height and width of the networks."""
    latent_size: int
    """Length of an action."""
    updates_per_epoch: int
    """Number of batches of 8 in an epoch."""
    variants: tuple[str, ...]
    """Published scripts whose measures the table has, too."""
    train_options: Mapping[str, Any]
    """Further arguments of the training scenes."""
    context_epochs: int = 300
    """Length of the training of the context network."""
    decoder_epochs: int = 800
    """Length of the training of the mask decoder: at three rates in the paper, at those of `acis pretrain` here."""
    architecture: str = "paper"
    """Widths of the networks around the agent."""

    @property
    def preset(self) -> TrainConfig:
        """The schedule of the agent."""
        return PRESETS[f"paper-{self.dataset}"]


RECIPES = {
    "cvppp": Recipe("cvppp", (224, 224), 16, 13, ("codalab", "lsc-matlab"), {}),
    "kitti": Recipe("kitti", (256, 768), 64, 464, ("e2e",), KITTI_CROPS),
}
"""By the name of the data set."""


@dataclass(frozen=True)
class Settings:
    """What is asked for."""

    recipe: Recipe
    root: Path | None
    """Folder of the data; None for that in the environment variable."""
    out: Path
    """Folder of everything that the pipeline makes."""
    quick: bool
    """Whether to take a few updates of each kind, by which nothing is learned."""
    seed: int
    device: str


@dataclass(frozen=True)
class Step:
    """One command of the pipeline."""

    name: str
    arguments: tuple[str, ...]
    """Those of `acis`."""
    product: Path
    """What it makes."""


def plan_steps(settings: Settings) -> list[Step]:
    """The commands of the pipeline, in order; that of the training goes on with a run that is there."""
    recipe, out = settings.recipe, settings.out
    weights, run = out / "weights", out / "run"
    place = () if settings.root is None else ("--root", settings.root)
    common: list[Any] = [*place, "--device", settings.device]
    submission = out / ("submission.h5" if recipe.dataset == "cvppp" else "submission")
    steps = [
        Step(
            "context",
            _words("pretrain", "context", *_pretraining(settings, recipe.context_epochs, 1e-3)),
            weights / "context.json",
        ),
        Step(
            "decoder",
            _words(
                "pretrain",
                "decoder",
                *_pretraining(settings, recipe.decoder_epochs, 2e-4),
                *("--latent-size", recipe.latent_size),
            ),
            weights / "autoencoder.json",
        ),
        Step("training", _words(*_training(settings, weights, run), *common), run),
        Step(
            "evaluation",
            _words(
                *("evaluate", run, "--split", "val", "--out", out / "evaluation", "--variant", *recipe.variants),
                *(("--num-scenes", 2) if settings.quick else ()),
                *common,
            ),
            out / "evaluation",
        ),
        Step(
            "submission",
            _words(
                *("submit", recipe.dataset, run, "--out", submission),
                *(("--max-steps", 2) if settings.quick else ()),
                *common,
            ),
            submission,
        ),
    ]
    if holds_run(run):
        steps[2] = Step("training", _words("train", "--resume", run), run)
    return steps


def _pretraining(settings: Settings, epochs: int, learning_rate: float) -> Iterator[Any]:
    """Arguments that both pre-trainings have: the published budgets, batches and rates."""
    recipe = settings.recipe
    yield from ("--out", settings.out / "weights", "--scenes", f"dataset:{recipe.dataset}")
    yield from () if settings.root is None else ("--root", settings.root)
    yield from ("--scene-options", json.dumps(dict(recipe.train_options)), "--val-options", "{}")
    yield from ("--size", *recipe.size, "--architecture", recipe.architecture)
    for name, value in PAPER_AUGMENTATION[recipe.dataset].items():
        option = name.replace("_", "-")
        yield from (
            (f"--augmentation.{'' if value else 'no-'}{option}",)
            if isinstance(value, bool)
            else (f"--augmentation.{option}", value)
        )
    for colour in ("brightness", "contrast", "saturation"):
        yield from (f"--augmentation.{colour}", 0)
    yield from ("--learning-rate", learning_rate, "--weight-decay", 1e-4)
    if settings.quick:
        yield from ("--iterations", 2, "--batch-size", 1)
    else:
        updates = epochs * recipe.updates_per_epoch
        yield from ("--iterations", updates, "--batch-size", 8, "--eval-every", max(updates // 20, 1))
    yield from ("--seed", settings.seed, "--device", settings.device)


def _training(settings: Settings, weights: Path, run: Path) -> Iterator[Any]:
    yield from ("train", f"paper-{settings.recipe.dataset}", "--weights", weights, "--out", run)
    yield from ("--seed", settings.seed)
    if not settings.quick:
        return
    for number, stage in enumerate(settings.recipe.preset.stages):
        is_warm_up = isinstance(stage.algorithm, ActorCriticConfig) and stage.algorithm.critic_warmup > 0
        yield from (f"--stages.{number}.iterations", 2 if is_warm_up else 1)
        if is_warm_up:
            yield from (f"--stages.{number}.algorithm.critic-warmup", 1)
        if isinstance(stage.algorithm, ActorCriticConfig):
            yield from (f"--stages.{number}.algorithm.critic-batch-size", 4)
            yield from (f"--stages.{number}.algorithm.critic-updates", 1)
    yield from ("--accept-weak-weights", "--batch-size", 1, "--eval-scenes", 1, "--checkpoint-every", 1000)


def _words(*arguments: Any) -> tuple[str, ...]:
    return tuple(map(str, arguments))


def quoted(words: Sequence[str]) -> str:
    """A command as one may type it."""
    return shlex.join(["acis", *words])
