"""Evaluation of an agent over a split, beside references measured in the same run.

All measures are computed at each scene's own resolution.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.datasets import PackedScenes, Scene
from acis_env.files import write_json
from acis_env.metrics import dice_star, matched_dice, mean_metrics, segmentation_metrics
from acis_env.pretraining import iterate
from acis_env.rendering import Picture, colour_by_order, colour_instances, contact_sheet, plot_curves, write_png
from acis_env.sampling import SceneBatch
from acis_env.weights import Pretrained
from agents.agent import Agent, Prediction, compose_label_map, resize_masks

Segmenter = Callable[[SceneBatch], Prediction]
"""Predicts masks for a batch, at least as many as each scene has instances."""

TABLE = ("sbd", "abs_dic", "sbd_gt_stop", "dice_star", "fbd", "mucov", "mwcov", "avg_fp", "avg_fn")
"""Columns of the printed table."""


@dataclass(frozen=True)
class Evaluation:
    """One row of the table: a segmenter's measures over a split."""

    name: str
    scenes: list[dict[str, float]]
    """Measures of each scene: those of `segmentation_metrics` with own stopping, and with the true count
    `sbd_gt_stop` and `dice_star`."""
    dice_per_step: list[list[float]]
    """For each scene the Dice of its first N masks with their instances, in the order of prediction (Fig. 3)."""
    label_maps: dict[int, NDArray[np.int32]]
    """Predictions for pictures, by index of the scene; the scenes are spread evenly over the split."""

    @property
    def mean(self) -> dict[str, float]:
        """Means over scenes."""
        return mean_metrics(self.scenes)

    def dice_at_step(self) -> list[float]:
        """Mean Dice at step 1, 2, ... over the scenes that have so many instances."""
        longest = max(map(len, self.dice_per_step))
        return [float(np.mean([d[t] for d in self.dice_per_step if len(d) > t])) for t in range(longest)]


def evaluate(
    name: str, segmenter: Segmenter, scenes: PackedScenes, cut_off: float = 0.5, num_pictures: int = 0
) -> Evaluation:
    """Measure `segmenter` on every scene, and keep `num_pictures` of its label maps."""
    shown = set(np.linspace(0, len(scenes) - 1, min(num_pictures, len(scenes))).round().astype(int).tolist())
    rows: list[dict[str, float]] = []
    dice: list[list[float]] = []
    label_maps: dict[int, NDArray[np.int32]] = {}
    for batch in iterate(scenes):
        prediction = segmenter(batch)
        masks, counts = prediction.masks.numpy(force=True), prediction.num_masks.tolist()
        for scene_masks, count, index in zip(masks, counts, batch.indices.tolist(), strict=True):
            scene = scenes.scene(index)
            resized = resize_masks(scene_masks, scene.label_map.shape)
            own_stop = compose_label_map(resized[:count], cut_off)
            metrics, scene_dice = _measure(own_stop, resized, scene, cut_off)
            rows.append(metrics)
            dice.append(scene_dice)
            if index in shown:
                label_maps[index] = own_stop
    return Evaluation(name, rows, dice, label_maps)


def _measure(
    own_stop: NDArray[np.int32], masks: NDArray[np.float32], scene: Scene, cut_off: float
) -> tuple[dict[str, float], list[float]]:
    first = masks[: scene.num_instances]
    metrics = segmentation_metrics(own_stop, scene.label_map)
    metrics["sbd_gt_stop"] = segmentation_metrics(compose_label_map(first, cut_off), scene.label_map)["sbd"]
    metrics["dice_star"] = dice_star(first >= cut_off, scene.label_map)
    return metrics, matched_dice(first >= cut_off, scene.label_map).tolist()


def compare(
    segmenters: Mapping[str, Segmenter],
    pretrained: Pretrained,
    scenes: PackedScenes,
    cut_off: float = 0.5,
    num_pictures: int = 8,
    seed: int = 0,
) -> list[Evaluation]:
    """The rows of the table: `segmenters` between a random agent and the bound above all agents.

    Args:
        segmenters: rows by name, e.g. an agent before and after training.
        pretrained: context network and autoencoder of all of them.
        scenes: held-out scenes.
        cut_off: probability below which a pixel is background.
        num_pictures: scenes to keep label maps of.
        seed: of the random agent.
    """
    random = random_segmenter(pretrained, scenes.max_instances, seed)
    rows = {"random": random, **segmenters, "reconstruction": reconstruction_segmenter(pretrained)}
    return [evaluate(name, segmenter, scenes, cut_off, num_pictures) for name, segmenter in rows.items()]


