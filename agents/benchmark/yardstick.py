"""Classical methods as agents of a benchmark."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from acis_env.allocator import peak_memory
from acis_env.weights import load_pretrained
from agents.algorithms.base import core_of
from agents.benchmark.contender import Kind, Ready, Task
from agents.benchmark.extras import require
from agents.evaluation.classical import NUM_SCENES, ROUNDS, ClassicalMethod, tune
from agents.experiments.methods import Variant, env_of
from agents.models.prediction import Stopping


@dataclass(frozen=True)
class Yardstick:
    """A classical method whose numbers are tuned on training scenes."""

    method: ClassicalMethod
    stopping: Stopping = "own"
    kind: Kind = "yardstick"
    is_seeded: bool = False
    variant: Variant = "standard"

    @property
    def about(self) -> str:
        """What it is."""
        return self.method.about

    def configuration(self, task: Task) -> dict[str, Any]:
        """What is tried, in pixels of 64x64 (see `ClassicalMethod.scaled`), and on how many training scenes."""
        require("skimage")
        grid = {name: list(values) for name, values in self.method.grid.items()}
        return {"grid": grid, "start": dict(self.method.start), "scenes": NUM_SCENES, "rounds": ROUNDS}

    def prepare(self, task: Task) -> Ready:
        """Tune the numbers."""
        cpu, wall = time.process_time(), time.monotonic()
        pretrained = load_pretrained(task.weights).to(task.device)
        env = env_of(task.scene_set, task.weights)
        tuned = tune(self.method, core_of(env.make_evaluation("train", weights=pretrained, device=task.device)).source)
        usage = {
            "cpu_seconds": time.process_time() - cpu,
            "wall_seconds": time.monotonic() - wall,
            "peak_memory": peak_memory(),
        }
        facts = {
            "numbers": tuned.numbers,
            "training_sbd": tuned.training_sbd,
            "training_scenes": tuned.training_scenes,
        }
        return Ready(env, pretrained, lambda core: tuned.segmenter, self.stopping, 0, usage, facts)
