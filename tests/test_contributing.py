"""The recipes of CONTRIBUTING.md, followed as they stand: an algorithm of one file, and a data set of one file."""

import importlib
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import acis_env
from acis_env.datasets import DATASETS, Leaves, registry
from agents.commands.main import main
from agents.models.agent import Agent
from agents.models.checkpoints import load_checkpoint
from agents.training.config import Stage, TrainConfig
from agents.training.trainer import Trainer, load_config

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
NETWORKS = ["--learner.actor.memory-size", "6", "--learner.actor.hidden", "8"]
LENGTHS = ["--stages.0.iterations", "1", "--stages.1.iterations", "2", "--batch-size", "2", "--eval-scenes", "2"]


class Recipe:
    """A section of the page: the file that it shows, and the blocks that come after it."""

    def __init__(self, section):
        self.text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
        (self.file,) = re.findall(r"This one,\s+`([\w/]+\.py)`", self.text)
        self.module_name = self.file.removesuffix(".py").replace("/", ".")
        self.content, *self.programs = self.blocks("python")

    def blocks(self, language):
        return re.findall(rf"```{language}\n(.*?)```", self.text, flags=re.DOTALL)

    def write(self, folder):
        """Write the file and import it under the name that it would have in the package."""
        path = folder / Path(self.file).name
        path.write_text(self.content)
        spec = importlib.util.spec_from_file_location(self.module_name, path)
        module = sys.modules[self.module_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run(self, program, **names):
        namespace = {"__name__": "program", **names}
        exec(compile(program, f"{PAGE.name}: {self.file}", "exec"), namespace)
        return namespace


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """A function of a section: its recipe and the module that it makes, in a folder of our own."""
    monkeypatch.chdir(tmp_path)
    made = []

    def write(section):
        recipe = Recipe(section)
        made.append(recipe.module_name)
        return recipe, recipe.write(tmp_path)

    yield write
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def arrays(follow, tmp_path, monkeypatch):
    """The recipe of a data set, its class, and archives of a few plants in the folder that it reads by default."""
    monkeypatch.setattr(registry, "DATASETS", dict(DATASETS))
    recipe, module = follow("Add a data set")
    (tmp_path / "data" / "arrays").mkdir(parents=True)
    for split in ("train", "val", "test"):
        scenes = list(Leaves(split, (40, 60), max_leaves=4, length=3))
        archive = {
            "images": np.stack([scene.image.transpose(1, 2, 0) for scene in scenes]),
            "label_maps": np.stack([scene.label_map * 10 for scene in scenes]),
        }
        np.savez(tmp_path / "data" / "arrays" / f"{split}.npz", **archive)
    register, *programs = recipe.programs
    recipe.run(register, register_dataset=registry.register_dataset, ArrayScenes=module.ArrayScenes)
    return recipe, module.ArrayScenes, programs


@pytest.mark.parametrize("section", ["Add an algorithm", "Add a data set"])
def test_a_recipe_is_a_file_that_is_not_there_yet_beside_others_of_its_kind(section):
    recipe = Recipe(section)
    path = PAGE.parent / recipe.file
    assert path.parent.is_dir()
    assert not path.exists()


def test_the_algorithm_of_the_recipe_trains_as_the_page_says(follow, tmp_path):
    recipe, module = follow("Add an algorithm")
    (program,) = recipe.programs
    namespace = recipe.run(program)
    assert isinstance(namespace["agent"], Agent)
    folder = tmp_path / "runs" / "area"
    assert load_checkpoint(folder / "checkpoint.pt")["iteration"] == 3
    written = json.loads((folder / "config.json").read_text())["stages"][0]["algorithm"]
    assert (written["kind"], written["power"], written["learning_rate"]) == ("area-baseline", 1.0, 1e-3)
    config = load_config(folder)
    assert config.stages == (Stage("main", module.AreaBaselineConfig(power=1.0, learning_rate=1e-3), iterations=3),)
    assert isinstance(Trainer.resume(folder).algorithm, module.AreaBaseline)


def test_the_algorithm_of_the_recipe_weighs_every_mask_by_its_instances_share_of_the_picture(follow, tmp_path):
    _, module = follow("Add an algorithm")
    stage = Stage("main", module.AreaBaselineConfig(power=1.0), iterations=1)
    trainer = Trainer(TrainConfig(stages=(stage,), batch_size=2, eval_scenes=1), tmp_path / "run")
    trainer.train_iteration()
    state = trainer.core.state
    order = state.num_instances.argsort(descending=True)
    weighted = trainer.algorithm
    episodes = weighted.play(state.select(order), torch.Generator().manual_seed(0))
    plain = super(module.AreaBaseline, weighted).terms(episodes)
    for t, (term, heavy) in enumerate(zip(plain, weighted.terms(episodes), strict=True)):
        areas = episodes.targets(t).sum((1, 2, 3))
        torch.testing.assert_close(heavy, term * areas / 64**2)


def test_the_data_set_of_the_recipe_opens_in_an_environment_as_the_page_says(arrays):
    recipe, loader, programs = arrays
    (program,) = programs
    namespace = recipe.run(program)
    env = namespace["env"].unwrapped
    assert namespace["observations"]["image"].shape == (4, 3, 64, 64)
    dataset = env.scenes.dataset
    assert isinstance(dataset, loader)
    assert isinstance(env, acis_env.SegmentationVectorEnv)
    plants = Leaves("train", (40, 60), max_leaves=4, length=3)
    assert dataset.max_instances == max(scene.num_instances for scene in plants)
    for scene, plant in zip(dataset, plants, strict=True):
        assert np.array_equal(scene.image, plant.image)
        assert np.array_equal(scene.label_map, plant.label_map)


def test_the_data_set_of_the_recipe_trains_and_is_evaluated_by_the_commands_of_the_page(arrays, tmp_path, capsys):
    recipe, loader, _ = arrays
    (block,) = recipe.blocks("bash")
    train, evaluate = (shlex.split(line)[1:] for line in block.splitlines())
    main([*train, *NETWORKS, *LENGTHS])
    config = load_config(tmp_path / "runs" / "arrays")
    assert config.env.kwargs["scenes"] == "arrays"
    assert isinstance(Trainer.resume(tmp_path / "runs" / "arrays").core.scenes.dataset, loader)
    main(evaluate)
    assert "arrays, split test, 3 scenes" in capsys.readouterr().out


def test_a_data_set_outside_of_the_package_is_found_when_the_id_names_its_module(arrays, tmp_path, monkeypatch):
    recipe, _, _ = arrays
    register = 'from acis_env.datasets import register_dataset\nregister_dataset("outside", ArrayScenes, "Archives.")'
    (tmp_path / "outside_module.py").write_text(f"{recipe.content}\n\n{register}\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"scenes": "outside", "weights": "leaves-64", "split": "val"}
    env = gym.make_vec("outside_module:ACIS/Scenes-v0", num_envs=2, **settings)
    env.reset(seed=0)
    assert env.unwrapped.scenes.names == ("val-0", "val-1", "val-2")
