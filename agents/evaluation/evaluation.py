"""Evaluation over a split, beside references measured in the same run.

All measures are computed at each scene's own resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from acis_env.datasets.scene import Scene
from acis_env.episode_source import EpisodeSource
from acis_env.metrics import dice_star, matched_dice, mean_metrics, segmentation_metrics
from acis_env.ops.labels import IGNORED, label_areas
from acis_env.surroundings import unaffected
from acis_env.weights import Pretrained
from agents.evaluation.segmenters import (
    Segmenter,
    random_action_segmenter,
    random_segmenter,
    reconstruction_segmenter,
)
from agents.evaluation.variants import Variant, variant_columns
from agents.evaluation.whole_pictures import WholePictures
from agents.models.composition import DEFAULT, Composition, Overlaps, PictureMasks
from agents.models.prediction import Stopping

RANDOM_ACTIONS, RANDOM_CODES = "random actions", "random codes"
"""Names of the rows of chance: uniform actions in an environment, and codes from the decoder's prior."""
Foreground = Literal["none", "official"]
"""Whether label maps are cut to the foreground that a data set gives with its pictures, test pictures included."""


@dataclass(frozen=True)
class Conditions:
    """What a row of a table depends on beside the agent and the scenes: rows that differ in it are not comparable."""

    stopping: Stopping = "own"
    """Whose the number of masks is, but in the measures whose names say that the true count is used."""
    foreground: Foreground = "none"
    """What label maps are cut to."""
    preprocessing: str = "squeeze"
    """How pictures became those of the networks' size."""
    threshold: float = DEFAULT.threshold
    """Probability below which a mask does not hold a pixel."""
    overlaps: Overlaps = DEFAULT.overlaps
    """Which of the masks that hold a pixel gets it."""
    fill: float = DEFAULT.fill
    """Distance up to which pixels of the predicted foreground without a mask go to the nearest one; 0: they do not."""


@dataclass(frozen=True)
class Evaluation:
    """One row of the table: a segmenter's measures over a split."""

    name: str
    scenes: list[dict[str, float]]
    """Measures of each scene: those of `segmentation_metrics` with own stopping, and with the true count
    `sbd_gt_stop` and `dice_star`; and those of `variant_columns`, if there are any."""
    dice_per_step: list[list[float]]
    """For each scene the Dice of its first N masks with their instances, in the order of prediction (Fig. 3)."""
    label_maps: dict[int, NDArray[np.int32]]
    """Predictions for pictures, by index of the scene; the scenes are spread evenly over the split."""
    order: list[dict[str, float]] = field(default_factory=list)
    """For each scene the rank correlations of `order_correlations`."""
    conditions: Conditions = Conditions()
    """How it was measured."""

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
    composition: Composition = DEFAULT,
    num_pictures: int = 0,
    num_scenes: int | None = None,
    foreground: Foreground = "none",
    variants: Sequence[Variant] = (),
) -> Evaluation:
    """Measure `segmenter` on every scene: on the whole picture, at its own size.

    Args:
        name: name of the row.
        segmenter: what is measured.
        source: begins an episode in each of its scenes, without augmentation.
        composition: rule by which masks become a label map.
        num_pictures: number of label maps to keep.
        num_scenes: only the first so many scenes.
        foreground: "official" cuts all masks to the foreground of the scene.
        variants: published scripts whose measures are added, with own stopping; see `acis_env.metric_variants`.

    Raises:
        ValueError: a scene has no label map, or not the foreground that is asked for; names the first.
    """
    pictures = WholePictures(source)
    total, preprocessing = count_scenes(source, num_scenes), pictures.preprocessing
    shown = set(np.linspace(0, total - 1, min(num_pictures, total)).round().astype(int).tolist())
    evaluation = Evaluation(name, [], [], {}, [])
    conditions = Conditions("own", foreground, preprocessing.name, **asdict(composition))
    for found in pictures.segmented(segmenter, range(total)):
        scene, size = found.scene, (found.scene.image.shape[1], found.scene.image.shape[2])
        label_map = scene.require_label_map()
        own = PictureMasks.joined(found.own, size, preprocessing, composition)
        true = PictureMasks.joined(found.true, size, preprocessing, composition, scene.num_instances)
        own_stop, gt_stop = (masks.label_map(composition, found.foregrounds) for masks in (own, true))
        masks = true.hard(composition.threshold)
        if foreground == "official":
            background = ~_official_foreground(scene)
            own_stop[background], gt_stop[background], masks[:, background] = 0, 0, False
        evaluation.scenes.append(_measure(own_stop, gt_stop, masks, label_map))
        evaluation.scenes[-1] |= variant_columns(variants, own_stop, label_map)
        evaluation.dice_per_step.append(matched_dice(masks, label_map).tolist())
        evaluation.order.append(order_correlations(masks, label_map))
        if found.index in shown:
            evaluation.label_maps[found.index] = own_stop
        conditions = replace(conditions, stopping=found.stopping)
    return replace(evaluation, conditions=conditions)


