"""A run in Weights & Biases; variables of the library, such as WANDB_MODE and WANDB_PROJECT, say where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

Error = wandb.Error


class Run:
    """See `agents.training.tracking.TrackedRun`."""

    def __init__(self, folder: Path, config: dict[str, Any], run_id: str | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "acis"),
            name=folder.name,
            dir=folder,
            id=run_id,
            resume="allow",
            config=config if run_id is None else None,
        )
        self.id: str = self._run.id
        self.last_step: int = max(self._run.step - 1, 0)  # `step` is that of the next `log`

    def write(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Record metrics after so many iterations."""
        self._run.log(dict(metrics), step=iteration)

    def close(self, agent: Path, outcome: str) -> None:
        """Record where the agent is, and how the run has ended."""
        self._run.summary["agent"] = str(agent)
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
