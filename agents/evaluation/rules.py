"""The rule by which masks become label maps, chosen on scenes that were trained on.

What is compared in one table has one rule: `choose_rule` takes all segmenters of the table at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from acis_env.episode_source import EpisodeSource
from acis_env.metrics import segmentation_metrics
from acis_env.surroundings import unaffected
from agents.evaluation.segmenters import Segmenter
from agents.evaluation.whole_pictures import WholePictures
from agents.models.composition import DEFAULT, Composition, Overlaps, PictureMasks

FILLS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Distances of filling that are tried."""
NUM_SCENES = 100
"""Number of scenes on which a rule is chosen, spread evenly over all of them."""


def candidate_rules(base: Composition = DEFAULT) -> list[Composition]:
    """`base` with every way to treat overlaps and every distance in `FILLS`; `base` itself comes first."""
    rules = [replace(base, overlaps=overlaps, fill=fill) for overlaps in get_args(Overlaps) for fill in FILLS]
    return [base, *(rule for rule in rules if rule != base)]


@unaffected
def measure_rules(
    segmenters: Mapping[str, Segmenter],
    source: EpisodeSource,
    rules: Sequence[Composition],
    num_scenes: int = NUM_SCENES,
) -> dict[Composition, dict[str, float]]:
    """Mean SBD of every segmenter, with own stopping, by every rule; masks are predicted once.

    Args:
        segmenters: what the rule is for, by name.
        source: begins an episode in each of its scenes, which should be training scenes without augmentation.
        rules: what is tried.
        num_scenes: number of scenes that are used, spread evenly.

    Raises:
        ValueError: a scene has no label map; names the first.
    """
    pictures = WholePictures(source)
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(num_scenes, len(pictures))).round().astype(int)).tolist()
    found: dict[Composition, dict[str, list[float]]] = {rule: {name: [] for name in segmenters} for rule in rules}
    for name, segmenter in segmenters.items():
        for segmented in pictures.segmented(segmenter, chosen):
            scene = segmented.scene
            label_map, size = scene.require_label_map(), (scene.image.shape[1], scene.image.shape[2])
            for rule in rules:
                masks = PictureMasks.joined(segmented.own, size, pictures.preprocessing, rule)
                predicted = masks.label_map(rule, segmented.foregrounds)
                found[rule][name].append(segmentation_metrics(predicted, label_map)["sbd"])
    return {rule: {name: float(np.mean(v)) for name, v in values.items()} for rule, values in found.items()}


def choose_rule(measured: Mapping[Composition, Mapping[str, float]]) -> Composition:
    """The rule of the largest mean over all segmenters; the first of equals."""
    return max(measured, key=lambda rule: float(np.mean(list(measured[rule].values()))))


def format_rules(measured: Mapping[Composition, Mapping[str, float]]) -> str:
    """What `measure_rules` found as an aligned text table, one row per rule."""
    names = list(next(iter(measured.values())))
    widths = [max(len(name), 6) for name in names]
    lines = [f"{'overlaps':<16}  {'fill':>5}  " + "  ".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True))]
    for rule, scores in measured.items():
        values = "  ".join(f"{scores[n]:>{w}.4f}" for n, w in zip(names, widths, strict=True))
        lines.append(f"{rule.overlaps:<16}  {rule.fill:>5g}  {values}")
    return "\n".join(lines)