def count_scenes(source: EpisodeSource, num_scenes: int | None = None) -> int:
    """Number of pictures that are evaluated, at most `num_scenes`."""
    total = len(WholePictures(source))
    return total if num_scenes is None else min(num_scenes, total)


def _official_foreground(scene: Scene) -> NDArray[np.bool_]:
    if scene.foreground is None:
        raise ValueError(f"{scene.name}: expected an official foreground to cut label maps to, and it has none")
    return scene.foreground


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
        label_map: `[h, w]`, labels 1..N, -1 = ignored.
        least_dice: smallest Dice of a mask with its assigned instance for this to count as found.

    Returns:
        Correlation with the instance's visible "size" in pixels and with its "label", the height in the stack of
        leaves or the nearness of cars; nothing when fewer than three instances are found or all are of one size.
    """
    if len(masks) == 0:
        return {}
    areas = label_areas(label_map)[1:]
    masks = masks & (label_map != IGNORED)
    common = np.stack([np.bincount(label_map[mask], minlength=len(areas) + 1)[1:] for mask in masks])
    dice = 2 * common / (masks.sum((1, 2))[:, None] + areas)
    steps, instances = linear_sum_assignment(dice, maximize=True)
    found = dice[steps, instances] >= least_dice
    steps, instances = steps[found], instances[found]
    if len(steps) < 3 or len(set(areas[instances])) == 1:
        return {}
    from scipy.stats import spearmanr  # slow to import, and needed by evaluations alone

    values = {"size": areas[instances], "label": instances}
    return {name: float(spearmanr(steps, value).statistic) for name, value in values.items()}


def compare(
    segmenters: Mapping[str, Segmenter],
    pretrained: Pretrained,
    source: EpisodeSource,
    composition: Composition = DEFAULT,
    num_pictures: int = 8,
    num_scenes: int | None = None,
    seed: int = 0,
    action_scale: float = 3.0,
    foreground: Foreground = "none",
    variants: Sequence[Variant] = (),
) -> list[Evaluation]:
    """The rows of the table: `segmenters` between what chance does and the bound above all agents.

    Chance has two rows: actions drawn uniformly in the environment of the agents, and codes drawn from the prior.

    Args:
        segmenters: rows by name, such as an agent before and after training.
        pretrained: context network and autoencoder of all of them.
        source: begins episodes in held-out scenes.
        composition: rule by which masks become a label map, in all rows.
        num_pictures: number of scenes to keep label maps of.
        num_scenes: only the first so many scenes.
        seed: seed of the random rows.
        action_scale: that of the agents' environment.
        foreground: "official" cuts all masks of all rows to the foreground of the scene.
        variants: published scripts whose measures are added.

    Raises:
        ValueError: a scene has no label map, or not the foreground that is asked for; names the first.
    """
    most = source.own_scenes.max_instances
    rows = {
        RANDOM_ACTIONS: random_action_segmenter(source.decoder, most, seed, action_scale),
        RANDOM_CODES: random_segmenter(pretrained, most, seed),
        **segmenters,
        "reconstruction": reconstruction_segmenter(pretrained),
    }
    return [
        evaluate(name, made, source, composition, num_pictures, num_scenes, foreground, variants)
        for name, made in rows.items()
    ]
