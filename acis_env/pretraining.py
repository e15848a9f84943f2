"""Pre-training of the networks around the actions: context network and mask autoencoder.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.2.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acis_env.augment import Augmentation
from acis_env.autoencoder import MaskAutoencoder
from acis_env.checksums import read_json, tensors_sum
from acis_env.configs import check_at_least, check_positive
from acis_env.context import ContextConfig, ContextNetwork, context_loss, quantise_angles
from acis_env.datasets.packed import PackedScenes
from acis_env.decoder import AutoencoderConfig
from acis_env.interruption import Interrupted, deferred_signals, name_of
from acis_env.meter import Meter
from acis_env.metrics import batch_metrics
from acis_env.ops.labels import IGNORED, count_instances
from acis_env.sampling import SceneBatch, draw_batch, draw_indices, iteration_generator, load_batch
from acis_env.surroundings import unaffected
from acis_env.unfinished import Unfinished
from acis_env.verdict import weakness
from acis_env.weights import CONTEXT_SUM, WEIGHTS_SUM, save_weights, stem_of

logger = logging.getLogger(__name__)

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class PretrainConfig:
    """How to pre-train one network: Adam, whose learning rate falls to 0.3 and 0.1 of its start at 70 % and 90 %."""

    iterations: int = 3000
    """Number of gradient updates."""
    batch_size: int = 32
    """Number of scenes in every update."""
    learning_rate: float = 1e-3
    """Learning rate of Adam at the start; it falls to 0.3 and 0.1 of this after 70 % and 90 % of the iterations."""
    weight_decay: float = 0.0
    """Factor of the L2 penalty on the weights (the paper's code: 1e-4, over a much longer schedule)."""
    kl_weight: float = 1.0
    """Factor of the KL divergence of the latent variables from their prior; only the autoencoder has one."""
    clip_norm: float = 200.0
    """Norm to which larger gradients are scaled down; losses are sums over pixels, so it is large."""
    seed: int = 0
    """Seed of the initial weights, the choice of scenes and their augmentation."""
    eval_every: int = 500
    """Number of iterations between evaluations on the validation scenes, each of which also writes the weights. The
    first comes after a tenth of the training at the latest."""
    half: bool = False
    """Whether to store the weights as float16, in half the space."""
    augmentation: Augmentation = Augmentation(brightness=0.1, contrast=0.1, saturation=0.1)
    """Random changes of the training scenes: flips, turns, zoom and colours."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "iterations", "batch_size", "eval_every")
        check_at_least(0, self, "weight_decay", "kl_weight", "seed")
        check_positive(self, "clip_norm")
        check_at_least(0, self, "learning_rate")


@unaffected
def image_statistics(scenes: PackedScenes, limit: int = 200) -> tuple[RGB, RGB]:
    """Mean and standard deviation per colour, RGB in [0, 1], over the first `limit` scenes."""
    images, _ = scenes.gather(range(min(limit, len(scenes))))
    pixels = images.float().div(255).transpose(0, 1).flatten(1)
    red, green, blue = ((round(float(c.mean()), 4), round(float(c.std()), 4)) for c in pixels)
    return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])


@unaffected
def pretrain_context(
    train: PackedScenes,
    val: PackedScenes,
    network_config: ContextConfig,
    config: PretrainConfig,
    folder: Path,
    overwrite: bool = True,
) -> ContextNetwork:
    """Train a context network and write it to `folder` after every evaluation; returns it frozen.

    Raises:
        ValueError: without `overwrite`, `folder` has one already, or the state of a training with other settings.
    """
    torch.manual_seed(config.seed)
    network = ContextNetwork(network_config).to(train.device)

    def loss(batch: SceneBatch, iteration: int) -> Tensor:
        return context_loss(network(batch.images), batch.label_maps, train.max_instances)

    _fit(network, loss, lambda: evaluate_context(network, val), train, config, folder, overwrite)
    network.requires_grad_(False)
    return network.eval()


@torch.no_grad()
@unaffected
def evaluate_context(network: ContextNetwork, scenes: PackedScenes) -> dict[str, float]:
    """Dice of the foreground (cut at 0.5) and accuracy of the angles on instance pixels, over all scenes."""
    network.eval()
    common = total = correct = pixels = 0.0
    for batch in iterate(scenes):
        context = network.context(batch.images)
        truth, is_known = batch.label_maps > 0, batch.label_maps != IGNORED
        guess = (context[:, 3] >= 0.5) & is_known
        common += float((truth & guess).sum())
        total += float(truth.sum() + guess.sum())
        angles = quantise_angles(batch.label_maps, scenes.max_instances)
        correct += float(((context[:, 4:].argmax(1) == angles.argmax(1)) & truth).sum())
        pixels += float(truth.sum())
    return {"foreground_dice": 2 * common / max(total, 1), "angle_accuracy": correct / max(pixels, 1)}


@unaffected
def pretrain_autoencoder(
    train: PackedScenes,
    val: PackedScenes,
    context_network: ContextNetwork,
    network_config: AutoencoderConfig,
    config: PretrainConfig,
    folder: Path,
    overwrite: bool = True,
) -> MaskAutoencoder:
    """Train a mask autoencoder on single instances and write it to `folder`; returns it frozen.

    One random instance per scene and update, as in the paper; the context is the predicted one. Scenes without
    instances are skipped.

    Raises:
        ValueError: no training scene has an instance; or, without `overwrite`, `folder` has an autoencoder already, or
            the state of a training with other settings.
    """
    usable: list[int] = train.num_instances.nonzero()[:, 0].tolist()
    if not usable:
        raise ValueError(f"train must have a scene with an instance to learn masks from, got {len(train)} without")
    torch.manual_seed(config.seed)
    autoencoder = MaskAutoencoder(network_config).to(train.device)

    def loss(batch: SceneBatch, iteration: int) -> Tensor:
        generator = iteration_generator(config.seed, iteration, stream=1)
        share = torch.from_numpy(generator.random(len(batch.images), dtype="float32")).to(train.device)
        noise = torch.from_numpy(generator.standard_normal((len(share), network_config.latent_size), dtype="float32"))
        counts = count_instances(batch.label_maps)
        # Instances 1..N, equally often; where augmentation has lost all, instance 1 is the empty mask.
        chosen = (share * counts).long().minimum(counts - 1).clamp_min(0) + 1
        masks = (batch.label_maps == chosen[:, None, None]).float()[:, None]
        context = context_network.context(batch.images)
        is_known = (batch.label_maps != IGNORED)[:, None]
        return autoencoder.loss(context, masks, noise.to(train.device), config.kl_weight, is_known)

    measure = partial(evaluate_autoencoder, autoencoder, context_network, val)
    context_sum = tensors_sum(context_network.state_dict().items())
    _fit(autoencoder, loss, measure, train, config, folder, overwrite, usable, context_sum)
    autoencoder.requires_grad_(False)
    return autoencoder.eval()


@torch.no_grad()
@unaffected
def evaluate_autoencoder(
    autoencoder: MaskAutoencoder, context_network: ContextNetwork, scenes: PackedScenes
) -> dict[str, float]:
    """How well true instances are reconstructed, over all scenes; 0 where there are none.

    Returns:
        Mean and 10 % quantile of the Dice of reconstructions, cut at 0.5, over all instances; and the mean SBD of label
        maps made of them, which bounds what an agent can reach.
    """
    dice, sbd = [], []
    for batch in iterate(scenes):
        contexts = context_network.context(batch.images)
        for context, label_map in zip(contexts, batch.label_maps, strict=True):
            labels = torch.arange(1, int(count_instances(label_map[None])) + 1, device=label_map.device)
            if len(labels) == 0:
                continue
            masks = (label_map == labels[:, None, None]).float()[:, None]
            soft = autoencoder.reconstruct(context.expand(len(labels), -1, -1, -1), masks)
            guess = (soft >= 0.5) & (label_map != IGNORED)
            common = (guess * masks).sum((1, 2, 3))
            dice.append(2 * common / (guess.sum((1, 2, 3)) + masks.sum((1, 2, 3))))
            best, owner = soft[:, 0].max(0)
            prediction = torch.where(best >= 0.5, owner + 1, 0)[None]
            measures = batch_metrics(prediction, label_map[None], len(labels), len(labels))
            sbd.append(float(measures["sbd"]))
    values = torch.cat(dice) if dice else torch.zeros(1)
    return {
        "reconstruction_dice": float(values.mean()),
        "reconstruction_dice_q10": float(values.quantile(0.1)),
        "reconstruction_sbd": sum(sbd) / max(len(sbd), 1),
    }


def iterate(scenes: PackedScenes, batch_size: int = 32) -> Iterator[SceneBatch]:
    """Yield all scenes once, in order and without augmentation."""
    for start in range(0, len(scenes), batch_size):
        end = min(start + batch_size, len(scenes))
        batch = load_batch(scenes, range(start, end))
        scenes.expect(range(end, min(end + batch_size, len(scenes))))
        yield batch


@torch.enable_grad()
def _fit(
    network: ContextNetwork | MaskAutoencoder,
    loss: Callable[[SceneBatch, int], Tensor],
    evaluate: Callable[[], dict[str, float]],
    train: PackedScenes,
    config: PretrainConfig,
    folder: Path,
    overwrite: bool,
    usable: Sequence[int] | None = None,
    context_sum: str | None = None,
) -> None:
    """Minimise `loss` with Adam; evaluate and write weights and state every `config.eval_every` iterations.

    The first evaluation comes after a tenth of the training, and a warning with it if the network is weak by then.
    Only the scenes `usable` of `train` are drawn; None means all. A training with these settings, and with the context
    network of the checksum `context_sum` if there is one, that was interrupted in `folder` goes on from the last state;
    Ctrl-C and SIGTERM write one.

    Raises:
        ValueError: without `overwrite`, there is something in `folder` that would be replaced.
        FloatingPointError: the loss is not finite.
        Interrupted: a signal came.
    """
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    milestones = [int(0.7 * config.iterations), int(0.9 * config.iterations)]
    started = time.monotonic()
    settings: dict[str, Any] = {"training": config, "network": network.config, "scenes": scenes_identity(train)}
    if context_sum is not None:
        settings["context"] = context_sum
    state = Unfinished(state_file(folder, stem_of(network)), settings)
    first = state.load(network, optimizer)
    if first == 0 and not overwrite:
        _check_free(folder, stem_of(network))
    early = config.iterations // 10

    def measure(iteration: int) -> dict[str, float]:
        """Evaluate the network and write its weights."""
        found = evaluate()
        done = {"iteration": iteration, "minutes": round((time.monotonic() - started) / 60, 1)}
        notes = {**asdict(config), **done, "held_out": found}
        if stem_of(network) == "autoencoder" and (folder / "context.json").is_file():
            notes[CONTEXT_SUM] = read_json(folder / "context.json").get(WEIGHTS_SUM)
        save_weights(folder, network, notes, config.half)
        return found

    if first == config.iterations:  # all but the last evaluation was done
        measure(first)
    scores: dict[str, float] = {}
    with deferred_signals() as signals, Meter(type(network).__name__, config.iterations, first) as meter:
        for iteration in range(first, config.iterations):
            decay = (1.0, 0.3, 0.1)[sum(iteration >= m for m in milestones)]
            optimizer.param_groups[0]["lr"] = config.learning_rate * decay
            network.train()
            generator = iteration_generator(config.seed, iteration)
            # What dropout draws is then the same where the training goes on after an interruption.
            torch.manual_seed(int(iteration_generator(config.seed, iteration, stream=2).integers(2**63)))
            batch = draw_batch(train, config.batch_size, config.augmentation, generator, usable)
            following = iteration_generator(config.seed, iteration + 1)
            train.expect(draw_indices(len(train), config.batch_size, following, usable))
            value = loss(batch, iteration)
            if not torch.isfinite(value):
                raise FloatingPointError(f"loss is {value.item()} at iteration {iteration}; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimizer.step()
            if (iteration + 1) % config.eval_every == 0 or iteration + 1 in (early, config.iterations):
                state.save(network, optimizer, iteration + 1)  # first: scenes that are gone must not take it along
                scores = measure(iteration + 1)
                if iteration + 1 == early:
                    _warn_early(weakness(stem_of(network), scores), early, config.iterations)
            meter.advance(iteration + 1, loss=f"{value.item():.3g}", **{k: f"{v:.3f}" for k, v in scores.items()})
            if signals.number:
                state.save(network, optimizer, iteration + 1)
                raise Interrupted(
                    signals.number,
                    f"{name_of(signals.number)} after iteration {iteration + 1} of {config.iterations}: {folder} holds "
                    "the state of the training, from which the same command goes on",
                )
    state.remove()


def state_file(folder: Path, stem: str) -> Path:
    """The file of an unfinished training of the network `stem`, "context" or "autoencoder", in `folder`."""
    return folder / f".{stem}.pt"


def is_finished(folder: Path, stem: str) -> bool:
    """Whether the network `stem` in `folder` was trained to the end."""
    return (folder / f"{stem}.json").is_file() and not state_file(folder, stem).exists()


def _check_free(folder: Path, stem: str) -> None:
    """Make sure that a training from the beginning would replace nothing."""
    if state_file(folder, stem).exists():
        raise ValueError(
            f"{folder} holds the state of an unfinished training of its {stem} with other settings: repeat these, "
            "choose another folder, or pass --overwrite (overwrite=True)"
        )
    if (folder / f"{stem}.json").exists():
        raise ValueError(
            f"{folder} holds a finished {stem} already: choose another folder, or pass --overwrite (overwrite=True)"
        )


def _warn_early(problem: str | None, iteration: int, total: int) -> None:
    """Say so if a training begins badly."""
    if problem is not None:
        logger.warning("after %d of %d iterations: %s at the end", iteration, total, problem)


def scenes_identity(scenes: PackedScenes) -> tuple[Any, ...]:
    """What tells the scenes of a training from others, as far as they say."""
    return len(scenes), scenes.size, scenes.max_instances, getattr(scenes.dataset, "fingerprint", None)
