"""Agents that somebody has trained already: a run of `acis train`, or a policy of any library in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acis_env.checksums import file_sum, read_json
from acis_env.weights import load_pretrained
from agents.benchmark.contender import Kind, Ready, Task
from agents.benchmark.method import ready
from agents.environment import EnvConfig
from agents.evaluation.policies import policy_segmenter
from agents.evaluation.policy_files import CARD, load_policy
from agents.experiments.methods import SceneSet
from agents.models.agent import Agent
from agents.models.bundled import FILE
from agents.training.warm_start import config_of

FILES = (FILE, "model.zip", "policy.pt2")
"""Files of which one holds the weights of what is in a folder."""


@dataclass(frozen=True)
class FolderAgent:
    """What a folder holds, as it is."""

    folder: Path
    trust: bool = False
    """Whether code of whoever made the folder may run, which policies of other libraries need."""
    kind: Kind = "agent"
    is_seeded: bool = False
    variant: None = None
    """It brings the networks of its environment."""

    @property
    def about(self) -> str:
        """Where it comes from."""
        return f"trained before, from the folder {self.folder.name}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its networks."""
        if (self.folder / FILE).is_file():
            return Agent.load(self.folder).pretrained.size
        return load_pretrained(self._weights(read_json(self.folder / CARD)["arguments"])).size

    def configuration(self, task: Task) -> dict[str, Any]:
        """Checksum of the weights, wherever they are.

        Raises:
            FileNotFoundError: the folder holds no agent.
        """
        found = [self.folder / name for name in FILES if (self.folder / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{self.folder}: expected an agent, which has one of the files {', '.join(FILES)}")
        return {"sha256": file_sum(found[0])}

    def prepare(self, task: Task) -> Ready:
        """Load it; a run of ours stays one, whatever lies beside its agent, and an agent alone needs no run."""
        if (self.folder / FILE).is_file():
            agent = Agent.load(self.folder, task.device)
            config = config_of(agent)
            return ready(agent, replace(config, env=_moved(config.env, task.scene_set)), {}, {})
        policy, arguments = load_policy(self.folder, task.device, trust=self.trust)
        pretrained = load_pretrained(self._weights(arguments)).to(task.device)
        kept = {k: v for k, v in arguments.items() if k not in ("num_envs", "render_mode", "device", "weights")}
        env = _moved(EnvConfig("ACIS/Scenes-v0", kept), task.scene_set)
        stopping = "own" if arguments.get("stop") == "agent" else "true count"
        return Ready(env, pretrained, lambda core: policy_segmenter(policy, core), stopping)  # type: ignore[arg-type]

    def _weights(self, arguments: Mapping[str, Any]) -> str:
        """The networks that a policy of another library was trained with."""
        weights = arguments.get("weights")
        if not isinstance(weights, str):
            raise ValueError(f"{self.folder / CARD}: arguments must name weights, got {dict(arguments)}")
        return weights


def _moved(env: EnvConfig, scene_set: SceneSet) -> EnvConfig:
    """The recipe of an environment, for the scenes of a set."""
    own = {**scene_set.env, **env.kwargs}
    named = {"scenes": scene_set.scenes, "scene_options": dict(scene_set.scene_options), "root": None}
    return EnvConfig(env.id, {**own, **named}, {"scene_options": dict(scene_set.val_options)})
