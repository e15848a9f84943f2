"""Classical methods on the foreground that the context network predicts: what a sequential agent has to beat."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from acis_env.dynamics import EnvState
from acis_env.episode_source import EpisodeSource
from acis_env.metrics import batch_metrics
from acis_env.networks import FOREGROUND
from agents.evaluation.segmenters import Segmenter
from agents.evaluation.whole_pictures import BATCH, iterate
from agents.models.prediction import Prediction

THRESHOLD = 0.5
"""Probability from which on a pixel is foreground."""
NUM_SCENES = 100
"""Number of training scenes on which numbers are chosen, spread evenly over all of them."""
ROUNDS = 2
"""How often every number is chosen anew, given the others."""
SIDE = 64
"""Side of the pictures that the grids below are for."""

Numbers = dict[str, float]
"""Numbers by name; all are lengths in pixels, but for "area"."""
Split = Callable[[NDArray[np.float64], Numbers], NDArray[np.int32]]
"""From the distance of every pixel to the background `[H, W]`, and numbers, to labels `[H, W]`, 0 for background."""


@dataclass(frozen=True)
class Example:
    """A training scene, as a classical method sees it."""

    depth: NDArray[np.float64]  # [H, W], distance to the predicted background
    label_map: NDArray[np.int32]  # [H, W], true


@dataclass(frozen=True)
class ClassicalMethod:
    """A method, and the numbers that it may be tuned to."""

    about: str
    split: Split
    grid: Mapping[str, Sequence[float]]
    """Values of each number that are tried."""
    start: Mapping[str, float]

    def scaled(self, size: tuple[int, int]) -> ClassicalMethod:
        """The method for pictures of `size`: lengths grow with the side of 64 pixels, areas with its square."""
        side = math.sqrt(size[0] * size[1]) / SIDE
        factors = {name: side**2 if name == "area" else side for name in self.grid}
        grid = {name: tuple(value * factors[name] for value in values) for name, values in self.grid.items()}
        return replace(self, grid=grid, start={name: value * factors[name] for name, value in self.start.items()})


@dataclass(frozen=True)
class Tuned:
    """A method with numbers that were chosen on training scenes, and its mean SBD on them."""

    split: Split
    numbers: Numbers
    training_sbd: float
    training_scenes: int

    @property
    def segmenter(self) -> Segmenter:
        """The method as a segmenter."""
        return split_segmenter(self.split, self.numbers)


def is_available() -> bool:
    """Whether scikit-image is installed, of which `watershed` is made (extra "benchmark")."""
    return importlib.util.find_spec("skimage") is not None


def tune(method: ClassicalMethod, source: EpisodeSource) -> Tuned:
    """The method at its best on the training scenes of `source`, at the size of the networks."""
    method = method.scaled(source.own_scenes.size)
    examples = training_examples(source)
    numbers, score = best_numbers(method.split, method.grid, method.start, examples)
    return Tuned(method.split, numbers, score, len(examples))


def training_examples(source: EpisodeSource) -> list[Example]:
    """Scenes of `source`, with the distance to the background that the context network predicts there."""
    total = len(source.own_scenes)
    indices = np.unique(np.linspace(0, total - 1, min(NUM_SCENES, total)).round().astype(int)).tolist()
    examples = []
    for state, _ in iterate(source, indices):
        label_maps = state.label_map.numpy(force=True).astype(np.int32)
        examples += [Example(depth, labels) for depth, labels in zip(_depths(state), label_maps, strict=True)]
    return examples


def best_numbers(
    split: Split, grid: Mapping[str, Sequence[float]], start: Mapping[str, float], examples: Sequence[Example]
) -> tuple[Numbers, float]:
    """The numbers of largest mean SBD: one after the other over its `grid`, given the others; the first of equals.

    Returns:
        The numbers, and their mean SBD on `examples`.
    """
    known: dict[tuple[tuple[str, float], ...], float] = {}

    def score_of(numbers: Numbers) -> float:
        key = tuple(sorted(numbers.items()))
        if key not in known:
            known[key] = mean_sbd(split, numbers, examples)
        return known[key]

    best = dict(start)
    for _ in range(ROUNDS):
        for name, values in grid.items():
            for value in values:
                candidate = {**best, name: value}
                if score_of(candidate) > score_of(best):
                    best = candidate
    return best, score_of(best)


def mean_sbd(split: Split, numbers: Numbers, examples: Sequence[Example]) -> float:
    """Mean SBD of a method over `examples`, which have one size."""
    scores = []
    for start in range(0, len(examples), BATCH):
        some = examples[start : start + BATCH]
        found = torch.from_numpy(np.stack([split(example.depth, numbers) for example in some]))
        label_maps = torch.from_numpy(np.stack([example.label_map for example in some]))
        scores.append(batch_metrics(found, label_maps, int(found.max()), int(label_maps.max()))["sbd"])
    return float(torch.cat(scores).double().mean())


def split_segmenter(split: Split, numbers: Numbers) -> Segmenter:
    """A classical method as a segmenter: its segments are masks, the largest first."""

    def segment(state: EnvState) -> Prediction:
        scenes = [_masks(split(depth, numbers)) for depth in _depths(state)]
        counts = torch.tensor([len(masks) for masks in scenes], device=state.context.device)
        longest = max(int(counts.max()), int(state.num_instances.max()))
        found = state.context.new_zeros(len(scenes), longest, *state.context.shape[2:])
        for index, masks in enumerate(scenes):
            found[index, : len(masks)] = torch.from_numpy(masks).to(found)
        return Prediction(found, counts, torch.ones_like(counts, dtype=torch.bool))

    return segment


def _depths(state: EnvState) -> list[NDArray[np.float64]]:
    """Distance `[H, W]` of every pixel to the predicted background, for every scene."""
    foregrounds = (state.context[:, FOREGROUND] >= THRESHOLD).numpy(force=True)
    return [depth_of(foreground) for foreground in foregrounds]


def _masks(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Masks `[T, H, W]` of the labels that occur, the largest first."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    order = [label for label in np.argsort(-areas, kind="stable") if areas[label] > 0]
    return np.stack([labels == label for label in order]) if order else np.zeros((0, *labels.shape), dtype=bool)


def depth_of(foreground: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance `[H, W]` of every pixel to the background, 0 there."""
    return np.asarray(ndimage.distance_transform_edt(foreground))


