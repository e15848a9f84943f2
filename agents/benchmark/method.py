"""Agents of this package, by the name of a method of `acis reproduce` or of a preset of `acis train`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any

from agents.benchmark.contender import Kind, Ready, Task
from agents.benchmark.together import train_together
from agents.evaluation.segmenters import agent_segmenter
from agents.experiments.methods import METHODS, SCALES, Variant, cell_config, env_of
from agents.experiments.plan import pick
from agents.experiments.timing import TimedTrainer
from agents.models.agent import Agent
from agents.training.checkpoint import holds_run
from agents.training.config import TrainConfig
from agents.training.presets import PRESETS


@dataclass(frozen=True)
class Trained(ABC):
    """An agent that `acis train` trains."""

    kind: Kind = "agent"
    is_seeded: bool = True

    @abstractmethod
    def train_config(self, task: Task) -> TrainConfig:
        """The configuration of the run."""

    def configuration(self, task: Task) -> dict[str, Any]:
        """The configuration of the run, and by how many processes it is trained."""
        return {"train": asdict(self.train_config(task)), "processes": task.processes}

    def prepare(self, task: Task) -> Ready:
        """Train from the last checkpoint, if there is one, to the end."""
        config, folder = self.train_config(task), task.folder
        if task.processes > 1:
            folder = task.folder / "together"  # which is theirs, while this process keeps the one around it
            train_together(config, folder, task.processes)
        trainer = TimedTrainer.resume(folder) if holds_run(folder) else TimedTrainer(config, folder)
        assert isinstance(trainer, TimedTrainer)
        trainer.run()
        agent = Agent.load(folder, task.device)
        return ready(agent, config, trainer.usage(), {"updates": config.iterations})


@dataclass(frozen=True)
class MethodAgent(Trained):
    """A method of `acis reproduce`, trained for as long as all others at that scale."""

    method: str = ""

    @property
    def about(self) -> str:
        """The method's own line."""
        return METHODS[self.method].about

    @property
    def variant(self) -> Variant:
        """The method's decoder."""
        return METHODS[self.method].weights

    def train_config(self, task: Task) -> TrainConfig:
        """The configuration that `acis reproduce` has."""
        method, scale = METHODS[self.method], pick("budget", task.budget, SCALES)
        return cell_config(task.scene_set, method, scale, task.weights, task.seed, task.device)


@dataclass(frozen=True)
class PresetAgent(Trained):
    """A preset of `acis train` with the scenes and networks of the set; it trains for as long as it says itself."""

    preset: str = ""
    variant: Variant = "standard"

    @property
    def about(self) -> str:
        """Its name, and that its training is as long as it is."""
        return f"preset {self.preset} of `acis train`, at its own length of training"

    def train_config(self, task: Task) -> TrainConfig:
        """The preset's configuration, on the scenes of the set."""
        preset = PRESETS[self.preset]
        kept = {name: value for name, value in preset.env.kwargs.items() if name not in ("scenes", "weights")}
        env = env_of(task.scene_set, task.weights, **kept)
        return replace(preset, env=env, seed=task.seed, device=task.device, fill=task.scene_set.fill)


def ready(agent: Agent, config: TrainConfig, usage: dict[str, float], facts: dict[str, Any]) -> Ready:
    """An agent of this package, in the environment that it was trained in."""
    choices = (agent.selection, agent.outcomes)
    networks = [agent.actor, *(choice.critic for choice in choices if choice is not None)]
    parameters = sum(parameter.numel() for network in networks for parameter in network.parameters())
    return Ready(config.env, agent.pretrained, lambda core: agent_segmenter(agent), "own", parameters, usage, facts)
