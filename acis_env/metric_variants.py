"""Measures as published evaluation scripts compute them, for comparison with tables that were made by those.

None is the default: `acis_env.metrics` has the measures by their definition. What the scripts do otherwise:

| name | script | differs in |
| --- | --- | --- |
| `codalab` | Python scorer of the Leaf Segmentation Challenge | `best_dice` is one-directional, over predicted labels |
| `lsc-matlab` | MATLAB scorer of its first years | a map of another size is resized |
| `e2e` | Ren & Zemel, "End-to-end instance segmentation with recurrent attention", CVPR 2017 | `sbd` |

Both scorers of the challenge take the smallest label of a map for its background and all from there to the largest for
instances. So a gap in the labels counts as an instance with a Dice of 0, and counts are differences of labels.

Ignored pixels (-1) of the ground truth are left out of both maps first; the scripts know of none.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.metrics import check_ground_truth, check_label_map, contingency_table, segmentation_metrics
from acis_env.ops.labels import IGNORED

LabelMap = NDArray[Any]  # [H, W], integers, or pixels of one in a row [1, K]


def variant_metrics(name: str, prediction: LabelMap | None, ground_truth: LabelMap) -> dict[str, float]:
    """Every measure of one image that the script `name` reports.

    Args:
        name: one of `VARIANTS`.
        prediction: `[H, W]`, any integer dtype, 0 = background; None where there is none, which counts as all
            background. For "e2e" label `t` is the `t`-th prediction.
        ground_truth: `[H, W]`, any integer dtype, 0 = background, -1 = ignored.

    Returns:
        By name, as far as the script has them: `best_dice`, mean over predicted labels of the largest Dice with an
        instance; `sbd`, the smaller of that and its counterpart over instances; `dic`, `abs_dic`, `fbd`, `mucov`,
        `mwcov`, `avg_fp`, `avg_fn` as `segmentation_metrics`.

    Raises:
        ValueError: there is no such variant, or a map is not a matrix of integers as above; for "e2e" also if the two
            differ in shape.
    """
    if name not in VARIANTS:
        raise ValueError(f"variant must be one of {list(VARIANTS)}, got {name!r}")
    check_ground_truth("ground_truth", ground_truth)
    if prediction is None:
        prediction = np.zeros(ground_truth.shape, np.int64)
    check_label_map("prediction", prediction)
    return VARIANTS[name](prediction, ground_truth)


def _codalab(prediction: LabelMap, ground_truth: LabelMap) -> dict[str, float]:
    """A prediction of another shape has scores of 0 and a difference in count of -1, whatever it holds."""
    if prediction.shape != ground_truth.shape:
        return {"best_dice": 0.0, "sbd": 0.0, "fbd": 0.0, "dic": -1.0, "abs_dic": 1.0}
    return _challenge_metrics(prediction, ground_truth)


def _lsc_matlab(prediction: LabelMap, ground_truth: LabelMap) -> dict[str, float]:
    """A prediction of another shape is resized by the nearest pixel centre."""
    if prediction.shape != ground_truth.shape:
        prediction = _resize_nearest(prediction, ground_truth.shape)
    metrics = _challenge_metrics(prediction, ground_truth)
    del metrics["best_dice"]  # the script says only the symmetric one
    return metrics


def _e2e(prediction: LabelMap, ground_truth: LabelMap) -> dict[str, float]:
    """Both best Dice are means over the first `N` labels, `N` the number of instances and at least 1.

    A prediction with no pixel of its own among the first `N` has a Dice of 0, and one after them counts only as a
    partner of instances.
    """
    metrics = segmentation_metrics(prediction, ground_truth)
    dice = _dice(contingency_table(prediction, ground_truth))
    present = np.unique(prediction[ground_truth != IGNORED])
    labels = present[present > 0]
    count = max(dice.shape[1], 1)
    forward = dice.max(1, initial=0)[labels <= count].sum() / count
    backward = dice.max(0, initial=0).sum() / count
    kept = ("fbd", "mucov", "mwcov", "avg_fp", "avg_fn", "dic", "abs_dic")
    return {"sbd": float(min(forward, backward)), **{name: metrics[name] for name in kept}}


VARIANTS: MappingProxyType[str, Callable[[LabelMap, LabelMap], dict[str, float]]] = MappingProxyType(
    {"codalab": _codalab, "lsc-matlab": _lsc_matlab, "e2e": _e2e}
)
"""The variants by name; `variant_metrics` checks what they are given."""


def _challenge_metrics(prediction: LabelMap, ground_truth: LabelMap) -> dict[str, float]:
    """Measures of both scorers of the challenge, of maps of one shape."""
    is_known = ground_truth != IGNORED
    predicted, true = _above_smallest(prediction[is_known]), _above_smallest(ground_truth[is_known])
    num_predictions, num_instances = (int(labels.max(initial=0)) for labels in (predicted, true))
    table = contingency_table(predicted, true)
    dice = _dice(table)
    forward = float(dice.max(1, initial=0).sum()) / max(num_predictions, 1)
    backward = float(dice.max(0, initial=0).sum()) / max(num_instances, 1)
    foreground = int(table[1:].sum() + table[:, 1:].sum())
    difference = float(num_predictions - num_instances)
    return {
        "best_dice": forward,
        "sbd": min(forward, backward),
        "fbd": 2 * int(table[1:, 1:].sum()) / max(foreground, 1),
        "dic": difference,
        "abs_dic": abs(difference),
    }


def _above_smallest(labels: NDArray[Any]) -> NDArray[np.int64]:
    """`labels` `[K]` in a row `[1, K]`, less the smallest of them."""
    row = labels.astype(np.int64)[None]
    return row - row.min() if row.size else row


def _dice(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each prediction with each instance that have pixels, `[T, N]`, from their `contingency_table`."""
    areas = table[1:].sum(1)[:, None] + table[:, 1:].sum(0)
    return np.asarray(2 * table[1:, 1:] / areas)


def _resize_nearest(label_map: LabelMap, shape: tuple[int, ...]) -> LabelMap:
    """`label_map` `[h, w]` in another `shape` `(H, W)`, each pixel as the one with the nearest centre."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(shape, label_map.shape, strict=True)
    )
    return np.asarray(label_map[rows[:, None], columns])
