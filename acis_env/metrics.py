"""Evaluation of a finished segmentation; nothing here takes part in training.

Measures and symbols of Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Sec. 6 (Tables 1-4,
Fig. 3). Published tables compare label maps at the original image resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import pad

from acis_env.ops.labels import IGNORED, relabel

METRIC_NAMES = (
    "sbd",
    "dic",
    "abs_dic",
    "fbd",
    "mucov",
    "mwcov",
    "avg_fp",
    "avg_fn",
    "fp_rate",
    "fn_rate",
)


def segmentation_metrics(prediction: NDArray[Any], ground_truth: NDArray[Any]) -> dict[str, float]:
    """Every measure of one image (Sec. 6 of the paper).

    Both maps hold 0 for the background and a positive label per instance. Labels need not be consecutive and
    their order plays no part. Pixels that the ground truth ignores (-1) do not count: predictions are cut to the
    others, and one that has no other is none. A mean over no labels is 0, so the measures are finite for every image:

    | key | meaning | range | no prediction | no instance | neither |
    | --- | --- | --- | --- | --- | --- |
    | `sbd` | smaller of the two best Dice, see below | [0, 1] | 0 | 0 | 0 |
    | `dic` | predictions minus instances | integer | -N | T | 0 |
    | `abs_dic` | its absolute value | integer | N | T | 0 |
    | `fbd` | Dice of the two foregrounds | [0, 1] | 0 | 0 | 0 |
    | `mucov` | best IoU of an instance, mean over instances | [0, 1] | 0 | 0 | 0 |
    | `mwcov` | the same, weighted by the area of the instance | [0, 1] | 0 | 0 | 0 |
    | `avg_fp` | number of predictions that overlap no instance | integer | 0 | T | 0 |
    | `avg_fn` | number of instances that no prediction overlaps | integer | N | 0 | 0 |
    | `fp_rate` | `avg_fp` as a fraction of the predictions | [0, 1] | 0 | 1 | 0 |
    | `fn_rate` | `avg_fn` as a fraction of the instances | [0, 1] | 1 | 0 | 0 |

    The best Dice of one map averages, over all of its labels, the largest Dice with a label of the other map.
    Two empty foregrounds have an `fbd` of 0 just as two empty masks have a score of 0.

    Args:
        prediction: `[H, W]`, any integer dtype, not negative.
        ground_truth: `[H, W]`, any integer dtype, -1 = ignored.

    Returns:
        The ten measures by name, in the order of `METRIC_NAMES`.

    Raises:
        ValueError: a map is not a matrix of integers as above, or the two differ in shape.
    """
    table = torch.from_numpy(contingency_table(prediction, ground_truth))
    values = torch.cat(list(_table_metrics(table[None], torch.float64).values())).tolist()
    return dict(zip(METRIC_NAMES, values, strict=True))


def batch_metrics(
    predictions: Tensor, label_maps: Tensor, max_predictions: int, max_instances: int
) -> dict[str, Tensor]:
    """The measures of `segmentation_metrics` for each image of a batch, on its device and without a wait for it.

    A label that occurs nowhere in an image does not count. Labels are not looked at: one beyond its maximum is an
    index error, or is taken for another label.

    Args:
        predictions: `[B, H, W]` in 0..max_predictions, any integer dtype; 0 is background.
        label_maps: `[B, H, W]` in -1..max_instances, any integer dtype, on the same device; -1 = ignored.
        max_predictions: largest label there can be in a prediction, `T`.
        max_instances: largest label there can be in a label map, `N`.

    Returns:
        The ten measures `[B]` by name, in the order of `METRIC_NAMES`.

    Raises:
        ValueError: the two are no batches of maps of an integer dtype, or differ in shape.
    """
    tables = _batch_tables(predictions, label_maps, max_predictions, max_instances)
    return _table_metrics(tables, torch.float32)  # the widest that every device has


def best_dice(
    predictions: Tensor, label_maps: Tensor, max_predictions: int, max_instances: int
) -> tuple[Tensor, Tensor]:
    """Dice `[B, T]` of every predicted label with the instance that it fits best, and its number of pixels `[B, T]`.

    Ignored pixels do not count, and a label that occurs nowhere else has neither. Arguments and errors are those of
    `batch_metrics`.
    """
    tables = _batch_tables(predictions, label_maps, max_predictions, max_instances)
    predicted_area = tables[:, 1:].sum(2)
    areas = predicted_area[:, :, None] + tables[:, :, 1:].sum(1)[:, None]
    dice = 2 * tables[:, 1:, 1:] / areas.clamp_min(1)
    return pad(dice, (1, 0)).amax(2), predicted_area  # padded for where there are no instances


def _batch_tables(predictions: Tensor, label_maps: Tensor, max_predictions: int, max_instances: int) -> Tensor:
    """Pixels that labels share, `[B, T + 1, N + 1]` int64, as `contingency_table`; see `batch_metrics`."""
    for name, maps in (("predictions", predictions), ("label_maps", label_maps)):
        if maps.dim() != 3:
            raise ValueError(f"{name} must be [B, H, W], got {list(maps.shape)}")
        if maps.is_floating_point() or maps.is_complex() or maps.dtype == torch.bool:
            raise ValueError(f"{name} must have an integer dtype, got {maps.dtype}")
    if predictions.shape != label_maps.shape:
        raise ValueError(
            f"predictions must have the shape of label_maps, {list(label_maps.shape)}, got {list(predictions.shape)}"
        )
    shape = len(predictions), max_predictions + 1, max_instances + 2  # the first column are ignored pixels
    pairs = (predictions.long() * shape[2] + label_maps + 1).flatten(1)
    counts = torch.zeros(shape, dtype=torch.int64, device=pairs.device).flatten(1)
    tables = counts.scatter_add(1, pairs, torch.ones_like(counts[:, :1]).expand_as(pairs)).view(shape)
    return tables[:, :, 1:]


def mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over images of every measure of `segmentation_metrics`, each image with the same weight.

    Args:
        metrics: one mapping per image, at least one, all with the same keys.

    Raises:
        ValueError: no image, or images with different keys.
    """
    if not metrics:
        raise ValueError("metrics must hold at least one image, got none; is the data set empty?")
    for index, image_metrics in enumerate(metrics):
        if image_metrics.keys() != metrics[0].keys():
            raise ValueError(
                f"metrics must have the same keys for every image, expected {sorted(metrics[0])} as for "
                f"image 0, got {sorted(image_metrics)} for image {index}"
            )
    return {name: float(np.mean([image_metrics[name] for image_metrics in metrics])) for name in metrics[0]}


