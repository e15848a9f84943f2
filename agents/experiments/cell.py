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

from acis_env.dynamics import Rules
from acis_env.episode_source import EpisodeSource
from acis_env.files import write_json
from agents.algorithms import ActorCritic, ActorCriticConfig, CriticRanking
from agents.evaluation.critics import candidate_correlation, explained_variance_per_step
from agents.evaluation.evaluation import Evaluation, count_scenes, evaluate
from agents.evaluation.segmenters import agent_segmenter, block, outcome_bound, search_bounds
from agents.experiments.methods import CONTROL, SceneSet, Variant
from agents.experiments.provenance import origin
from agents.experiments.scenes import NUM_PICTURES, open_evaluated, record, write_arrays
from agents.experiments.timing import TimedTrainer, timed
from agents.models.agent import Agent
from agents.training.checkpoint import holds_run
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
        """Name of the job in messages."""
        return f"{self.scene_set.name}/{self.method}/seed-{self.config.seed}"

    @property
    def weights(self) -> str:
        """Name or folder of the networks around the actions."""
        return str(self.config.env.kwargs["weights"])

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

    @property
    def is_resumable(self) -> bool:
        """The folder is the job's own."""
        return True

    def run(self) -> None:
        """Train from the last checkpoint if there is one, evaluate, and write the result."""
        is_begun = holds_run(self.folder)
        trainer = TimedTrainer.resume(self.folder) if is_begun else TimedTrainer(self.config, self.folder)
        assert isinstance(trainer, TimedTrainer)
        trainer.run()
        core = open_evaluated(self.scene_set, trainer.learner.pretrained, self.config.env, self.config.device)
        source = core.source
        seconds: list[float] = []
        rows = self._evaluate(source, trainer.core.rules, seconds)
        label_maps = {f"label-{index}": label_map for index, label_map in rows["agent"].label_maps.items()}
        write_arrays(self.folder / "label_maps.npz", label_maps)
        content = {
            "configuration": self.configuration,
            "set": self.scene_set.name,
            "method": self.method,
            "about": self.about,
            "seed": self.config.seed,
            **origin(self.folder),
            "actor_updates": count_actor_updates(self.config),
            **trainer.usage(),
            "inference_seconds": sum(seconds) / count_scenes(source),
            "rows": {name: record(evaluation) for name, evaluation in rows.items()},
            "order": rows["agent"].order,
            "history": trainer.history,
            "curves": training_curves(self.folder),
            **self._measure_critic(trainer, source),
        }
        write_json(self.result, content)

    def _evaluate(self, source: EpisodeSource, rules: Rules, seconds: list[float]) -> dict[str, Evaluation]:
        """Evaluations by row; the CPU seconds of the agent's inference are appended to `seconds`."""
        agent = Agent.load(self.folder, self.config.device)
        initial = Agent.load(self.folder / "initial.pt", self.config.device)
        rule = agent.composition
        rows = {
            "agent": evaluate("agent", timed(agent_segmenter(agent), seconds), source, rule, NUM_PICTURES),
            "initial": evaluate("initial", agent_segmenter(initial), source, rule),
        }
        if self.is_blocked:
            capped = copy.copy(agent)
            capped.max_steps = TABLE_2_STEPS
            blocked = {"both": capped, "mask only": block(capped, "memory"), "LSTM only": block(capped, "mask")}
            rows |= {name: evaluate(name, agent_segmenter(a), source, rule) for name, a in blocked.items()}
        if agent.outcomes is not None:
            name = f"best outcome of {agent.outcomes.config.episodes} episodes by the truth"
            rows[name] = evaluate(name, outcome_bound(agent), source, rule)
        if self.method == CONTROL:
            bounds = search_bounds(agent, rules)
            rows |= {name: evaluate(name, bound, source, rule) for name, bound in bounds.items()}
        return rows

    def _measure_critic(self, trainer: TimedTrainer, source: EpisodeSource) -> dict[str, Any]:
        """How well the critic predicts, where there is one."""
        algorithm = trainer.algorithm
        if isinstance(algorithm, ActorCritic):
            return {"critic": explained_variance_per_step(algorithm, source)}
        if isinstance(algorithm, CriticRanking):
            return {"rank_correlation": candidate_correlation(algorithm, source)}
        return {}


def count_actor_updates(config: TrainConfig) -> int:
    """Iterations in which the policy learns: not those of a critic's warm-up, or of a critic or of stopping alone."""
    total = 0
    for stage in config.stages:
        if isinstance(stage.algorithm, ActorCriticConfig):
            total += stage.iterations - stage.algorithm.critic_warmup
        elif stage.algorithm.moves_actor:
            total += stage.iterations
    return total


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
