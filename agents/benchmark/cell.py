"""A job of `acis benchmark`: one agent on one set of scenes with one seed, prepared and then evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acis_env.files import write_json
from acis_env.weights import weights_sum
from agents.benchmark.contender import Contender, Task
from agents.evaluation.evaluation import count_scenes, evaluate
from agents.experiments.methods import SceneSet, Variant
from agents.experiments.provenance import machine, origin
from agents.experiments.scenes import NUM_PICTURES, checksum, open_evaluated, record, scenes_of, write_arrays
from agents.experiments.timing import cpu_and_wall, timed
from agents.models.composition import Composition


@dataclass(frozen=True)
class Cell:
    """The job of one agent, set and seed."""

    task: Task
    agent_name: str
    agent: Contender

    @property
    def folder(self) -> Path:
        """Folder of all that the job writes: `OUT/<set>/<agent>/seed-<seed>`."""
        return self.task.folder

    @property
    def scene_set(self) -> SceneSet:
        """Scenes of the job."""
        return self.task.scene_set

    @property
    def variant(self) -> Variant | None:
        """Which decoder of the set the agent uses."""
        return self.agent.variant

    @property
    def weights(self) -> str:
        """Name or folder of the networks of the set."""
        return self.task.weights

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return f"{self.scene_set.name}/{self.agent_name}/seed-{self.task.seed}"

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the result."""
        own = self.agent.configuration(self.task)
        named = {"budget": self.task.budget, "seed": self.task.seed, "scenes": scenes_of(self.scene_set), **own}
        found: dict[str, Any] = portable(named, self.task)
        return found

    @property
    def networks_sum(self) -> str | None:
        """Checksum of the networks of the set; None if the agent brings its own, or they are not there yet.

        Raises:
            ValueError: the card of one is damaged.
        """
        try:
            return None if self.variant is None else weights_sum(self.weights)
        except FileNotFoundError:
            return None

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
        """Prepare the agent, evaluate it, and write the result."""
        begin = cpu_and_wall()
        ready = self.agent.prepare(self.task)
        core = open_evaluated(self.scene_set, ready.pretrained, ready.env, self.task.device)
        seconds: list[float] = []
        segmenter = timed(ready.segmenter(core), seconds)
        rule = Composition(core.threshold, fill=self.scene_set.fill)
        evaluation = evaluate(self.agent_name, segmenter, core.source, rule, NUM_PICTURES)
        label_maps = {f"label-{index}": label_map for index, label_map in evaluation.label_maps.items()}
        write_arrays(self.folder / "label_maps.npz", label_maps)
        content = {
            "configuration": self.configuration,
            "set": self.scene_set.name,
            "agent": self.agent_name,
            "about": self.agent.about,
            "kind": self.agent.kind,
            "is_seeded": self.agent.is_seeded,
            "budget": self.task.budget,
            "stopping": ready.stopping,
            "foreground": "none",
            "seed": self.task.seed,
            **origin(self.folder),
            **machine(),
            "cpu_seconds": 0.0,
            "wall_seconds": 0.0,
            "peak_memory": 0.0,
            **ready.usage,
            "total_seconds": max(float((cpu_and_wall() - begin)[0]), ready.usage.get("cpu_seconds", 0.0)),
            "inference_seconds": sum(seconds) / count_scenes(core.source),
            "parameters": ready.parameters,
            "facts": dict(ready.facts),
            "num_scenes": count_scenes(core.source),
            "scenes_sum": checksum(core.source.own_scenes.scene(i) for i in range(count_scenes(core.source))),
            "variant": self.variant,
            "networks_sum": self.networks_sum,
            "rows": {"agent": record(evaluation)},
            "order": evaluation.order,
        }
        write_json(self.result, content)


def portable(value: Any, task: Task) -> Any:
    """A configuration in which the places of scenes and networks, which differ between machines, are names."""
    if isinstance(value, Mapping):
        return {name: portable(child, task) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [portable(child, task) for child in value]
    names = {task.scene_set.scenes: f"set {task.scene_set.name}", task.weights: f"weights {Path(task.weights).name}"}
    root = task.scene_set.scene_options.get("root")
    if root is not None:
        names[root] = "root"
    return names.get(value, value) if isinstance(value, str) else value