def matched_dice(masks: NDArray[Any], label_map: NDArray[Any]) -> NDArray[np.float64]:
    """Dice of every predicted mask with the instance it is assigned, Fig. 3.

    The one-to-one assignment makes the sum of the Dice largest (Eq. 4, with all `T` masks). Where several
    assignments reach that sum, one of them is taken: the sum is unique, its share per mask is not.

    Args:
        masks: `[T, H, W]` in [0, 1], in the order of prediction, soft (floating) or hard (bool, integer).
        label_map: `[H, W]`, any integer dtype, with `N` instances; 0 is background, and -1 ignored: masks do not count
            there.

    Returns:
        `[T]` in [0, 1]; 0 for a mask without an instance.

    Raises:
        ValueError: shapes do not fit, a mask leaves [0, 1], or `label_map` is not of integers from -1 on.
    """
    dice = _dice_matrix(masks, label_map)
    matched = np.zeros(len(dice))
    rows, columns = linear_sum_assignment(dice, maximize=True)
    matched[rows] = dice[rows, columns]
    return matched


def dice_star(masks: NDArray[Any], label_map: NDArray[Any]) -> float:
    """Matched Dice of an image with ground-truth stopping, `Dice*` of Table 2: in [0, 1].

    Only the first `N` masks are matched, and the sum of their Dice is divided by `N`: a missing mask counts 0.
    An image without instances has 0. Arguments and errors are those of `matched_dice`.
    """
    check_ground_truth("label_map", label_map)
    num_instances = len(np.unique(label_map[label_map > 0]))
    matched = matched_dice(masks[:num_instances], label_map)
    return float(matched.sum()) / num_instances if num_instances else 0.0


def contingency_table(prediction: NDArray[Any], ground_truth: NDArray[Any]) -> NDArray[np.int64]:
    """Pixels shared by every label of `prediction` and every label of `ground_truth`, both `[H, W]`.

    Ignored pixels (-1) of the ground truth are left out of both.

    Returns:
        `[T + 1, N + 1]` int64, labels in increasing order. Row 0 and column 0 are the background, whether or
        not it occurs; each other row and column has a positive sum.

    Raises:
        ValueError: labels are not integers of at least 0, or -1 in the ground truth, or the two differ in shape.
    """
    check_label_map("prediction", prediction)
    check_ground_truth("ground_truth", ground_truth)
    if prediction.shape != ground_truth.shape:
        raise ValueError(
            f"prediction must have the shape of ground_truth, {list(ground_truth.shape)}, "
            f"got {list(prediction.shape)}; resize it to the ground truth first"
        )
    is_known = ground_truth != IGNORED
    rows, num_predictions = _consecutive(prediction[is_known])
    columns, num_instances = _consecutive(ground_truth[is_known])
    shape = num_predictions + 1, num_instances + 1
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def check_label_map(name: str, label_map: NDArray[Any]) -> None:
    """Raise `ValueError`, with `name`, unless `label_map` is `[H, W]` of non-negative integers."""
    _check_labels(name, label_map, 0, "0 = background")


