"""How long the published pipeline would take on this device: an update of every kind is taken and timed.

The networks have random weights, on which the time of an update does not depend. Evaluations and the reading of files
are left out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acis_env.augment import Augmentation
from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import ContextConfig, ContextNetwork, context_loss
from acis_env.datasets import PackedScenes, open_scenes
from acis_env.datasets.registry import protocol_of
from acis_env.decoder import AutoencoderConfig
from acis_env.sampling import SceneBatch, draw_batch
from acis_env.weights import Pretrained
from agents.algorithms import ActorCriticConfig
from agents.experiments.paper import Recipe, Settings
from agents.training.config import Stage, TrainConfig
from agents.training.presets import PAPER_AUGMENTATION
from agents.training.trainer import Trainer

CPU_SHARE = 8
"""On a CPU batches of an eighth are timed, one scene each, and the time is taken eight times: full ones need memory."""


@dataclass(frozen=True)
class Timed:
    """Updates of one kind."""

    name: str
    number: int
    seconds: float  # of one

    @property
    def hours(self) -> float:
        """Time of all."""
        return self.number * self.seconds / 3600


def estimate(settings: Settings) -> Iterator[Timed]:
    """Time an update of every kind, in the order of the pipeline.

    Raises:
        FileNotFoundError: the data are not there.
    """
    device, recipe = torch.device(settings.device), settings.recipe
    share = CPU_SHARE if device.type == "cpu" else 1
    config = _with_batches(recipe.preset, share)
    scenes = f"dataset:{recipe.dataset}"
    options = {**recipe.train_options, **({} if settings.root is None else {"root": settings.root})}
    preprocessing = protocol_of(scenes).get("preprocessing", "squeeze")
    train = PackedScenes(
        open_scenes(scenes, "train", recipe.size, options), recipe.size, device, preprocessing=preprocessing
    )
    batch = draw_batch(
        train, config.batch_size, Augmentation(**PAPER_AUGMENTATION[recipe.dataset]), np.random.default_rng(0)
    )
    networks = _random_networks(recipe, device)
    context = _time_context(networks.context_network, batch, train.max_instances, device)
    yield Timed("context network", recipe.context_epochs * recipe.updates_per_epoch, share * context)
    decoder = _time_decoder(networks, batch, device)
    yield Timed("mask decoder", recipe.decoder_epochs * recipe.updates_per_epoch, share * decoder)
    root = None if settings.root is None else str(settings.root)
    numbers = _numbers(recipe.preset)
    for name, seconds in _time_training(config, networks, root, device):
        yield Timed(name, numbers[name], share * seconds)


def format_estimate(timed: Iterable[Timed], device: str) -> Iterator[str]:
    """Lines of a table of the times, each as soon as it is known, and their sum."""
    yield f"{'updates of':24} {'number':>9} {'seconds each':>13} {'hours':>9}"
    hours = 0.0
    for kind in timed:
        hours += kind.hours
        yield f"{kind.name:24} {kind.number:>9} {kind.seconds:>13.3g} {kind.hours:>9.3g}"
    threads = f", threads: {torch.get_num_threads()}" if device == "cpu" else ""
    yield f"all: {hours:.3g} hours, or {hours / 24:.3g} days, on {device}{threads}"


def _with_batches(preset: TrainConfig, share: int) -> TrainConfig:
    """The preset with batches of a share, and stages that are as short as their kinds of updates allow."""
    stages = []
    for stage in preset.stages:
        algorithm, iterations = stage.algorithm, 2
        if isinstance(algorithm, ActorCriticConfig):
            warm_up = 2 if algorithm.critic_warmup else 0
            size = max(algorithm.critic_batch_size // share, 1)
            algorithm, iterations = replace(algorithm, critic_warmup=warm_up, critic_batch_size=size), 2 + warm_up
        stages.append(replace(stage, algorithm=algorithm, iterations=iterations))
    return replace(preset, stages=tuple(stages), batch_size=max(preset.batch_size // share, 1), monitor_every=1000)


def _numbers(preset: TrainConfig) -> dict[str, int]:
    """Number of updates of each kind, by its name."""
    numbers = {}
    for stage in preset.stages:
        warm_up = stage.algorithm.critic_warmup if isinstance(stage.algorithm, ActorCriticConfig) else 0
        if warm_up:
            numbers[_warm_up(stage)] = warm_up
        numbers[stage.name] = stage.iterations - warm_up
    return numbers


def _warm_up(stage: Stage) -> str:
    return f"{stage.name}, warm-up"


def _random_networks(recipe: Recipe, device: torch.device) -> Pretrained:
    """Networks of the published sizes."""
    torch.manual_seed(0)
    kind: Any = "fcn8s" if recipe.architecture == "paper" else "unet"
    autoencoder = AutoencoderConfig(recipe.size, latent_size=recipe.latent_size, bottleneck_channels=recipe.latent_size)
    networks = Pretrained(ContextNetwork(ContextConfig(kind, size=recipe.size)), MaskAutoencoder(autoencoder))
    return networks.to(device)


def _time_context(network: ContextNetwork, batch: SceneBatch, max_instances: int, device: torch.device) -> float:
    optimizer = torch.optim.Adam(network.parameters())
    return _seconds(
        _update(optimizer, lambda: context_loss(network(batch.images), batch.label_maps, max_instances)), device
    )


def _time_decoder(networks: Pretrained, batch: SceneBatch, device: torch.device) -> float:
    autoencoder = networks.autoencoder.requires_grad_(True)
    optimizer = torch.optim.Adam(autoencoder.parameters())
    masks = (batch.label_maps == 1).float()[:, None]
    noise = torch.zeros(len(masks), autoencoder.config.latent_size, device=device)
    seconds = _seconds(
        _update(
            optimizer,
            lambda: autoencoder.loss(networks.context_network.context(batch.images), masks, noise, kl_weight=1.0),
        ),
        device,
    )
    networks.context_network.requires_grad_(False).eval()
    autoencoder.requires_grad_(False).eval()
    return seconds


def _update(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return update


def _time_training(
    config: TrainConfig, networks: Pretrained, root: str | None, device: torch.device
) -> Iterator[tuple[str, float]]:
    """Kinds of updates of the schedule, and the seconds of one."""
    env = config.env.having(**({} if root is None else {"root": root}))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            replace(config, device=str(device)),
            Path(folder),
            env.make(config.batch_size, device=device, weights=networks),
            env.make_evaluation("val", device=device, weights=networks),
        )
        for stage in config.stages:
            if stage.iterations == 4:
                yield _warm_up(stage), _seconds(trainer.train_iteration, device)
            yield stage.name, _seconds(trainer.train_iteration, device)


def _seconds(update: Callable[[], object], device: torch.device) -> float:
    """Time of the second of two updates; CPU time where there is one thread, which other programs do not disturb."""
    update()
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    _wait(device)
    started = clock()
    update()
    _wait(device)
    return clock() - started


def _wait(device: torch.device) -> None:
    """Until the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
