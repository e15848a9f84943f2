"""A run in MLflow; variables of the library, such as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME, say where."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

Error = MlflowException
MAX_PARAMETERS = 100
"""Number of parameters that MLflow takes at once."""
COUNT = "iteration"
"""A metric beside those of the run: the iteration itself, whose latest value a resumed run asks for."""
STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class Run:
    """See `agents.training.tracking.TrackedRun`."""

    def __init__(self, folder: Path, config: dict[str, Any], run_id: str | None) -> None:
        self._client = client = MlflowClient()
        self.last_step = 0
        if run_id is None:
            self.id: str = client.create_run(self._experiment(), run_name=folder.name).info.run_id
            parameters = [Param(key, str(value)) for key, value in _flat(config)]
            for first in range(0, len(parameters), MAX_PARAMETERS):
                client.log_batch(self.id, params=parameters[first : first + MAX_PARAMETERS])
            return
        self.id = run_id
        self.last_step = int(client.get_run(run_id).data.metrics.get(COUNT, 0))
        client.update_run(run_id, status="RUNNING")

    def write(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Record metrics after so many iterations."""
        now = int(1000 * time.time())
        values = {COUNT: float(iteration), **metrics}
        self._client.log_batch(self.id, [Metric(tag, value, now, iteration) for tag, value in values.items()])

    def close(self, agent: Path, outcome: str) -> None:
        """Record where the agent is, and how the run has ended."""
        self._client.set_tag(self.id, "agent", str(agent))
        self._client.set_terminated(self.id, STATUS[outcome])

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "acis")
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries, and of lists of dictionaries, by names such as stages.0.iterations."""
    is_list = isinstance(values, list | tuple) and any(isinstance(value, dict) for value in values)
    if not is_list and not isinstance(values, dict):
        yield name, values
        return
    for key, value in enumerate(values) if is_list else values.items():
        yield from _flat(value, f"{name}.{key}" if name else str(key))
