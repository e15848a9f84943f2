"""Numbers of a classical method, chosen on training scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets import open_scenes
from acis_env.metrics import segmentation_metrics
from acis_env.weights import Pretrained
from agents.algorithms.base import core_of
from agents.environment import EnvConfig
from agents.evaluation.whole_pictures import iterate
from agents.experiments.methods import SceneSet
from agents.experiments.scenes import KeptScenes

NUM_SCENES = 100
"""Number of training scenes on which numbers are chosen, spread evenly over all of them."""
ROUNDS = 2
"""How often every number is chosen anew, given the others."""

Numbers = dict[str, float]
"""Numbers by name."""
Split = Callable[[NDArray[np.bool_], Numbers], NDArray[np.int32]]
"""A classical method: from a foreground `[H, W]` and its numbers to labels `[H, W]`, 0 for background."""


@dataclass(frozen=True)
class Example:
    """A training scene, as a classical method sees it."""

    foreground: NDArray[np.bool_]  # [H, W], predicted
    label_map: NDArray[np.int32]  # [H, W], true


def training_examples(
    scene_set: SceneSet, env: EnvConfig, pretrained: Pretrained, threshold: float, device: str, number: int = NUM_SCENES
) -> list[Example]:
    """Training scenes at the size of the networks, with the foreground that the context network predicts there."""
    dataset = open_scenes(scene_set.scenes, "train", pretrained.size, scene_set.scene_options)
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(number, len(dataset))).round().astype(int))
    scenes = KeptScenes(dataset, indices.tolist())
    source = core_of(env.make_evaluation("train", scenes=scenes, weights=pretrained, device=device)).source
    examples = []
    for state, _ in iterate(source):
        foregrounds = (state.context[:, 3] >= threshold).numpy(force=True)
        label_maps = state.label_map.numpy(force=True)
        examples += [Example(f, labels.astype(np.int32)) for f, labels in zip(foregrounds, label_maps, strict=True)]
    return examples


def tune(
    split: Split, grid: Mapping[str, Sequence[float]], start: Mapping[str, float], examples: Sequence[Example]
) -> tuple[Numbers, float]:
    """The numbers of largest mean SBD: one after the other over its `grid`, given the others; the first of equals.

    Returns:
        The numbers, and their mean SBD on `examples`.
    """
    best = dict(start)
    score = mean_sbd(split, best, examples)
    for _ in range(ROUNDS):
        for name, values in grid.items():
            for value in values:
                candidate = {**best, name: value}
                found = mean_sbd(split, candidate, examples) if candidate != best else score
                if found > score:
                    best, score = candidate, found
    return best, score


def mean_sbd(split: Split, numbers: Numbers, examples: Sequence[Example]) -> float:
    """Mean SBD of a method over `examples`."""
    measured: list[dict[str, Any]] = [segmentation_metrics(split(e.foreground, numbers), e.label_map) for e in examples]
    return float(np.mean([measures["sbd"] for measures in measured]))
