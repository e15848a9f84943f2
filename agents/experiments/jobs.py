"""The jobs of `acis reproduce`: networks that are pre-trained, references that are measured, runs that are evaluated.

Each has a folder, a configuration that decides its result, and a result file that is written at the very end.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    SCALARS,
    EventAccumulator,
)

from acis_env.datasets import PackedScenes, Scene, SceneDataset, open_scenes
from acis_env.files import replacing, write_json
from acis_env.pretraining import image_statistics, pretrain_autoencoder, pretrain_context
from acis_env.sampling import SceneBatch
from acis_env.weights import Pretrained, find_weights, load_autoencoder, load_context_network, load_pretrained
from agents.evaluation.evaluation import (
    Evaluation,
    Segmenter,
    agent_segmenter,
    block,
    candidate_correlation,
    evaluate,
    explained_variance_per_step,
    random_segmenter,
    reconstruction_segmenter,
    search_bounds,
)
from agents.experiments.methods import (
    CONTROL,
    Pretraining,
    SceneSet,
    Variant,
)
from agents.experiments.peak_memory import measure_memory
from agents.models.agent import Agent, Prediction
from agents.training.config import TrainConfig
from agents.training.trainer import Trainer

NUM_PICTURES = 6
"""Evaluated scenes whose label maps are kept."""
TABLE_2_STEPS = 21
"""Cap on the number of masks in Table 2, where nothing else may stop the agent."""
CURVE_POINTS = 40
"""Points to which the curves of training are averaged."""


def weights_of(scene_set: SceneSet, variant: Variant, out: Path) -> str:
    """Name or folder of the weights of a set: those at hand, else the place where they are made."""
    if variant in scene_set.weights:
        return scene_set.weights[variant]
    name = (scene_set.whole or scene_set).name
    return str(out / "weights" / (name if variant == "standard" else f"{name}-{variant}"))


@dataclass(frozen=True)
class Networks:
    """A job: the networks around the actions of a set that brings none."""

    folder: Path
    scene_set: SceneSet
    variant: Variant
    context_from: str | None
    """Weights whose context network is taken; None: one is trained."""
    pretraining: Pretraining = Pretraining()

    @property
    def name(self) -> str:
        """For messages."""
        return f"weights {self.folder.name}"

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the result."""
        return {"weights": self.variant, **_scenes_of(self.scene_set), **asdict(self.pretraining)}

    @property
    def result(self) -> Path:
        """Written at the very end."""
        return self.folder / "result.json"

    def run(self) -> None:
        """Train the context network, then the decoder."""
        template = load_pretrained(self.pretraining.template)
        size, options = template.size, self.scene_set
        train = PackedScenes(open_scenes(options.scenes, "train", size, options.scene_options), size)
        val = PackedScenes(open_scenes(options.scenes, "val", size, options.val_options), size)
        mean, std = image_statistics(train)
        if self.context_from is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("context.safetensors", "context.json"):
                shutil.copy(find_weights(self.context_from) / name, self.folder)
        elif not (self.folder / "context.done").exists():
            config = replace(template.context_network.config, image_mean=mean, image_std=std)
            pretrain_context(train, val, config, self.pretraining.context, self.folder)
            (self.folder / "context.done").touch()
        context_network = load_context_network(self.folder)
        autoencoder = replace(
            template.autoencoder.config, image_mean=mean, image_std=std, state_pyramid=self.variant == "standard"
        )
        pretrain_autoencoder(train, val, context_network, autoencoder, self.pretraining.decoder, self.folder)
        load_autoencoder(self.folder)
        write_json(self.result, {"configuration": self.configuration, **_about(self.folder)})