def check_ground_truth(name: str, label_map: NDArray[Any]) -> None:
    """Raise `ValueError`, with `name`, unless `label_map` is `[H, W]` of integers from -1 on, -1 for ignored pixels."""
    _check_labels(name, label_map, IGNORED, f"0 = background, {IGNORED} = ignored")


def _check_labels(name: str, label_map: NDArray[Any], lowest: int, meaning: str) -> None:
    if label_map.ndim != 2:
        raise ValueError(f"{name} must be [H, W], got {list(label_map.shape)}")
    if not np.issubdtype(label_map.dtype, np.integer):
        raise ValueError(f"{name} must have an integer dtype, got {label_map.dtype}")
    if label_map.min(initial=0) < lowest:
        raise ValueError(f"{name} must hold labels >= {lowest} ({meaning}), got {label_map.min()}")


def _dice_matrix(masks: NDArray[Any], label_map: NDArray[Any]) -> NDArray[np.float64]:
    """Dice `[T, N]` of every mask `[T, H, W]` with every instance of `label_map` `[H, W]`; 0 if empty."""
    check_ground_truth("label_map", label_map)
    _check_masks(masks, label_map.shape)
    labels, num_instances = _consecutive(label_map)
    bins, places = num_instances + 2, labels + 1  # the first bin takes ignored pixels, and is dropped
    true_area = np.bincount(places, minlength=bins)[2:]
    # Column 0 of the sums is the background: it counts for the area of a mask, not for an overlap.
    sums = np.array([np.bincount(places, mask.ravel(), bins) for mask in masks])
    sums = sums.reshape(len(masks), bins)[:, 1:]  # keeps the second axis where there is no mask
    return np.asarray(2 * sums[:, 1:] / (sums.sum(axis=1)[:, None] + true_area))


def _consecutive(label_map: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """The pixels of a label map with labels renamed to 1..N, flat, int64, and `N`; 0 and -1 stay what they are."""
    labels = relabel(label_map).ravel()
    return labels.astype(np.int64), int(labels.max(initial=0))


def _table_metrics(tables: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """All measures, `[B]` of `dtype`, in the order of `METRIC_NAMES`.

    Args:
        tables: `[B, T + 1, N + 1]` int64, pixels shared by every predicted label and every true one, as
            `contingency_table`; a label whose row or column is all zero does not count.
        dtype: floating, to divide in; pixels and labels are counted in integers.
    """
    # The background keeps its place with an area and overlaps of 0, so that no axis is empty, and counts no more
    # than an absent label does.
    overlap = pad(tables[:, 1:, 1:], (1, 0, 1, 0))
    predicted_area, true_area = pad(tables[:, 1:].sum(2), (1, 0)), pad(tables[:, :, 1:].sum(1), (1, 0))
    num_predictions, num_instances = (predicted_area > 0).sum(1), (true_area > 0).sum(1)
    area = predicted_area[:, :, None] + true_area[:, None]

    def ratio(numerator: Tensor, count: Tensor) -> Tensor:
        """Quotient by a count of pixels or labels; 0 where that is 0, for so is the numerator then."""
        return numerator.to(dtype) / count.clamp_min(1).to(dtype)

    dice, best_iou = ratio(2 * overlap, area), ratio(overlap, area - overlap).amax(1)
    predicted_dice, true_dice = ratio(dice.amax(2).sum(1), num_predictions), ratio(dice.amax(1).sum(1), num_instances)

    difference_in_count = (num_predictions - num_instances).to(dtype)
    false_positives = ((predicted_area > 0) & (overlap.sum(2) == 0)).sum(1).to(dtype)
    false_negatives = ((true_area > 0) & (overlap.sum(1) == 0)).sum(1).to(dtype)
    return {
        "sbd": torch.minimum(predicted_dice, true_dice),
        "dic": difference_in_count,
        "abs_dic": difference_in_count.abs(),
        "fbd": ratio(2 * overlap.sum((1, 2)), predicted_area.sum(1) + true_area.sum(1)),
        "mucov": ratio(best_iou.sum(1), num_instances),
        "mwcov": ratio((true_area * best_iou).sum(1), true_area.sum(1)),
        "avg_fp": false_positives,
        "avg_fn": false_negatives,
        "fp_rate": ratio(false_positives, num_predictions),
        "fn_rate": ratio(false_negatives, num_instances),
    }


def _check_masks(masks: NDArray[Any], shape: tuple[int, ...]) -> None:
    if masks.ndim != 3 or masks.shape[1:] != shape:
        expected = ", ".join(str(size) for size in shape)
        raise ValueError(f"masks must be [T, H, W] = [T, {expected}] as label_map, got {list(masks.shape)}")
    if not masks.size:
        return
    smallest, largest = masks.min(), masks.max()
    if not (smallest >= 0 and largest <= 1):  # also refuses NaN
        raise ValueError(f"masks must lie in [0, 1], got values from {smallest} to {largest}")
