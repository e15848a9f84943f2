"""What an agent of a benchmark is: what it is given, and what it has to become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import Pretrained
from agents.environment import EnvConfig
from agents.evaluation.segmenters import Segmenter
from agents.experiments.methods import SceneSet, Variant
from agents.models.prediction import Stopping

Kind = Literal["agent", "reference", "yardstick", "bound"]
"""What a row stands for: an agent that learns, chance, a classical method, or what knows the truth."""


@dataclass(frozen=True)
class Task:
    """What an agent is given. The scenes that are evaluated are none of its business."""

    folder: Path
    """Its own, to write into and to resume from."""
    scene_set: SceneSet
    weights: str
    """Name or folder of the networks around the actions."""
    budget: str
    """Name of the length of training, in `SCALES`."""
    seed: int = 0
    device: str = "cpu"
    processes: int = 1
    """Number of processes, each with a GPU of its own where there are any, that train together."""


@dataclass(frozen=True)
class Ready:
    """An agent that is ready to segment."""

    env: EnvConfig
    """Environment in which it is evaluated."""
    pretrained: Pretrained
    """Networks of that environment."""
    segmenter: Callable[[SegmentationVectorEnv], Segmenter]
    """Makes the segmenter, given the environment."""
    stopping: Stopping
    parameters: int = 0
    """Number of trained parameters, without the networks of the environment."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """`cpu_seconds` and `wall_seconds` of training, and `peak_memory` of the process in bytes."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth knowing, as JSON: environment steps, numbers that were tuned."""


class Contender(Protocol):
    """An agent that can be compared."""

    @property
    def about(self) -> str:
        """One line for the report."""

    @property
    def kind(self) -> Kind:
        """What its row stands for."""

    @property
    def is_seeded(self) -> bool:
        """Whether seeds make a difference; otherwise it is run once, with seed 0."""

    @property
    def variant(self) -> Variant | None:
        """Which decoder of the set it needs; None: it brings networks of its own."""

    def configuration(self, task: Task) -> dict[str, Any]:
        """All that decides the result, beside the scenes; as JSON.

        Raises:
            ValueError: the agent has no budget of that name.
        """

    def prepare(self, task: Task) -> Ready:
        """Train, load or tune it, on training and validation scenes alone.

        Raises:
            ValueError, FileNotFoundError: what is needed is missing or does not fit.
        """