@dataclass(frozen=True)
class References:
    """A job: what the numbers of a set are compared with. A random agent, the bound, and the memory of an update."""

    folder: Path
    scene_set: SceneSet
    weights: Mapping[Variant, str]

    @property
    def name(self) -> str:
        """For messages."""
        return f"references of {self.scene_set.name}"

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the result, beside the weights, whose rows are added when they are needed."""
        return _scenes_of(self.scene_set)

    @property
    def result(self) -> Path:
        """Written at the very end."""
        return self.folder / "references.json"

    def run(self) -> None:
        """Evaluate and measure what is missing."""
        known = json.loads(self.result.read_text()) if self.result.exists() else {"rows": {}}
        for variant in self.missing:
            pretrained = load_pretrained(self.weights[variant])
            scenes = open_evaluated(self.scene_set, pretrained)
            segmenters = {
                "random": random_segmenter(pretrained, scenes.max_instances),
                "reconstruction": reconstruction_segmenter(pretrained),
            }
            rows = {name: _record(evaluate(name, made, scenes)) for name, made in segmenters.items()}
            known["rows"][variant] = {"weights": self.weights[variant], **rows}
        if "memory" not in known:
            pictures: dict[str, NDArray[Any]] = {}
            for index in _pictured(len(scenes)):
                scene = scenes.scene(index)
                pictures |= {f"image-{index}": scene.image, f"truth-{index}": scene.require_label_map()}
            write_arrays(self.folder / "scenes.npz", pictures)
            known |= {"configuration": self.configuration, **_about(self.folder), "num_scenes": len(scenes)}
            known["memory"] = measure_memory(pretrained)
        write_json(self.result, known)

    @property
    def missing(self) -> list[Variant]:
        """Decoders that have no rows yet."""
        rows = json.loads(self.result.read_text())["rows"] if self.result.exists() else {}
        return [variant for variant in self.weights if variant not in rows]


@dataclass(frozen=True)
class Cell:
    """A job: one run of a method, evaluated."""

    folder: Path
    scene_set: SceneSet
    method: str
    about: str
    variant: Variant
    config: TrainConfig
    scale: str
    is_blocked: bool = True
    """Whether the agent is also evaluated without its memory and without its mask (Table 2)."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.scene_set.name}/{self.method}/seed-{self.config.seed}"

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the result."""
        evaluated = {"split": self.scene_set.split, "table_2_steps": TABLE_2_STEPS}
        return {"scale": self.scale, "weights": self.variant, "train": asdict(self.config), "evaluation": evaluated}

    @property
    def result(self) -> Path:
        """Written at the very end."""
        return self.folder / "result.json"

    def run(self) -> None:
        """Train from the last checkpoint if there is one, evaluate, and write the result."""
        is_begun = (self.folder / "checkpoint.pt").exists()
        trainer = TimedTrainer.resume(self.folder) if is_begun else TimedTrainer(self.config, self.folder)
        assert isinstance(trainer, TimedTrainer)
        trainer.run()
        pretrained = trainer.pretrained
        scenes = open_evaluated(self.scene_set, pretrained, self.config.device)
        agent = Agent.load(self.folder, self.config.device)
        initial = Agent.load(self.folder / "initial.pt", self.config.device)
        seconds: list[float] = []
        rows = {
            "agent": evaluate("agent", timed(agent_segmenter(agent), seconds), scenes, agent.threshold, NUM_PICTURES),
            "initial": evaluate("initial", agent_segmenter(initial), scenes, agent.threshold),
        }
        if self.is_blocked:
            capped = copy.copy(agent)
            capped.max_steps = TABLE_2_STEPS
            blocked = {"both": capped, "mask only": block(capped, "memory"), "LSTM only": block(capped, "mask")}
            rows |= {name: evaluate(name, agent_segmenter(a), scenes, agent.threshold) for name, a in blocked.items()}
        if self.method == CONTROL:
            rows |= {name: evaluate(name, s, scenes, agent.threshold) for name, s in search_bounds(agent).items()}
        write_arrays(
            self.folder / "label_maps.npz",
            {f"label-{index}": label_map for index, label_map in rows["agent"].label_maps.items()},
        )
        content = {
            "configuration": self.configuration,
            "set": self.scene_set.name,
            "method": self.method,
            "about": self.about,
            "seed": self.config.seed,
            **_about(self.folder),
            "actor_updates": sum(p.iterations for p in self.config.phases if p.objective not in ("critic", "judge")),
            **trainer.usage(),
            "inference_seconds": sum(seconds) / len(scenes),
            "rows": {name: _record(evaluation) for name, evaluation in rows.items()},
            "order": rows["agent"].order,
            "history": trainer.history,
            "curves": training_curves(self.folder),
        }
        objectives = {phase.objective for phase in self.config.phases}
        if {"ac", "ac-score"} & objectives:
            content["critic"] = explained_variance_per_step(trainer.learner, pretrained, scenes)
        if "judge" in objectives:
            content["rank_correlation"] = candidate_correlation(trainer.learner, pretrained, scenes)
        write_json(self.result, content)


Job = Networks | References | Cell


def _scenes_of(scene_set: SceneSet) -> dict[str, Any]:
    return {
        "scenes": scene_set.scenes,
        "scene_options": dict(scene_set.scene_options),
        "val_options": dict(scene_set.val_options),
        "split": scene_set.split,
    }


class TimedTrainer(Trainer):
    """Counts the CPU and wall time of training, evaluations left out, over interruptions."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._clock = np.array([time.process_time(), time.monotonic()])
        self._saved: dict[str, list[float]] = {}

    def run(self) -> Agent:
        """Train to the end, from the time that was used up to the checkpoint."""
        path = self.folder / "clock.json"
        if self.iteration:
            self._saved = json.loads(path.read_text())
            self._clock = _now() - np.array(self._saved[str(self.iteration)][:2])
        else:
            self._clock = _now()
        return super().run()

    def save(self) -> None:
        """Write the checkpoint and, before it, the time that goes with it."""
        used = (_now() - self._clock).tolist()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self._saved[str(self.iteration)] = [*used, peak]
        write_json(self.folder / "clock.json", self._saved)
        super().save()

    def usage(self) -> dict[str, float]:
        """Seconds of training, and the process's largest memory in bytes."""
        cpu, wall, _ = self._saved[str(self.iteration)]
        return {"cpu_seconds": cpu, "wall_seconds": wall, "peak_memory": max(u[2] for u in self._saved.values())}

    def _evaluate(self, *arguments: Any) -> None:
        before = _now()
        super()._evaluate(*arguments)
        self._clock += _now() - before
        self.history[-1]["cpu_seconds"] = float((_now() - self._clock)[0])


