"""The time that training and inference take, counted over interruptions."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acis_env.allocator import peak_memory
from acis_env.dynamics import EnvState
from acis_env.files import write_json
from agents.evaluation.segmenters import Segmenter
from agents.models.agent import Agent
from agents.models.prediction import Prediction
from agents.training.log import TrainingLog
from agents.training.trainer import Trainer


class TimedTrainer(Trainer):
    """Counts the CPU and wall time of training, evaluations left out, over interruptions."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._clock = cpu_and_wall()
        self._saved: dict[str, list[float]] = {}

    def run(self) -> Agent:
        """Train to the end, from the time that was used up to the checkpoint."""
        path = self.folder / "clock.json"
        if self.iteration:
            self._saved = json.loads(path.read_text())
            self._clock = cpu_and_wall() - np.array(self._saved[str(self.iteration)][:2])
        else:
            self._clock = cpu_and_wall()
        return super().run()

    def save(self) -> None:
        """Write the checkpoint and, before it, the time that goes with it, that of the main process."""
        used = (cpu_and_wall() - self._clock).tolist()
        self._saved[str(self.iteration)] = [*used, peak_memory()]
        if self.group.is_main:
            write_json(self.folder / "clock.json", self._saved)
        super().save()

    def usage(self) -> dict[str, float]:
        """Seconds of training, and the process's largest memory in bytes."""
        cpu, wall, _ = self._saved[str(self.iteration)]
        return {"cpu_seconds": cpu, "wall_seconds": wall, "peak_memory": max(u[2] for u in self._saved.values())}

    def evaluate(self, log: TrainingLog) -> dict[str, float]:
        """Measure the agent, with the clock stopped."""
        before = cpu_and_wall()
        metrics = super().evaluate(log)
        self._clock += cpu_and_wall() - before
        self.history[-1]["cpu_seconds"] = float((cpu_and_wall() - self._clock)[0])
        return metrics


def timed(segmenter: Segmenter, seconds: list[float]) -> Segmenter:
    """`segmenter`, the CPU time of whose calls is appended to `seconds`."""

    def segment(state: EnvState) -> Prediction:
        start = time.process_time()
        prediction = segmenter(state)
        seconds.append(time.process_time() - start)
        return prediction

    return segment


def cpu_and_wall() -> NDArray[np.float64]:
    """CPU and wall time in seconds, `[2]`."""
    return np.array([time.process_time(), time.monotonic()])
