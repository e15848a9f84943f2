"""Columns of a table whose measures are those of published scripts, each labelled with the name of its script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from acis_env.metric_variants import VARIANTS, variant_metrics
from acis_env.ops.labels import relabel

Variant = Literal["codalab", "lsc-matlab", "e2e"]


def variant_columns(
    variants: Iterable[Variant], prediction: NDArray[Any], ground_truth: NDArray[Any]
) -> dict[str, float]:
    """Measures of one scene, such as `codalab.best_dice`.

    The challenge's scorers get the labels that a submission has, 1..T without gaps; for "e2e" a label is a step.
    """
    columns: dict[str, float] = {}
    submitted = relabel(prediction)
    for variant in variants:
        labels = prediction if variant == "e2e" else submitted
        columns |= {f"{variant}.{name}": x for name, x in variant_metrics(variant, labels, ground_truth).items()}
    return columns


def variant_names(columns: Mapping[str, float]) -> Sequence[str]:
    """Those of `columns` that `variant_columns` made, in their order."""
    return [name for name in columns if name.partition(".")[0] in VARIANTS]
