"""The things a user waits for: iterations of training, and segmented images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from acis_env.sampling import draw_batch, iteration_generator
from acis_env.weights import Pretrained
from agents.models.actor import Actor
from agents.models.agent import Agent
from agents.training.config import PRESETS, SMALL_ACTOR, TrainConfig
from agents.training.trainer import Trainer
from benchmarks import straightforward
from benchmarks.arguments import Arguments
from benchmarks.cases import cases, leaves, shape_of
from benchmarks.parts import NAIVE
from benchmarks.straightforward import NaiveDecoder, NaiveLearner, naive_actor
from benchmarks.timing import Row, interleave

NUM_MASKS = 10
"""Number of masks per image in `inference`."""


def training(args: Arguments) -> list[Row]:
    """Iterations of the main phase of `bl-score`: scenes drawn and augmented, episodes, update."""
    pretrained, source, _ = next(cases(args, ((64, 64),)))
    config = training_config(args)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder), leaves(pretrained.size), leaves(pretrained.size, 1), pretrained)
        learner = NaiveLearner(trainer.learner.actor, pretrained.autoencoder.decoder, config)
        calls = {"ours": iterate(trainer), NAIVE: naive_iterate(trainer, learner)}
        times = interleave(calls, args.repeats, args.device)
    note = f"{1000 / times['ours'].median:.2f} iterations/s, {source}"
    return [Row("training", shape_of(pretrained.size, config.batch_size), times["ours"], times[NAIVE], NAIVE, note)]


def training_config(args: Arguments) -> TrainConfig:
    """The preset `bl-score`."""
    batch_size = 2 if args.quick else PRESETS["bl-score"].batch_size
    return replace(PRESETS["bl-score"], device=args.device, batch_size=batch_size)


def iterate(trainer: Trainer) -> Callable[[], None]:
    """One iteration of the main phase at every call, each on another batch."""
    phase = trainer.config.phases[-1]

    def iteration() -> None:
        trainer._train_iteration(phase, 0.0)
        trainer.iteration += 1

    return iteration


def naive_iterate(trainer: Trainer, learner: NaiveLearner) -> Callable[[], None]:
    """One iteration of the straightforward learner at every call, on the batches that `trainer` gets."""
    config, numbers = trainer.config, count()

    def iteration() -> None:
        generator = iteration_generator(config.seed, next(numbers))
        batch = draw_batch(trainer.train_scenes, config.batch_size, config.augmentation, generator)
        context = trainer.pretrained.context_network.context(batch.images)
        learner.update(context, batch.label_maps, config.phases[-1])

    return iteration


def inference(args: Arguments) -> list[Row]:
    """Images from RGB to label map, with ten masks each."""
    return [_inference(args, pretrained) for pretrained, *_ in cases(args)]


def _inference(args: Arguments, pretrained: Pretrained) -> Row:
    torch.manual_seed(0)
    actor = Actor(pretrained.autoencoder.config, SMALL_ACTOR).to(args.device).requires_grad_(False)
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
