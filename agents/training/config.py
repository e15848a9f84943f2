"""What decides a run: its environment, a schedule of algorithms, and the settings that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from acis_env.configs import check_at_least, check_positive, config_from_dict
from agents.algorithms import AlgorithmConfig, LearnerConfig
from agents.environment import EnvConfig
from agents.models.composition import Composition, Overlaps

EARLIER_VERSION = "written by an earlier version of acis-env, whose configurations have phases instead of stages"
"""Beginning of the error about a configuration of the former format; what to do follows it."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training by one algorithm."""

    name: str
    """Name of the stage in the progress bar and in errors."""
    algorithm: AlgorithmConfig
    """Settings of the algorithm."""
    iterations: int
    """Number of iterations, those in which a critic warms up included; with --minutes, the weight of the stage."""
    sequence_length: int | None = None
    """Curriculum: number of instances to find per scene; the others, if it has more, are given in the first mask. None:
    what the environment says."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run."""

    env: EnvConfig = EnvConfig()
    """Environment that the agent learns in."""
    stages: tuple[Stage, ...] = ()
    """Schedule: algorithms, one after the other."""
    learner: LearnerConfig = LearnerConfig()
    """Settings that all stages share."""
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "cpu"
    """Device to train on."""
    batch_size: int = 16
    """Number of slots of the environment, in all processes together."""
    minutes: float | None = None
    """Length of the whole run in minutes, evaluations included, in place of the numbers of iterations: each stage gets
    the share of the time that its iterations have of all, and learning rates fall at the same shares as ever. The last
    evaluation comes on top. None: the stages have their numbers of iterations."""
    max_steps: int | None = None
    """Cap on the number of masks where the termination unit does not stop. None: the instances of the fullest training
    scene, as the paper has it (21 on CVPPP, 16 on KITTI)."""
    overlaps: Overlaps = "most-probable"
    """Mask that gets a pixel which several hold: the most probable there, or the first predicted."""
    fill: float = 0.0
    """Distance in pixels, at the size of the networks, up to which predicted foreground that no mask holds goes to the
    nearest mask of a label map; 0: it is background."""
    eval_every: int = 100
    """Iterations between evaluations on validation scenes."""
    eval_scenes: int = 50
    """Number of validation scenes in an evaluation while training."""
    monitor_every: int = 10
    """Iterations between measurements that cost extra, such as the critic's gradient beside the score's."""
    checkpoint_every: int = 50
    """Iterations between checkpoints."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "batch_size", "eval_every", "eval_scenes", "monitor_every", "checkpoint_every")
        Composition(overlaps=self.overlaps, fill=self.fill)  # checks both
        check_at_least(1, self, "max_steps")
        check_positive(self, "minutes")
        check_at_least(0, self, "seed")
        for number, stage in enumerate(self.stages):
            if stage.iterations < 1:
                raise ValueError(
                    f"stages.{number}.iterations, of stage {stage.name!r}, must be at least 1, got {stage.iterations}"
                )
            if stage.sequence_length is not None and stage.sequence_length < 1:
                raise ValueError(
                    f"stages.{number}.sequence_length, of stage {stage.name!r}, must be at least 1, or None, got "
                    f"{stage.sequence_length}"
                )
            if stage.sequence_length is not None and stage.algorithm.needs_whole_scenes:
                raise ValueError(
                    f"stages.{number}.sequence_length, of stage {stage.name!r}, must be None, since it needs whole "
                    f"scenes, got {stage.sequence_length}"
                )
            _check_kind(stage)
        _check_json("env.kwargs", self.env.kwargs)
        _check_json("env.val_kwargs", self.env.val_kwargs)
        if self.learner.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate must be at most batch_size, so that no micro-batch is empty, got "
                f"{self.learner.accumulate} with batch_size {self.batch_size}"
            )

    @property
    def iterations(self) -> int:
        """Iterations of all stages."""
        return sum(stage.iterations for stage in self.stages)


def main_stage(config: TrainConfig) -> int:
    """The number of the stage "main", from 0, or of the last one if none is called that."""
    names = [stage.name for stage in config.stages]
    return names.index("main") if "main" in names else len(names) - 1


def with_length(config: TrainConfig, iterations: int) -> TrainConfig:
    """`config` with so many iterations of its main stage; a stage after it gets an eighth of them at most.

    Raises:
        ValueError: it would have none.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    number = main_stage(config)
    before, after = config.stages[:number], config.stages[number + 1 :]
    later = (replace(stage, iterations=min(stage.iterations, max(iterations // 8, 1))) for stage in after)
    return replace(config, stages=(*before, replace(config.stages[number], iterations=iterations), *later))


def train_config_from_dict(values: Mapping[str, Any], source: str) -> TrainConfig:
    """Rebuild a configuration from JSON values; the `kind` of every stage's algorithm says which it is.

    Algorithms of one's own are known once the module that defines their configuration has been imported.

    Raises:
        ValueError: naming `source` and what does not fit.
    """
    stages = values.get("stages", ())
    if not isinstance(stages, list | tuple) or not all(isinstance(stage, Mapping) for stage in stages):
        raise ValueError(f"{source}: stages must be a list of objects, got {stages!r}")
    built = []
    for number, stage in enumerate(stages):
        place = f"{source}: stages.{number}.algorithm"
        built.append({**stage, "algorithm": _algorithm_from_dict(stage.get("algorithm"), place)})
    config: TrainConfig = config_from_dict(TrainConfig, {**values, "stages": tuple(built)}, source)
    return config


def _algorithm_from_dict(values: Any, source: str) -> AlgorithmConfig:
    known = _by_kind()
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(
            f"{source}: kind must be one of {', '.join(sorted(known))}, got {kind!r}; import the module that defines "
            "it first if it is an algorithm of your own"
        )
    config: AlgorithmConfig = config_from_dict(known[kind], values, source)
    return config


def _check_json(name: str, values: Mapping[str, Any]) -> None:
    """Make sure that arguments of the environment are the same after they were written and read."""
    for key, value in values.items():
        try:
            is_json = json.loads(json.dumps(value)) == value
        except (TypeError, ValueError):
            is_json = False
        if not is_json:
            raise ValueError(
                f"{name} must be JSON (lists, no tuples), since a run keeps its configuration, got {key} = {value!r}; "
                "give the trainer an environment of your own for what JSON cannot hold"
            )


def _check_kind(stage: Stage) -> None:
    """Make sure that the algorithm of a stage can be told by its kind when it is read back."""
    own = type(stage.algorithm)
    if _by_kind().get(getattr(stage.algorithm, "kind", "")) is not own:
        raise ValueError(
            f'{own.__name__}, of stage {stage.name!r}, needs a field kind: Literal["..."] = "..." of its own'
        )


def _by_kind() -> dict[str, type[AlgorithmConfig]]:
    """Configurations of algorithms, as far as they have been imported and have a kind of their own."""
    kinds = ((vars(child).get("kind"), child) for child in _subclasses(AlgorithmConfig))
    return {kind: child for kind, child in kinds if isinstance(kind, str)}


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for child in base.__subclasses__():
        yield child
        yield from _subclasses(child)
