"""A job of `acis reproduce`: one run of a method on a set of scenes with one seed, trained and evaluated."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    SCALARS,
    EventAccumulator,
)

from acis_env.datasets import PackedScenes
from acis_env.files import write_json
from agents.evaluation.evaluation import (
    Evaluation,
    agent_segmenter,
    block,
    candidate_correlation,
    evaluate,
    explained_variance_per_step,
    search_bounds,
)
from agents.experiments.methods import CONTROL, SceneSet, Variant
from agents.experiments.provenance import origin
from agents.experiments.scenes import NUM_PICTURES, open_evaluated, record, write_arrays
from agents.experiments.timing import TimedTrainer, timed
from agents.models.agent import Agent
from agents.training.config import TrainConfig

TABLE_2_STEPS = 21
"""Cap on the number of masks in Table 2, where nothing else may stop the agent."""
CURVE_POINTS = 40
"""Number of points to which the curves of training are averaged."""


@dataclass(frozen=True)
class Cell:
    """The job of training and evaluating one method with one seed."""

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
        """Name in messages."""
        return f"{self.scene_set.name}/{self.method}/seed-{self.config.seed}"

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the result."""
        evaluated = {"split": self.scene_set.split, "table_2_steps": TABLE_2_STEPS}
        return {"scale": self.scale, "weights": self.variant, "train": asdict(self.config), "evaluation": evaluated}

    @property
    def result(self) -> Path:
        """File that is written at the very end."""
        return self.folder / "result.json"

    @property
    def is_done(self) -> bool:
        """Whether the result is there."""
        return self.result.exists()

    def run(self) -> None:
        """Train from the last checkpoint if there is one, evaluate, and write the result."""
        is_begun = (self.folder / "checkpoint.pt").exists()
        trainer = TimedTrainer.resume(self.folder) if is_begun else TimedTrainer(self.config, self.folder)
        assert isinstance(trainer, TimedTrainer)
        trainer.run()
        scenes = open_evaluated(self.scene_set, trainer.pretrained, self.config.device)
        seconds: list[float] = []
        rows = self._evaluate(scenes, seconds)
        label_maps = {f"label-{index}": label_map for index, label_map in rows["agent"].label_maps.items()}
        write_arrays(self.folder / "label_maps.npz", label_maps)
        content = {
            "configuration": self.configuration,
            "set": self.scene_set.name,
            "method": self.method,
            "about": self.about,
            "seed": self.config.seed,
            **origin(self.folder),
            "actor_updates": sum(p.iterations for p in self.config.phases if p.objective not in ("critic", "judge")),
            **trainer.usage(),
            "inference_seconds": sum(seconds) / len(scenes),
            "rows": {name: record(evaluation) for name, evaluation in rows.items()},
            "order": rows["agent"].order,
            "history": trainer.history,
            "curves": training_curves(self.folder),
            **self._measure_critic(trainer, scenes),
        }
        write_json(self.result, content)

    def _evaluate(self, scenes: PackedScenes, seconds: list[float]) -> dict[str, Evaluation]:
        """Evaluations by row; the CPU seconds of the agent's inference are appended to `seconds`."""
        agent = Agent.load(self.folder, self.config.device)
        initial = Agent.load(self.folder / "initial.pt", self.config.device)
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
        return rows

    def _measure_critic(self, trainer: TimedTrainer, scenes: PackedScenes) -> dict[str, Any]:
        """Measures of how well the critic predicts, where there is one."""
        objectives = {phase.objective for phase in self.config.phases}
        measured: dict[str, Any] = {}
        if {"ac", "ac-score"} & objectives:
            measured["critic"] = explained_variance_per_step(trainer.learner, trainer.pretrained, scenes)
        if "judge" in objectives:
            measured["rank_correlation"] = candidate_correlation(trainer.learner, trainer.pretrained, scenes)
        return measured


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
