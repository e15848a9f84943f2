"""A job of `acis reproduce`: measure what the methods on a set of scenes are compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from acis_env.episode_source import EpisodeSource
from acis_env.files import write_json
from acis_env.weights import load_pretrained
from agents.algorithms.base import core_of
from agents.environment import EnvConfig
from agents.evaluation.classical import WATERSHED, is_available, tune
from agents.evaluation.evaluation import RANDOM_ACTIONS, RANDOM_CODES, count_scenes, evaluate
from agents.evaluation.segmenters import random_action_segmenter, random_segmenter, reconstruction_segmenter
from agents.experiments.methods import SceneSet, Variant, env_of
from agents.experiments.peak_memory import measure_memory
from agents.experiments.provenance import origin
from agents.experiments.scenes import open_evaluated, pictured, record, scenes_of, write_arrays
from agents.models.composition import Composition


@dataclass(frozen=True)
class References:
    """The job of measuring random actions and codes, the watershed, the decoder's bound, and the memory of an update.

    The watershed is tuned on training scenes, and left out where scikit-image is not installed.
    """

    folder: Path
    scene_set: SceneSet
    weights: Mapping[Variant, str]

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return f"references of {self.scene_set.name}"

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the result, beside the weights, whose rows are added when they are needed."""
        return scenes_of(self.scene_set)

    @property
    def result(self) -> Path:
        """File that is written at the very end."""
        return self.folder / "references.json"

    @property
    def is_done(self) -> bool:
        """Whether every decoder has its rows."""
        return not self.missing

    @property
    def missing(self) -> list[Variant]:
        """Decoders that have no rows yet."""
        rows = json.loads(self.result.read_text())["rows"] if self.result.exists() else {}
        return [variant for variant in self.weights if variant not in rows]

    @property
    def is_resumable(self) -> bool:
        """The folder is that of the cells, and there is nothing to resume."""
        return False

    def run(self) -> None:
        """Evaluate and measure what is missing."""
        known = json.loads(self.result.read_text()) if self.result.exists() else {"rows": {}}
        for variant in self.missing:
            pretrained = load_pretrained(self.weights[variant])
            source = open_evaluated(self.scene_set, pretrained, EnvConfig("ACIS/Scenes-v0")).source
            rule = Composition(fill=self.scene_set.fill)
            segmenters = {
                RANDOM_ACTIONS: random_action_segmenter(source.decoder, source.own_scenes.max_instances),
                RANDOM_CODES: random_segmenter(pretrained, source.own_scenes.max_instances),
                "reconstruction": reconstruction_segmenter(pretrained),
            }
            if variant == "standard" and is_available():  # all variants share its context network
                training = env_of(self.scene_set, self.weights[variant]).make_evaluation("train", weights=pretrained)
                segmenters["watershed"] = tune(WATERSHED, core_of(training).source).segmenter
            rows = {name: record(evaluate(name, made, source, rule)) for name, made in segmenters.items()}
            known["rows"][variant] = {"weights": self.weights[variant], **rows}
        if "memory" not in known:
            self._write_pictures(source)
            known |= {"configuration": self.configuration, **origin(self.folder), "num_scenes": count_scenes(source)}
            known["memory"] = measure_memory(pretrained)
        write_json(self.result, known)

    def _write_pictures(self, source: EpisodeSource) -> None:
        pictures: dict[str, NDArray[Any]] = {}
        for index in pictured(count_scenes(source)):
            scene = source.own_scenes.scene(index)
            pictures |= {f"image-{index}": scene.image, f"truth-{index}": scene.require_label_map()}
        write_arrays(self.folder / "scenes.npz", pictures)
