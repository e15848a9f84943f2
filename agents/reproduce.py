"""The experiments of the paper on any scenes, in one command that resumes where it was interrupted.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 6.

A cell is a set of scenes x a method x a seed, in a folder of its own. Cells run in processes with one thread each, so
that their CPU times compare.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    SCALARS,
    EventAccumulator,
)

from acis_env import dynamics
from acis_env.allocator import keep_freed_memory
from acis_env.datasets import Leaves, PackedScenes, Scene, SceneDataset, open_scenes
from acis_env.dynamics import EnvState
from acis_env.files import replacing, write_json
from acis_env.pretraining import image_statistics, pretrain_autoencoder, pretrain_context
from acis_env.weights import Pretrained, find_weights, load_autoencoder, load_context_network, load_pretrained
from agents.actor_critic import ActorCritic
from agents.agent import Agent
from agents.config import Objective, Phase, TrainConfig
from agents.episodes import Batch, MicroBatch, sort_by_length
from agents.evaluation import (
    Evaluation,
    agent_segmenter,
    block,
    candidate_correlation,
    evaluate,
    explained_variance_per_step,
    random_segmenter,
    reconstruction_segmenter,
    search_bounds,
)
from agents.experiments import (
    CONTROL,
    METHODS,
    SCALES,
    Pretraining,
    SceneSet,
    Variant,
    cell_config,
    scene_sets,
    tuning_set,
)
from agents.report import flatten, write_set_report
from agents.trainer import Trainer

NUM_PICTURES = 6
"""Evaluated scenes whose label maps are kept."""
TABLE_2_STEPS = 21
"""Cap on the number of masks in Table 2, where nothing else may stop the agent."""
MEMORY_LENGTHS = (1, 2, 5, 10, 15, 20)
"""Steps of the episodes whose update is measured."""
MEMORY_BATCH = 16
"""Scenes of such an update."""
MEMORY_METHODS: dict[str, tuple[Objective, int | None]] = {
    "BL": ("bl-bce", None),
    "BL-Trunc": ("bl-bce", 1),
    "AC-Dice": ("ac", 1),
}
"""Objective and steps of BPTT by the name of the method."""
CURVE_POINTS = 40
"""Points to which the curves of training are averaged."""


class FailedRunsError(RuntimeError):
    """Some of many runs ended in an error."""


@dataclass(frozen=True)
class Reproduce:
    """Run the paper's experiments on sets of scenes, and write a report of each."""

    sets: tuple[str, ...] = ("leaves",)
    """Of "leaves", "leaves-crowded", "bbbc038" (see --bbbc038) and the name of the folder --scenes."""
    methods: tuple[str, ...] = ()
    """Rows of the tables; by default those of the paper. agents/experiments.py lists all."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run each per method."""
    scale: str = "quick"
    """Length of training: "quick" (about 4 CPU minutes per run), "small" (about an hour) or "smoke"."""
    jobs: int = 1
    """Runs at a time, each in a process with one thread."""
    bbbc038: Path | None = None
    """Folder of BBBC038 with subfolders train and val."""
    scenes: Path | None = None
    """Any other folder of scenes with subfolders train and val."""
    tune: bool = False
    """Evaluate on a part of the training scenes instead, to choose settings without a look at the evaluated split."""
    report_only: bool = False
    """Run nothing, and write the reports of the results that there are."""
    out: Path = Path("runs/reproduce")
    """Folder of runs, pre-trained weights and reports; existing results are kept."""
    device: str = "cpu"
    """Where to train."""

    def run(self) -> None:
        """Run what is missing, then write `OUT/<set>/report.md`.

        Raises:
            ValueError: an unknown name, or a result in OUT that has another configuration.
            FailedRunsError: some failed; the others are finished and reported.
        """
        plan = self._plan()
        failed: list[str] = []
        if not self.report_only:
            if self.jobs < 1:
                raise ValueError(f"--jobs must be at least 1, got {self.jobs}")
            for stage in stages(plan):
                check_recorded(stage)
                failed += run_jobs(stage, self.jobs)
                if failed and not isinstance(stage[0], Cell):
                    break  # without weights there is nothing to run
        for scene_set in {job.scene_set.name: job.scene_set for job in plan}.values():
            if list((self.out / scene_set.name).glob("*/seed-*/result.json")):
                path = write_set_report(self.out / scene_set.name, scene_set.is_stack, " ".join(sys.argv[1:]))
                print(f"report in {path}")
        if failed:
            raise FailedRunsError(f"failed: {', '.join(failed)}; a file log.txt in the folder says why")

    def _plan(self) -> list[Cell]:
        """All cells, seed by seed, so that an early stop leaves whole seeds."""
        known = scene_sets(self.bbbc038, self.scenes)
        chosen = [_pick("set", name, known) for name in self.sets]
        names = self.methods or tuple(name for name, method in METHODS.items() if not method.is_option)
        methods = [_pick("method", name, METHODS) for name in names]
        scale = _pick("scale", self.scale, SCALES)
        if self.tune:
            chosen = [tuning_set(scene_set, self.out) for scene_set in chosen]
        cells = []
        for seed in self.seeds:
            for scene_set in chosen:
                for method in methods:
                    weights = weights_of(scene_set, method.weights, self.out)
                    config = cell_config(scene_set, method, scale, weights, seed, self.device)
                    folder = self.out / scene_set.name / method.name / f"seed-{seed}"
                    cells.append(Cell(folder, scene_set, method.name, method.about, method.weights, config))
        return cells


