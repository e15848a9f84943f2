"""Trained agents that come with the package, by name."""

from __future__ import annotations

import os
from pathlib import Path

from acis_env.configs import nearest_first

BUNDLED = Path(__file__).parents[1] / "pretrained"
"""Folder of the agents, one subfolder each."""
FILE = "agent.pt"
"""Name of an agent's file in its folder, and in that of a run."""


def bundled_agents() -> list[str]:
    """Names of all agents that come with the package, which `Agent.load` takes."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{FILE}"))


def find_agent(agent: str | os.PathLike[str]) -> Path:
    """The file of an agent: itself, or in the folder of a run; where there is none, of that name in the package.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(agent)
    if path.exists():
        return path / FILE if path.is_dir() else path
    if str(agent) in bundled_agents():
        return BUNDLED / str(agent) / FILE
    known = ", ".join(nearest_first(str(agent), bundled_agents()))
    raise FileNotFoundError(
        f"{path}: no such file; `acis train` writes agents, and these come with the package: {known}"
    )
