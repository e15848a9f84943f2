"""Evaluation over a split, beside references measured in the same run.

All measures are computed at each scene's own resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr

from acis_env.dynamics import EnvState
from acis_env.episode_source import EpisodeSource
from acis_env.metrics import dice_star, matched_dice, mean_metrics, segmentation_metrics
from acis_env.surroundings import unaffected
from acis_env.weights import Pretrained
from agents.evaluation.segmenters import Segmenter, random_segmenter, reconstruction_segmenter
from agents.models.composition import compose_at


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
    order: list[dict[str, float]] = field(default_factory=list)
    """For each scene the rank correlations of `order_correlations`."""

    @property
    def mean(self) -> dict[str, float]:
        """Means over scenes."""
        return mean_metrics(self.scenes)

    def dice_at_step(self) -> list[float]:
        """Mean Dice at step 1, 2, ... over the scenes that have so many instances."""
        longest = max(map(len, self.dice_per_step))
        return [float(np.mean([d[t] for d in self.dice_per_step if len(d) > t])) for t in range(longest)]


@unaffected
def evaluate(
    name: str,
    segmenter: Segmenter,
    source: EpisodeSource,
    threshold: float = 0.5,
    num_pictures: int = 0,
    num_scenes: int | None = None,
) -> Evaluation:
    """Measure `segmenter` on every scene.

    Args:
        name: name of the row.
        segmenter: what is measured.
        source: begins an episode in each of its scenes, without augmentation.
        threshold: probability below which a pixel of a label map is background.
        num_pictures: number of label maps to keep.
        num_scenes: only the first so many scenes.
    """
    total = count_scenes(source, num_scenes)
    shown = set(np.linspace(0, total - 1, min(num_pictures, total)).round().astype(int).tolist())
    evaluation = Evaluation(name, [], [], {}, [])
    for state, indices in iterate(source, num_scenes):
        prediction = segmenter(state)
        all_masks, counts = prediction.masks.numpy(force=True), prediction.num_masks.tolist()
        for scene_masks, count, index in zip(all_masks, counts, indices, strict=True):
            scene = source.own_scenes.scene(index)
            label_map = scene.require_label_map()
            own_stop, _ = compose_at(scene_masks[:count], scene.image.shape[1:], threshold)
            gt_stop, masks = compose_at(scene_masks[: scene.num_instances], scene.image.shape[1:], threshold)
            evaluation.scenes.append(_measure(own_stop, gt_stop, masks, label_map))
            evaluation.dice_per_step.append(matched_dice(masks, label_map).tolist())
            evaluation.order.append(order_correlations(masks, label_map))
            if index in shown:
                evaluation.label_maps[index] = own_stop
    return evaluation


def count_scenes(source: EpisodeSource, num_scenes: int | None = None) -> int:
    """Number of scenes that are evaluated, at most `num_scenes`."""
    total = len(source.own_scenes)
    return total if num_scenes is None else min(num_scenes, total)


def iterate(
    source: EpisodeSource, num_scenes: int | None = None, size: int = 32
) -> Iterator[tuple[EnvState, list[int]]]:
    """Fresh episodes in all scenes in order, `size` at a time, each with the indices of its scenes."""
    total = count_scenes(source, num_scenes)
    for start in range(0, total, size):
        indices = list(range(start, min(start + size, total)))
        state, _ = source.begin(indices)
        yield state, indices


def _measure(
    own_stop: NDArray[np.int32], gt_stop: NDArray[np.int32], masks: NDArray[np.bool_], label_map: NDArray[np.int32]
) -> dict[str, float]:
    metrics = segmentation_metrics(own_stop, label_map)
    metrics["sbd_gt_stop"] = segmentation_metrics(gt_stop, label_map)["sbd"]
    metrics["dice_star"] = dice_star(masks, label_map)
    return metrics


def order_correlations(
    masks: NDArray[np.bool_], label_map: NDArray[np.int32], least_dice: float = 0.5
) -> dict[str, float]:
    """Spearman's rank correlation of the order in which instances are found with what they are (Fig. 4).

    Args:
        masks: `[T, h, w]` bool, in the order of prediction.
        label_map: `[h, w]`, labels 1..N.
        least_dice: smallest Dice of a mask with its assigned instance for this to count as found.

    Returns:
        Correlation with the instance's visible "size" in pixels and with its "label", the height in the stack of
        leaves or the nearness of cars; nothing when fewer than three instances are found or all are of one size.
    """
    if len(masks) == 0:
        return {}
    areas = np.bincount(label_map.ravel())[1:]
    common = np.stack([np.bincount(label_map[mask], minlength=len(areas) + 1)[1:] for mask in masks])
    dice = 2 * common / (masks.sum((1, 2))[:, None] + areas)
    steps, instances = linear_sum_assignment(dice, maximize=True)
    found = dice[steps, instances] >= least_dice
    steps, instances = steps[found], instances[found]
    if len(steps) < 3 or len(set(areas[instances])) == 1:
        return {}
    values = {"size": areas[instances], "label": instances}
    return {name: float(spearmanr(steps, value).statistic) for name, value in values.items()}


def compare(
    segmenters: Mapping[str, Segmenter],
    pretrained: Pretrained,
    source: EpisodeSource,
    threshold: float = 0.5,
    num_pictures: int = 8,
    num_scenes: int | None = None,
    seed: int = 0,
) -> list[Evaluation]:
    """The rows of the table: `segmenters` between a random agent and the bound above all agents.

    Args:
        segmenters: rows by name, such as an agent before and after training.
        pretrained: context network and autoencoder of all of them.
        source: begins episodes in held-out scenes.
        threshold: probability below which a pixel is background.
        num_pictures: number of scenes to keep label maps of.
        num_scenes: only the first so many scenes.
        seed: seed of the random agent.
    """
    random = random_segmenter(pretrained, source.own_scenes.max_instances, seed)
    rows = {"random": random, **segmenters, "reconstruction": reconstruction_segmenter(pretrained)}
    return [evaluate(name, made, source, threshold, num_pictures, num_scenes) for name, made in rows.items()]
