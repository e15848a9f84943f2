"""A benchmark of small plants: tiny networks, four scenes, agents that train for a few iterations."""

from dataclasses import dataclass, replace

import pytest

from acis_env.weights import save_weights
from agents.algorithms import BaselineConfig, LearnerConfig
from agents.benchmark import registry
from agents.benchmark.cell import Cell
from agents.benchmark.contender import Task
from agents.benchmark.method import Trained
from agents.benchmark.pictured import Pictured
from agents.experiments.jobs import run_job
from agents.experiments.methods import SceneSet, env_of
from agents.models.actor import ActorConfig
from agents.training.config import Stage, TrainConfig

PLANTS = {"max_leaves": 4, "length": 4}
LEARNER = LearnerConfig(ActorConfig(memory_size=6, layers=1, hidden=8, termination_hidden=4))


@dataclass(frozen=True)
class Tiny(Trained):
    """An agent that trains for three iterations."""

    about: str = "tiny"
    variant: str = "standard"
    iterations: int = 3

    def train_config(self, task):
        stages = (Stage("main", BaselineConfig(), self.iterations),)
        env = env_of(task.scene_set, task.weights)
        return TrainConfig(env, stages, LEARNER, task.seed, batch_size=4, eval_scenes=2, checkpoint_every=1)


@pytest.fixture(scope="session")
def tiny_agent():
    """A trained agent of ours, in a second."""
    return Tiny()


@pytest.fixture(scope="session")
def plants(make_tiny, tmp_path_factory):
    """Four small plants with random networks."""
    folder = tmp_path_factory.mktemp("weights")
    networks = make_tiny()
    save_weights(folder, networks.context_network)
    save_weights(folder, networks.autoencoder)
    return SceneSet("plants", "dataset:leaves", PLANTS, PLANTS, "test", weights={"standard": str(folder)})


@pytest.fixture
def task_of(plants, tmp_path):
    """A function of the name of an agent and a seed: its task."""

    def make(name="any", seed=0, scene_set=plants, **options):
        folder = tmp_path / scene_set.name / name / f"seed-{seed}"
        return Task(folder, scene_set, plants.weights["standard"], "smoke", seed, **options)

    return make


@pytest.fixture(scope="session")
def finished(plants, tiny_agent, tmp_path_factory):
    """Folder of a benchmark of a trained agent with two seeds, chance, a yardstick and the bound."""
    out = tmp_path_factory.mktemp("finished")
    rows = {name: registry.AGENTS[name] for name in ("random-codes", "foreground-components", "reconstruction")}
    run_job(Pictured(out / "plants", plants, plants.weights["standard"]))
    for name, agent in {"tiny": tiny_agent, "longer": replace(tiny_agent, iterations=5), **rows}.items():
        for seed in (0, 1) if agent.is_seeded else (0,):
            folder = out / "plants" / name / f"seed-{seed}"
            run_job(Cell(Task(folder, plants, plants.weights["standard"], "smoke", seed), name, agent))
    return out