def timed(segmenter: Segmenter, seconds: list[float]) -> Segmenter:
    """`segmenter`, the CPU time of whose calls is appended to `seconds`."""

    def segment(batch: SceneBatch) -> Prediction:
        start = time.process_time()
        prediction = segmenter(batch)
        seconds.append(time.process_time() - start)
        return prediction

    return segment


def _now() -> NDArray[np.float64]:
    """CPU and wall time in seconds, `[2]`."""
    return np.array([time.process_time(), time.monotonic()])


class KeptScenes(list[Scene]):
    """A data set in memory: scenes that are evaluated several times are drawn or decoded once."""

    def __init__(self, dataset: SceneDataset) -> None:
        super().__init__(dataset[index] for index in range(len(dataset)))
        self.max_instances = dataset.max_instances


def open_evaluated(scene_set: SceneSet, pretrained: Pretrained, device: str = "cpu") -> PackedScenes:
    """The scenes that are evaluated."""
    dataset = open_scenes(scene_set.scenes, scene_set.split, pretrained.size, scene_set.val_options)
    return PackedScenes(KeptScenes(dataset), pretrained.size, device)


def _record(evaluation: Evaluation) -> dict[str, Any]:
    """Measures scene by scene, means, and the Dice per time step with the number of scenes that reach it."""
    names = evaluation.scenes[0]
    lengths = [len(dice) for dice in evaluation.dice_per_step]
    return {
        "mean": evaluation.mean,
        "scenes": {name: [round(scene[name], 5) for scene in evaluation.scenes] for name in names},
        "dice_at_step": evaluation.dice_at_step(),
        "scenes_at_step": [sum(length > t for length in lengths) for t in range(max(lengths))],
    }


def _pictured(num_scenes: int) -> list[int]:
    """Scenes whose label maps `evaluate` keeps."""
    return sorted(set(np.linspace(0, num_scenes - 1, min(NUM_PICTURES, num_scenes)).round().astype(int).tolist()))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays to an npz file, whole or not at all."""
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]


def training_curves(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Scalars of the TensorBoard events in `folder`, but the validation scores: by tag `iteration` and `value`.

    Long curves are averaged to `CURVE_POINTS` points.
    """
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    curves = {}
    for tag in events.Tags()[SCALARS]:
        if not tag.startswith("val"):
            points = np.array([(event.step, event.value) for event in events.Scalars(tag)])
            means = np.array([part.mean(0) for part in np.array_split(points, min(CURVE_POINTS, len(points)))])
            curves[tag] = {"iteration": means[:, 0].tolist(), "value": means[:, 1].tolist()}
    return curves


def commits_of(folder: Path) -> list[str]:
    """The commits with which the job in `folder` was begun and gone on with; the present one if it keeps no record."""
    path = folder / "job.json"
    return json.loads(path.read_text())["commits"] if path.exists() else [commit()]


def _about(folder: Path) -> dict[str, Any]:
    """Where a result comes from."""
    commits = ", ".join(commits_of(folder))
    return {"commit": commits, "torch": torch.__version__, "written": time.strftime("%Y-%m-%d %H:%M:%S")}


def commit() -> str:
    """The checkout's commit, with "+changes" if files differ from it; else the package's version."""
    checkout = Path(__file__).parents[2]
    try:
        if Path(_git(checkout, "rev-parse", "--show-toplevel")) != checkout:  # installed inside of another project
            return importlib.metadata.version("acis-env")
        head = _git(checkout, "rev-parse", "HEAD")
        return head + ("+changes" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return importlib.metadata.version("acis-env")


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