def agent_segmenter(agent: Agent) -> Segmenter:
    """The agent's mean policy, stopping by itself."""

    def segment(batch: SceneBatch) -> Prediction:
        context = agent.pretrained.context_network.context(batch.images)
        return agent.predict_masks(context, min_steps=int(batch.label_maps.max()))

    return segment


def random_segmenter(pretrained: Pretrained, max_steps: int, seed: int = 0) -> Segmenter:
    """Codes drawn from the prior, and a number of masks drawn uniformly from 1 to `max_steps`."""
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def segment(batch: SceneBatch) -> Prediction:
        decoder = pretrained.autoencoder.decoder
        conditioning = decoder.condition(pretrained.context_network.context(batch.images))
        size = len(batch.images)
        length = max(max_steps, int(batch.label_maps.max()))
        codes = torch.randn(length, size, decoder.config.latent_size, generator=generator).to(batch.images.device)
        masks = torch.stack([decoder(code, conditioning)[:, 0] for code in codes], dim=1)
        counts = torch.randint(1, max_steps + 1, (size,), generator=generator)
        return Prediction(masks, counts.to(masks.device), torch.ones_like(counts, dtype=torch.bool))

    return segment


def reconstruction_segmenter(pretrained: Pretrained) -> Segmenter:
    """The autoencoder's reconstruction of every true instance: a bound on what any agent can reach."""

    def segment(batch: SceneBatch) -> Prediction:
        context = pretrained.context_network.context(batch.images)
        counts = batch.label_maps.flatten(1).amax(1)
        labels = range(1, int(counts.max()) + 1)
        masks = [(batch.label_maps == label).float()[:, None] for label in labels]
        reconstructions = [_without_absent(pretrained.autoencoder.reconstruct(context, mask), mask) for mask in masks]
        return Prediction(torch.cat(reconstructions, dim=1), counts, torch.ones_like(counts, dtype=torch.bool))

    return segment


def _without_absent(reconstruction: Tensor, mask: Tensor) -> Tensor:
    """Nothing where a scene has no such instance."""
    return reconstruction * mask.amax((1, 2, 3), keepdim=True)


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """The evaluations as an aligned text table, one row each."""
    width = max(len(e.name) for e in evaluations)
    lines = ["  ".join([" " * width, *(f"{column:>11}" for column in TABLE)])]
    for evaluation in evaluations:
        mean = evaluation.mean
        lines.append("  ".join([f"{evaluation.name:<{width}}", *(f"{mean[column]:>11.3f}" for column in TABLE)]))
    return "\n".join(lines)


def write_report(
    folder: str | os.PathLike[str], evaluations: Sequence[Evaluation], scenes: PackedScenes, about: Mapping[str, Any]
) -> None:
    """Write `evaluation.json`, `dice_per_step.png` and `scenes.png` into `folder`."""
    folder = Path(folder)
    rows = {e.name: {"mean": e.mean, "dice_at_step": e.dice_at_step(), "scenes": e.scenes} for e in evaluations}
    write_json(folder / "evaluation.json", {"about": dict(about), "num_scenes": len(scenes), "rows": rows})
    curves = {e.name: (np.arange(1, len(e.dice_at_step()) + 1), np.array(e.dice_at_step())) for e in evaluations}
    plot_curves(folder / "dice_per_step.png", curves, "step", "Dice of the mask", "Dice per step, true count (Fig. 3)")
    shown = [e for e in evaluations if e.label_maps]
    if shown:
        write_png(folder / "scenes.png", scene_sheet(shown, scenes))


def scene_sheet(evaluations: Sequence[Evaluation], scenes: PackedScenes) -> Picture:
    """Contact sheet: image, ground truth, and each evaluation's label map coloured by order (as Fig. 4)."""
    rows = []
    for index in evaluations[0].label_maps:
        scene = scenes.scene(index)
        count = max(scene.num_instances, 1)
        predictions = [colour_by_order(e.label_maps[index], max(count, e.label_maps[index].max())) for e in evaluations]
        rows.append([scene.image.transpose(1, 2, 0), colour_instances(scene.label_map), *predictions])
    return contact_sheet(rows, ["image", "ground truth", *(e.name for e in evaluations)], min_panel=128)
