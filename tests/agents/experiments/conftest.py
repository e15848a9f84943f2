"""The whole command on four plants: two methods, two seeds, a few iterations of tiny networks."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from acis_env.weights import save_weights
from agents.algorithms import ActorCriticConfig, BaselineConfig, CriticRankingConfig, LearnerConfig
from agents.algorithms.search import CandidateConfig
from agents.commands import reproduce as command
from agents.commands.reproduce import Reproduce
from agents.experiments import peak_memory, plan, running
from agents.experiments.jobs import run_job
from agents.experiments.methods import HEIGHT, Method, Scale, SceneSet, cell_config
from agents.models.actor import ActorConfig
from agents.models.critic import CriticConfig
from agents.models.ranking_critic import RankingCriticConfig
from agents.training.config import Stage

PLANTS = {"max_leaves": 4, "length": 4}
LEARNER = LearnerConfig(ActorConfig(memory_size=6, layers=1, hidden=8, termination_hidden=4))
CRITIC = {"critic": CriticConfig(hidden=(8, 8)), "critic_updates": 1, "critic_batch_size": 8, "replay_size": 2}
RANKING = {**CRITIC, "critic": RankingCriticConfig(hidden=(8, 8))}
ALGORITHMS = {
    "cross-entropy": BaselineConfig(objective="cross-entropy", clip_norm=200.0),
    "score": BaselineConfig(),
    "actor-critic": ActorCriticConfig(**CRITIC, max_remaining=6, critic_warmup=0),
    "critic-ranking": CriticRankingConfig(**RANKING, candidates=CandidateConfig(number=2)),
}


def schedule_of(algorithm):
    return lambda iterations: (Stage("init", BaselineConfig(), 1), Stage("main", ALGORITHMS[algorithm], iterations))


def small_config(*arguments):
    return replace(cell_config(*arguments), batch_size=3, eval_scenes=2, checkpoint_every=2)


def run_here(jobs, executor):
    """Stands in for processes, which take seconds each to start."""
    for job in jobs:
        if not job.is_done:
            run_job(job)
    return []


@pytest.fixture(scope="session")
def schedule():
    """A function of the name of an algorithm: the stages, given the iterations of the main one."""
    return schedule_of


@pytest.fixture(scope="session")
def small():
    """`cell_config` for tiny runs."""
    return small_config


@pytest.fixture(scope="session")
def tiny_algorithms():
    """Settings of algorithms for tiny networks, by name."""
    return ALGORITHMS


@pytest.fixture(scope="session")
def tiny_learner():
    """Settings of a small actor."""
    return LEARNER


@pytest.fixture(scope="session")
def plants_options():
    """Arguments of `Leaves`: four small plants."""
    return PLANTS


@pytest.fixture(scope="session")
def tiny_world(make_tiny, tmp_path_factory):
    """Registries of one set, two methods and one scale: `scene_sets`, `methods`, `scales`."""
    folder = tmp_path_factory.mktemp("weights")
    networks = make_tiny()
    save_weights(folder, networks.context_network)
    save_weights(folder, networks.autoencoder)
    plants = SceneSet("plants", "leaves", PLANTS, PLANTS, "test", {"standard": str(folder)}, label_order=HEIGHT)
    methods = [
        Method("BL-Trunc", "cross-entropy", "any", schedule_of("cross-entropy"), learner=LEARNER),
        Method("AC-Dice", "actor-critic", "any", schedule_of("actor-critic"), learner=LEARNER),
    ]
    return SimpleNamespace(
        scene_sets={"plants": plants},
        methods={method.name: method for method in methods},
        scales={"quick": Scale("quick", {"any": 4}, evaluations=2)},
    )


def replace_registries(patch, tiny_world):
    patch.setattr(command, "scene_sets", lambda *folders: tiny_world.scene_sets)
    patch.setattr(plan, "METHODS", tiny_world.methods)
    patch.setattr(plan, "SCALES", tiny_world.scales)
    patch.setattr(plan, "cell_config", small_config)
    patch.setattr(running, "run_jobs", run_here)
    patch.setattr(peak_memory, "LENGTHS", (1, 3))
    patch.setattr(peak_memory, "BATCH_SIZE", 2)


@pytest.fixture(scope="session")
def finished(tiny_world, tmp_path_factory):
    """Folder of a command that has ended."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        replace_registries(patch, tiny_world)
        Reproduce(sets=("plants",), seeds=(0, 1), out=out).run()
    return out


@pytest.fixture
def world(tiny_world, monkeypatch):
    """A function that runs the command in the tiny world, in the folder `out`, with any further options."""
    replace_registries(monkeypatch, tiny_world)

    def run(out, **options):
        Reproduce(**{"sets": ("plants",), "seeds": (0, 1), "out": out, **options}).run()

    return run


@pytest.fixture(scope="session")
def results_of():
    """A function of folder and method: the results of its two seeds."""

    def read(out, method):
        return [json.loads((out / "plants" / method / f"seed-{seed}" / "result.json").read_text()) for seed in (0, 1)]

    return read


@pytest.fixture(scope="session")
def row_of():
    """A function of a report, a heading and a name: the cells of that row of the first table below the heading."""

    def find(report, heading, name):
        lines = report.split(heading, 1)[1].splitlines()
        cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(f"| {name} |"))
        return next(cells)

    return find


@pytest.fixture
def only_cells(monkeypatch):
    """Takes networks and references for done, so that only cells run."""
    monkeypatch.setattr("agents.experiments.references.References.is_done", True)
    monkeypatch.setattr("agents.experiments.networks.Networks.is_done", True)
