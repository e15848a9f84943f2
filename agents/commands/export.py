"""`acis export`: a trained agent as ONNX files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from agents.evaluation.onnx_export import export_onnx
from agents.models.agent import Agent


@dataclass(frozen=True)
class Export:
    """Write a trained agent as ONNX files, which onnxruntime runs without torch (docs/export.md).

    A critic that chooses among candidates and the refinement of masks are exported, too.
    """

    agent: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or a file `agent.pt`."""
    out: Path
    """Folder to write, new or empty."""

    def run(self) -> None:
        """Write the networks and `agent.json`, and print the files.

        Raises:
            FileNotFoundError: there is no agent.
            ValueError: the folder holds something already, or a library is missing.
        """
        for path in export_onnx(Agent.load(self.agent), self.out):
            print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