def _pick(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")
    return known[name]


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
        write_json(self.result, {"configuration": self.configuration, **_about()})


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
                pictures |= {f"image-{index}": scene.image, f"truth-{index}": scene.label_map}
            write_arrays(self.folder / "scenes.npz", pictures)
            known |= {"configuration": self.configuration, **_about(), "num_scenes": len(scenes)}
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

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.scene_set.name}/{self.method}/seed-{self.config.seed}"

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the result."""
        evaluated = {"split": self.scene_set.split, "table_2_steps": TABLE_2_STEPS}
        return {"weights": self.variant, "train": asdict(self.config), "evaluation": evaluated}

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
        capped = copy.copy(agent)
        capped.max_steps = TABLE_2_STEPS
        rows = {
            "agent": evaluate("agent", agent_segmenter(agent), scenes, agent.cut_off, NUM_PICTURES),
            "initial": evaluate("initial", agent_segmenter(initial), scenes, agent.cut_off),
            "both": evaluate("both", agent_segmenter(capped), scenes, agent.cut_off),
            "mask only": evaluate("mask only", agent_segmenter(block(capped, "memory")), scenes, agent.cut_off),
            "LSTM only": evaluate("LSTM only", agent_segmenter(block(capped, "mask")), scenes, agent.cut_off),
        }
        if self.method == CONTROL:
            rows |= {name: evaluate(name, s, scenes, agent.cut_off) for name, s in search_bounds(agent).items()}
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
            **_about(),
            "actor_updates": sum(p.iterations for p in self.config.phases if p.objective not in ("critic", "judge")),
            **trainer.usage(),
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


def stages(cells: Sequence[Cell]) -> Iterator[list[Job]]:
    """Jobs that may run at the same time: networks, those that share a context network, references, cells."""
    networks: dict[Path, Networks] = {}
    weights: dict[str, dict[Variant, str]] = {}
    for cell in cells:
        weights.setdefault(cell.scene_set.name, {})[cell.variant] = cell.config.weights
        if cell.variant not in cell.scene_set.weights:
            out = cell.folder.parents[2]
            shared = None if cell.variant == "standard" else weights_of(cell.scene_set, "standard", out)
            folder, source = Path(cell.config.weights), cell.scene_set.whole or cell.scene_set
            networks[folder] = Networks(folder, source, cell.variant, shared)
            if shared is not None and "standard" not in cell.scene_set.weights:
                networks.setdefault(Path(shared), Networks(Path(shared), source, "standard", None))
    yield [job for job in networks.values() if job.context_from is None]
    yield [job for job in networks.values() if job.context_from is not None]
    folders = {cell.scene_set.name: (cell.folder.parents[1], cell.scene_set) for cell in cells}
    yield [References(folder, scene_set, weights[name]) for name, (folder, scene_set) in folders.items()]
    yield list(cells)


def check_recorded(jobs: Sequence[Job]) -> None:
    """Make sure that what is in the folders of `jobs` is theirs.

    Raises:
        ValueError: naming the file of another configuration and what differs.
    """
    for job in jobs:
        for path in (job.result, job.folder / "job.json"):
            if path.exists():
                found = differences(json.loads(path.read_text())["configuration"], job.configuration)
                if found:
                    raise ValueError(f"{path} has another configuration: {'; '.join(found)}; choose another --out")


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, by dotted name; an option that is younger than the record counts as recorded with its default."""
    default = flatten({"train": asdict(TrainConfig(phases=(Phase("", "ac", 1),)))})
    old, new = flatten(recorded), flatten(wanted)
    found = []
    for name in sorted(old | new):
        before = old.get(name, default.get(re.sub(r"phases\.\d+", "phases.0", name)))
        if before != new.get(name):
            found.append(f"{name} is {before!r} there and {new.get(name)!r} here")
    return found


def is_done(job: Job) -> bool:
    """Whether there is nothing left to do; weights may also have been made elsewhere."""
    if isinstance(job, Networks) and not (job.folder / "job.json").exists():
        return (job.folder / "autoencoder.json").exists() and (job.folder / "context.json").exists()
    if isinstance(job, References):
        return not job.missing
    return job.result.exists()


