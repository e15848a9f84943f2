"""The environment of a run: its recipe is JSON, from which it can be made again."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import tyro

from acis_env.configs import config_from_dict
from acis_env.datasets import Leaves
from agents.algorithms.base import core_of
from agents.environment import EVALUATION, EnvConfig

MODULE = """
import gymnasium as gym
from gymnasium.wrappers.vector import TransformReward
from acis_env import SegmentationVectorEnv

def make(**kwargs):
    return TransformReward(SegmentationVectorEnv(**kwargs), lambda reward: 100 + reward)

gym.register("Mine/Dear-v0", vector_entry_point=make)
"""


@pytest.fixture
def recipe(config, tiny_weights):
    """Few small plants with the networks of `tiny`."""
    return config.env.having(weights=str(tiny_weights))


def read_back(recipe):
    return config_from_dict(EnvConfig, json.loads(json.dumps(asdict(recipe))), "text")


def steps_of(env, count=6):
    """All that an environment says to the same actions."""
    generator = torch.Generator().manual_seed(0)
    observation, _ = env.reset(seed=3)
    seen = [*observation.values()]
    for _ in range(count):
        over = env.unwrapped.is_over
        if over.any():
            env.reset(options={"reset_mask": over})
        actions = torch.rand(env.num_envs, *env.single_action_space.shape, generator=generator) * 2 - 1
        observation, rewards, terminated, truncated, infos = env.step(actions)
        seen += [*observation.values(), rewards, terminated, truncated, infos["assignment"], infos["augmentation"]]
    return seen


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"score": "iou", "refine": True},
        {"stop": "agent", "count_penalty": 0.5, "max_episode_steps": 4},
        {"sequence_length": 1, "prefill": "random", "matching_noise": 0.1, "reward": "greedy"},
        {"augmentation": {"brightness": 0.3, "flip": False}, "sampler": "random", "action_scale": 2.0},
        {"context": "oracle", "obs_dtype": "float32", "threshold": 0.3, "precision": "bfloat16"},
    ],
)
def test_an_id_and_arguments_as_json_make_the_same_environment_again(recipe, kwargs):
    one = recipe.having(**kwargs)
    again = read_back(one)
    assert again == one
    first, second = one.make(3), again.make(3)
    assert core_of(first).arguments == core_of(second).arguments
    assert all(core_of(first).arguments[name] == value for name, value in kwargs.items() if name != "device")
    for mine, theirs in zip(steps_of(first), steps_of(second), strict=True):
        assert torch.equal(mine, theirs)


def test_an_id_may_name_the_module_that_registers_a_wrapped_environment(recipe, tmp_path, monkeypatch):
    (tmp_path / "my_environments.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    wrapped = replace(recipe.having(scenes="leaves"), id="my_environments:Mine/Dear-v0")
    env = read_back(wrapped).make(2)
    assert core_of(env) is not env
    env.reset(seed=0)
    _, rewards, *_ = env.step(torch.zeros(2, 4))
    assert (rewards > 99).all()


def test_an_environment_of_a_run_leaves_its_resets_to_the_caller(recipe):
    env = recipe.having(autoreset_mode="SameStep").make(2)
    assert core_of(env).autoreset_mode.value == "Disabled"
    assert env.num_envs == 2


def test_further_arguments_change_a_recipe_and_leave_the_first_as_it_is():
    first = EnvConfig()
    second = first.having(score="iou", sampler="random")
    assert second.kwargs == {**first.kwargs, "score": "iou", "sampler": "random"}
    assert first == EnvConfig()
    assert "score" not in first.kwargs


def test_scenes_are_evaluated_whole_and_as_they_are_whatever_an_agent_is_trained_with(recipe):
    trained = recipe.having(
        augmentation={"brightness": 0.5}, sequence_length=1, matching_noise=0.5, sampler="random", score="iou"
    )
    core = core_of(trained.make_evaluation("val"))
    assert {name: core.arguments[name] for name in EVALUATION} == EVALUATION
    assert core.source.augmentation is None
    assert (core.rules.sequence_length, core.rules.matching_noise) == (None, 0.0)
    assert core.rules.score == "iou"  # what it is scored by stays
    state, _ = core.source.begin(range(3))
    assert state.num_instances.tolist() == [scene.num_instances for scene in core.scenes.dataset]


def test_arguments_for_validation_hold_for_all_splits_but_the_training_scenes(recipe):
    made = {split: core_of(recipe.make_evaluation(split)) for split in ("train", "val", "test")}
    assert {split: core.arguments["split"] for split, core in made.items()} == {s: s for s in made}
    assert {split: len(core.scenes) for split, core in made.items()} == {"train": 6, "val": 3, "test": 3}


@pytest.mark.parametrize(
    ("id", "named"),
    [
        ("ACIS/Nothing-v0", "doesn't exist"),
        ("not a name", "Malformed"),
        ("no_such_module:Nothing-v0", "No module named 'no_such_module'"),
        ("Pendulum-v1", "vector entry point"),
    ],
)
def test_an_id_that_cannot_be_made_is_named(id, named):
    with pytest.raises(ValueError, match=rf"^env\.id must be a registered environment, got '{id}': .*{named}"):
        EnvConfig(id).make(2)


def test_a_data_set_that_is_given_itself_is_evaluated_as_it_is():
    train, val = Leaves(length=3), Leaves("val", length=2)
    recipe = EnvConfig("ACIS/Scenes-v0", {"scenes": train, "weights": "leaves-64"}, {"scenes": val})
    assert core_of(recipe.make_evaluation("train")).scenes.dataset is train
    assert core_of(recipe.make_evaluation("val")).scenes.dataset is val


def test_a_run_with_recorded_steps_is_evaluated_without_a_gpu(recipe):
    assert core_of(recipe.having(device="cuda", cuda_graph=True).make_evaluation("val", device="cpu")).num_envs == 1


def test_arguments_that_the_environment_does_not_take_are_named(recipe):
    with pytest.raises(ValueError, match="unknown 'petals', the nearest are"):
        recipe.having(petals=3).make(2)
    with pytest.raises(ValueError, match=r"score must be .*, got 'best'"):
        recipe.having(score="best").make(2)
    with pytest.raises(FileNotFoundError, match="weights 'nowhere'"):
        recipe.having(weights="nowhere").make(2)


def test_arguments_are_a_json_object_on_the_command_line(capsys):
    parsed = tyro.cli(EnvConfig, args=["--kwargs", '{"score": "iou", "scene_options": {"max_leaves": 3}}'])
    assert parsed == EnvConfig(kwargs={"score": "iou", "scene_options": {"max_leaves": 3}})
    assert tyro.cli(EnvConfig, args=[]) == EnvConfig()
    with pytest.raises(SystemExit):
        tyro.cli(EnvConfig, args=["--kwargs", "[1, 2]"])
    assert "expected a JSON object, got list" in capsys.readouterr().err


def test_folders_of_a_recipe_become_absolute_and_names_stay(tmp_path, monkeypatch):
    for folder in ("mine", "nets"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = EnvConfig(kwargs={"scenes": "mine", "weights": "nets"}, val_kwargs={"scene_options": {"root": "mine"}})
    absolute = recipe.absolute()
    assert absolute.kwargs == {"scenes": str(tmp_path / "mine"), "weights": str(tmp_path / "nets")}
    assert absolute.val_kwargs == {"scene_options": {"root": str(tmp_path / "mine")}}
    at_home = EnvConfig(val_kwargs={"scene_options": {"root": "~/mine"}}).absolute()
    assert at_home.val_kwargs == {"scene_options": {"root": str(Path.home() / "mine")}}
    named = EnvConfig(kwargs={"scenes": "leaves", "weights": "leaves-64", "score": "iou"})
    assert named.absolute() == named


def test_moved_scenes_take_the_place_of_all_that_are_named():
    recipe = EnvConfig(kwargs={"scenes": "old", "weights": "w", "score": "iou"}, val_kwargs={"scenes": "old"})
    moved = recipe.moved(scenes="new")
    assert moved.kwargs == {"scenes": "new", "weights": "w", "score": "iou"}
    assert moved.val_kwargs == {"scenes": "new"}
    assert recipe.moved() == recipe
    assert recipe.moved(root="/data").kwargs == {**recipe.kwargs, "root": "/data"}
