"""The things a user waits for: iterations of training, and segmented images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from acis_env.sampling import draw_batch, iteration_generator
from acis_env.weights import Pretrained
from agents.algorithms import BaselineConfig
from agents.environment import TRAINING
from agents.models.actor import Actor
from agents.models.agent import Agent
from agents.training.config import TrainConfig
from agents.training.presets import COMPACT_ACTOR, PRESETS
from agents.training.trainer import Trainer
from benchmarks import straightforward
from benchmarks.arguments import Arguments
from benchmarks.cases import cases, leaves, make_env, shape_of
from benchmarks.parts import NAIVE
from benchmarks.straightforward import NaiveDecoder, NaiveLearner, naive_actor
from benchmarks.timing import Row, interleave

NUM_MASKS = 10
"""Number of masks per image in `inference`."""


def training(args: Arguments) -> list[Row]:
    """Iterations of the main stage of `bl-trunc-dice`: scenes drawn and augmented, episodes, update."""
    pretrained, source, _ = next(cases(args, ((64, 64),)))
    config = training_config(args)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(args, config, Path(folder), pretrained)
        learner = NaiveLearner(trainer.learner.actor, pretrained.autoencoder.decoder, config)
        calls = {"ours": iterate(trainer), NAIVE: naive_iterate(trainer, learner)}
        times = interleave(calls, args.repeats, args.device)
    note = f"{1000 / times['ours'].median:.2f} iterations/s, {source}"
    return [Row("training", shape_of(pretrained.size, config.batch_size), times["ours"], times[NAIVE], NAIVE, note)]


def training_config(args: Arguments) -> TrainConfig:
    """The main stage of the preset `bl-trunc-dice`."""
    preset: TrainConfig = PRESETS["bl-trunc-dice"]
    batch_size = 2 if args.quick else preset.batch_size
    return replace(preset, stages=preset.stages[-1:], device=args.device, batch_size=batch_size)


def make_trainer(args: Arguments, config: TrainConfig, folder: Path, pretrained: Pretrained, **options: Any) -> Trainer:
    """A trainer in an environment of ours, all of whose scenes are drawn and packed."""
    settings = {**TRAINING, "autoreset_mode": "Disabled", **options}
    scenes = leaves(pretrained.size)
    env, val_env = (make_env(args, pretrained, scenes, num_envs, **settings) for num_envs in (config.batch_size, 1))
    return Trainer(config, folder, env, val_env)


def iterate(trainer: Trainer) -> Callable[[], None]:
    """One iteration at every call, each on another batch."""

    def iteration() -> None:
        trainer.train_iteration()

    return iteration


def naive_iterate(trainer: Trainer, learner: NaiveLearner) -> Callable[[], None]:
    """The work of an iteration by the straightforward learner, on batches drawn alike."""
    config, numbers = trainer.config, count()
    algorithm = config.stages[-1].algorithm
    assert isinstance(algorithm, BaselineConfig)

    def iteration() -> None:
        generator = iteration_generator(config.seed, next(numbers))
        batch = draw_batch(trainer.core.scenes, config.batch_size, trainer.core.source.augmentation, generator)
        context = trainer.learner.pretrained.context_network.context(batch.images)
        learner.update(context, batch.label_maps, algorithm)

    return iteration


def inference(args: Arguments) -> list[Row]:
    """Images from RGB to label map, with ten masks each."""
    return [_inference(args, pretrained) for pretrained, *_ in cases(args)]


def _inference(args: Arguments, pretrained: Pretrained) -> Row:
    torch.manual_seed(0)
    actor = Actor(pretrained.autoencoder.config, COMPACT_ACTOR).to(args.device).requires_grad_(False)
    last = actor.termination[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.constant_(last.bias, 100.0)  # it never stops by itself
    agent = Agent(actor, pretrained, NUM_MASKS)
    naive, naive_decoder = naive_actor(actor), NaiveDecoder(pretrained.autoencoder.decoder)
    image = leaves(pretrained.size, 1)[0].image

    def naive_segment() -> object:
        context = pretrained.context_network.context(torch.from_numpy(image[None]).to(args.device))
        return straightforward.segment(naive, naive_decoder, context, NUM_MASKS)

    calls = {"ours": lambda: agent.segment(image), NAIVE: naive_segment}
    times = interleave(calls, args.repeats, args.device)
    note = f"{1000 / times['ours'].median:.2f} images/s of {NUM_MASKS} masks"
    return Row("inference", shape_of(pretrained.size), times["ours"], times[NAIVE], NAIVE, note)