def components(depth: NDArray[np.float64], numbers: Numbers) -> NDArray[np.int32]:
    """Connected components of the foreground, with diagonal neighbours, of at least `area` pixels."""
    labels, _ = ndimage.label(depth > 0, structure=np.ones((3, 3)))
    return without_small(labels.astype(np.int32), numbers["area"])


def watershed(depth: NDArray[np.float64], numbers: Numbers) -> NDArray[np.int32]:
    """Watershed of the distance to the background.

    The distance is smoothed by a Gaussian of `sigma` pixels; its peaks, at least `distance` pixels apart and `height`
    high, are the markers; segments of less than `area` pixels go.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed as flood

    smooth = ndimage.gaussian_filter(depth, numbers["sigma"])
    peaks = peak_local_max(
        np.where(depth > 0, smooth, 0),  # the argument `labels` does the same, more slowly
        min_distance=max(round(numbers["distance"]), 1),
        threshold_abs=numbers["height"],
        exclude_border=False,
    )
    markers = np.zeros(depth.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return without_small(flood(-smooth, markers, mask=depth > 0).astype(np.int32), numbers["area"])


def without_small(labels: NDArray[np.int32], area: float) -> NDArray[np.int32]:
    """Labels `[H, W]`, of which those with fewer than `area` pixels are background."""
    areas = np.bincount(labels.ravel())
    return np.where(areas[labels] >= area, labels, 0).astype(np.int32)


_AREAS = (0, 4, 8, 16, 24, 32)
COMPONENTS = ClassicalMethod(
    "connected components of the predicted foreground", components, {"area": _AREAS}, {"area": 8}
)
WATERSHED = ClassicalMethod(
    "watershed on the smoothed distance transform of the predicted foreground",
    watershed,
    {
        "sigma": (0, 0.5, 1, 1.5, 2, 3),
        "distance": (1, 2, 3, 4, 5, 7),
        "height": (0.5, 1, 1.5, 2, 3, 4, 5),
        "area": _AREAS,
    },
    {"sigma": 1, "distance": 3, "height": 1, "area": 8},
)
