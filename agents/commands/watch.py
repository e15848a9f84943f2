"""`acis watch`: a page on which a person watches and steers an agent."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from acis_env.configs import check_at_least
from acis_env.datasets.registry import open_scenes
from acis_env.networks import check_device
from agents.environment import JsonObject
from agents.models.agent import Agent

LAST_PORT = 2**16 - 1


@dataclass(frozen=True)
class Watch:
    """Show an agent's episodes on a page of this computer, mask by mask, and steer them (docs/watch.md).

    No other computer can reach the page. Ctrl-C ends it.
    """

    agent: Path = Path("leaves-64")
    """Folder of a run, a file `agent.pt`, or the name of an agent that comes with the package, such as leaves-64."""
    scenes: str = "leaves"
    """Data set to choose scenes from, beside pictures of your own: a name or a folder, as for training."""
    split: str = "test"
    """Part of the data set."""
    scene_options: JsonObject = field(default_factory=dict)
    """Further arguments of the data set as a JSON object."""
    max_steps: int | None = None
    """Largest number of masks of an episode; by default the agent's."""
    port: int = 8410
    """Port of the page; 0 takes any that is free."""
    device: str = "cpu"
    """Device to run on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Serve the page until it is interrupted.

        Raises:
            ValueError: an option is out of range, or the libraries of the page are not installed.
            FileNotFoundError: there is no such agent or data set.
            OSError: the port is taken.
        """
        check_device(self.device)
        check_at_least(1, self, "max_steps")
        if not 0 <= self.port <= LAST_PORT:
            raise ValueError(f"port must be from 0 to {LAST_PORT}, got {self.port}")
        if missing := [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]:
            raise ValueError(f"acis watch needs {' and '.join(missing)}: pip install 'acis-env[watch]'")
        from agents.watch.server import HOST, Watching, listen, make_server

        agent = Agent.load(self.agent, self.device)
        scenes = open_scenes(self.scenes, self.split, agent.pretrained.size, self.scene_options)
        watching = Watching(agent, str(self.agent), scenes, self.max_steps)
        with listen(self.port) as listener:
            print(f"{self.agent} is at http://{HOST}:{listener.getsockname()[1]}, Ctrl-C ends it", flush=True)
            try:
                make_server(watching.app()).run(sockets=[listener])
            except KeyboardInterrupt:
                raise KeyboardInterrupt("the page is closed") from None
