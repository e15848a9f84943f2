"""The scenes that `acis reproduce` evaluates, and what is kept of them and of the evaluations."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.datasets import Scene, SceneDataset, open_scenes
from acis_env.files import replacing
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import Pretrained
from agents.algorithms.base import core_of
from agents.environment import EnvConfig
from agents.evaluation.evaluation import Evaluation
from agents.experiments.methods import SceneSet

NUM_PICTURES = 6
"""Number of evaluated scenes whose label maps are kept."""


class KeptScenes(list[Scene]):
    """Scenes of a data set in memory, by default all of them: what is used several times is drawn or decoded once."""

    def __init__(self, dataset: SceneDataset, indices: Iterable[int] | None = None) -> None:
        super().__init__(dataset[index] for index in (range(len(dataset)) if indices is None else indices))
        self.max_instances = dataset.max_instances


def scenes_of(scene_set: SceneSet) -> dict[str, Any]:
    """The part of a job's configuration that says which scenes it uses, and how far their label maps are filled."""
    filling = {"fill": scene_set.fill} if scene_set.fill else {}
    return {
        "scenes": scene_set.scenes,
        "scene_options": dict(scene_set.scene_options),
        "val_options": dict(scene_set.val_options),
        "split": scene_set.split,
        **filling,
    }


def open_evaluated(
    scene_set: SceneSet, pretrained: Pretrained, env: EnvConfig, device: str = "cpu"
) -> SegmentationVectorEnv:
    """The environment `env` with the networks of a run, in the scenes that are evaluated."""
    scenes = KeptScenes(open_scenes(scene_set.scenes, scene_set.split, pretrained.size, scene_set.val_options))
    return core_of(env.make_evaluation(scene_set.split, scenes=scenes, weights=pretrained, device=device))


def pictured(num_scenes: int) -> list[int]:
    """Indices of the scenes whose label maps `evaluate` keeps."""
    return sorted(set(np.linspace(0, num_scenes - 1, min(NUM_PICTURES, num_scenes)).round().astype(int).tolist()))


def record(evaluation: Evaluation) -> dict[str, Any]:
    """How it was measured, measures scene by scene, means, and the Dice per step with the scenes that reach it."""
    names = evaluation.scenes[0]
    lengths = [len(dice) for dice in evaluation.dice_per_step]
    return {
        **asdict(evaluation.conditions),
        "mean": evaluation.mean,
        "scenes": {name: [round(scene[name], 5) for scene in evaluation.scenes] for name in names},
        "dice_at_step": evaluation.dice_at_step(),
        "scenes_at_step": [sum(length > t for length in lengths) for t in range(max(lengths))],
    }


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays to an npz file, whole or not at all."""
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]


def checksum(scenes: Iterable[Scene]) -> str:
    """Checksum of the images and label maps of scenes, in eight hexadecimal digits."""
    found = 0
    for scene in scenes:
        for array in (scene.image, scene.require_label_map()):
            found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
    return f"{found:08x}"
