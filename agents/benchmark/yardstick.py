"""Classical methods on the foreground that the context network predicts: what a sequential agent has to beat."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from acis_env.allocator import peak_memory
from acis_env.dynamics import EnvState
from acis_env.weights import load_pretrained
from agents.benchmark.contender import Kind, Ready, Task
from agents.benchmark.extras import require
from agents.benchmark.tuning import NUM_SCENES, ROUNDS, Numbers, Split, training_examples, tune
from agents.evaluation.segmenters import Segmenter
from agents.experiments.methods import Variant, env_of
from agents.models.prediction import Prediction, Stopping

THRESHOLD = 0.5
"""Probability from which on a pixel is foreground."""


@dataclass(frozen=True)
class Yardstick:
    """A classical method whose numbers are tuned on training scenes."""

    about: str
    split: Split
    grid: Mapping[str, Sequence[float]]
    """Values of each number that are tried."""
    start: Mapping[str, float]
    stopping: Stopping = "own"
    kind: Kind = "yardstick"
    is_seeded: bool = False
    variant: Variant = "standard"

    def configuration(self, task: Task) -> dict[str, Any]:
        """What is tried, and on how many training scenes."""
        require("skimage")
        grid = {name: list(values) for name, values in self.grid.items()}
        return {"grid": grid, "start": dict(self.start), "scenes": NUM_SCENES, "rounds": ROUNDS}

    def prepare(self, task: Task) -> Ready:
        """Tune the numbers."""
        cpu, wall = time.process_time(), time.monotonic()
        pretrained = load_pretrained(task.weights).to(task.device)
        env = env_of(task.scene_set, task.weights)
        examples = training_examples(task.scene_set, env, pretrained, THRESHOLD, task.device)
        numbers, score = tune(self.split, self.grid, self.start, examples)
        usage = {
            "cpu_seconds": time.process_time() - cpu,
            "wall_seconds": time.monotonic() - wall,
            "peak_memory": peak_memory(),
        }
        facts = {"numbers": numbers, "training_sbd": score, "training_scenes": len(examples)}
        return Ready(env, pretrained, lambda core: split_segmenter(self.split, numbers), self.stopping, 0, usage, facts)


def split_segmenter(split: Split, numbers: Numbers) -> Segmenter:
    """A classical method as a segmenter: its segments are masks, the largest first."""

    def segment(state: EnvState) -> Prediction:
        foregrounds = (state.context[:, 3] >= THRESHOLD).numpy(force=True)
        scenes = [_masks(split(foreground, numbers)) for foreground in foregrounds]
        counts = torch.tensor([len(masks) for masks in scenes], device=state.context.device)
        longest = max(int(counts.max()), int(state.num_instances.max()))
        found = state.context.new_zeros(len(scenes), longest, *foregrounds.shape[1:])
        for index, masks in enumerate(scenes):
            found[index, : len(masks)] = torch.from_numpy(masks).to(found)
        return Prediction(found, counts, torch.ones_like(counts, dtype=torch.bool))

    return segment


def _masks(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Masks `[T, H, W]` of the labels that occur, the largest first."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    order = [label for label in np.argsort(-areas, kind="stable") if areas[label] > 0]
    return np.stack([labels == label for label in order]) if order else np.zeros((0, *labels.shape), dtype=bool)


def components(foreground: NDArray[np.bool_], numbers: Numbers) -> NDArray[np.int32]:
    """Connected components of the foreground, with diagonal neighbours, of at least `area` pixels."""
    labels, _ = ndimage.label(foreground, structure=np.ones((3, 3)))
    return without_small(labels.astype(np.int32), numbers["area"])


def watershed(foreground: NDArray[np.bool_], numbers: Numbers) -> NDArray[np.int32]:
    """Watershed of the distance to the background.

    The distance is smoothed by a Gaussian of `sigma` pixels; its peaks, at least `distance` pixels apart and `height`
    high, are the markers; segments of less than `area` pixels go.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed as flood

    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), numbers["sigma"])
    peaks = peak_local_max(
        depth,
        min_distance=int(numbers["distance"]),
        threshold_abs=numbers["height"],
        labels=foreground.astype(np.int32),
        exclude_border=False,
    )
    markers = np.zeros(foreground.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return without_small(flood(-depth, markers, mask=foreground).astype(np.int32), numbers["area"])


def without_small(labels: NDArray[np.int32], area: float) -> NDArray[np.int32]:
    """Labels `[H, W]`, of which those with fewer than `area` pixels are background."""
    areas = np.bincount(labels.ravel())
    return np.where(areas[labels] >= area, labels, 0).astype(np.int32)