def run_jobs(jobs: Sequence[Job], limit: int) -> list[str]:
    """Run what is not done, `limit` at a time, each in a process of its own; returns the names of those that failed.

    An interruption ends all of them.
    """
    waiting = [job for job in jobs if not is_done(job)]
    total, started = len(waiting), time.monotonic()
    running: dict[object, tuple[Job, SpawnProcess]] = {}
    failed: list[str] = []
    context = multiprocessing.get_context("spawn")
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop(0)
                process = context.Process(target=_work, args=(job,), daemon=True)
                with _one_thread():
                    process.start()
                running[process.sentinel] = job, process
            for sentinel in wait([process.sentinel for _, process in running.values()]):
                job, process = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    failed.append(job.name)
                done = total - len(waiting) - len(running)
                minutes = (time.monotonic() - started) / 60
                state = f"failed, see {job.folder / 'log.txt'}" if process.exitcode else "done"
                print(f"[{done}/{total}, {minutes:.0f} min] {job.name}: {state}", flush=True)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    return failed


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started in here use one thread."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _work(job: Job) -> None:
    """Body of a process: run `job`, with all it prints in a file."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel
    # However the parent ends, nothing goes on without it that a second command would start again.
    threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        run_job(job)


def run_job(job: Job) -> None:
    """Note what `job` is in its folder, and do it."""
    if not isinstance(job, References):  # its folder is that of the cells, and it has nothing to resume
        write_json(job.folder / "job.json", {"configuration": job.configuration})
    try:
        job.run()
    except Exception:
        traceback.print_exc()
        sys.exit(1)


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


def measure_memory(pretrained: Pretrained) -> dict[str, Any]:
    """Peak of the bytes that autograd keeps for the backward pass of one update, by length of the episodes.

    Counted by storage, without the weights, as tensors are saved and released: it does not depend on the allocator,
    and leaves out what an operation needs for itself alone. The actor-critic update has three parts, of which the
    hungriest counts: episode execution, an update of the critic, one of the actor.
    """
    scenes = PackedScenes(Leaves("train", pretrained.size, 20, 20, length=MEMORY_BATCH), pretrained.size)
    images, label_map = scenes.gather(range(MEMORY_BATCH))
    context, label_map = sort_by_length(pretrained.context_network.context(images), label_map)
    peaks: dict[str, list[int]] = {}
    for name, (objective, bptt_steps) in MEMORY_METHODS.items():
        phase = Phase("main", objective, 1)
        learner = ActorCritic(pretrained.autoencoder, TrainConfig(phases=(phase,), bptt_steps=bptt_steps))
        peaks[name] = []
        for length in MEMORY_LENGTHS:
            state = _episodes_of(length, context, label_map, learner)
            batch = Batch(state.num_instances, [MicroBatch(state, torch.arange(len(state)))])
            peaks[name].append(peak_of_saved(lambda b=batch, i=learner, p=phase: _update(i, b, p), learner))  # type: ignore[misc]
    return {"steps": list(MEMORY_LENGTHS), "batch_size": MEMORY_BATCH, "bytes": peaks}


def _episodes_of(length: int, context: torch.Tensor, label_map: torch.Tensor, learner: ActorCritic) -> EnvState:
    remaining, given = dynamics.prefill(label_map, length, torch.rand(len(label_map), 20))
    return dynamics.reset(context, remaining, learner.decoder, 20, 20, given)


def _update(learner: ActorCritic, batch: Batch, phase: Phase) -> None:
    generator = torch.Generator().manual_seed(0)
    if phase.objective == "ac":
        steps = learner.collect(batch, generator)
        chosen = torch.randperm(len(steps), generator=generator)[: learner.config.critic_batch_size].sort().values
        learner.update_critic(replace(steps.select(chosen), total=len(chosen)))
    learner.update_actor(batch, phase, generator)


def peak_of_saved(update: Callable[[], None], learner: ActorCritic) -> int:
    """Largest sum of the storages, in bytes, that autograd holds at a time during `update`, weights left out."""
    weights = {
        tensor.untyped_storage().data_ptr()
        for module in (learner.actor, learner.critic, learner.decoder)
        for tensor in (*module.parameters(), *module.buffers())
    }
    owners: dict[int, int] = {}
    live = peak = 0

    class Saved:
        """Holds a tensor for as long as autograd does."""

        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal live, peak
            self.tensor, self.storage = tensor, tensor.untyped_storage().data_ptr()
            if self.storage not in weights:
                if self.storage not in owners:
                    live += tensor.untyped_storage().nbytes()
                    peak = max(peak, live)
                owners[self.storage] = owners.get(self.storage, 0) + 1

        def __del__(self) -> None:
            nonlocal live
            if self.storage in owners:
                owners[self.storage] -= 1
                if owners[self.storage] == 0:
                    del owners[self.storage]
                    live -= self.tensor.untyped_storage().nbytes()

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        update()
    return peak


def _about() -> dict[str, Any]:
    """Where a result comes from."""
    return {"commit": commit(), "torch": torch.__version__, "written": time.strftime("%Y-%m-%d %H:%M:%S")}


def commit() -> str:
    """The checkout's commit, with "+changes" if files differ from it; else the package's version."""
    checkout = Path(__file__).parents[1]
    try:
        head = _git(checkout, "rev-parse", "HEAD")
        return head + ("+changes" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return importlib.metadata.version("acis-env")


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
