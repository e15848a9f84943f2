"""Policies on disk: they act as they did before, and what is no policy is refused."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from acis_env import SegmentationVectorEnv
from agents.evaluation.policies import evaluate_policy
from agents.evaluation.policy_files import CARD, load_policy, save_program, save_sb3

LEAVES = {"scenes": "leaves", "weights": "leaves-64", "scene_options": {"length": 5, "max_leaves": 4}}


class Coarse(nn.Module):
    """A network of the coarse observation."""

    def __init__(self, inputs=208, outputs=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs), nn.Tanh())

    def forward(self, observation):
        return self.layers(observation)


class Planes(nn.Module):
    """A network of the dictionary."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(13, 16, 8, 8)

    def forward(self, observation):
        planes = torch.cat(list(observation.values()), dim=1).float() / 255
        return self.conv(planes).mean((2, 3)).tanh()


@pytest.mark.parametrize(("kind", "network"), [("coarse", Coarse()), ("dict", Planes())])
def test_a_program_acts_as_the_network_it_was_made_from(tmp_path, kind, network):
    env = SegmentationVectorEnv(3, obs=kind, **LEAVES)
    observations, _ = env.reset(seed=0)
    save_program(tmp_path, network, env.arguments, observations)
    policy, arguments = load_policy(tmp_path)
    again = SegmentationVectorEnv(**arguments)
    assert again.arguments == env.arguments
    for count in (1, 2, 3):
        few = {k: v[:count] for k, v in observations.items()} if kind == "dict" else observations[:count]
        numpy = {k: v.numpy() for k, v in few.items()} if kind == "dict" else few.numpy()
        np.testing.assert_allclose(policy.predict(numpy)[0], network(few).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["coarse", "dict"])
def test_an_algorithm_of_stable_baselines3_acts_as_before(tmp_path, kind):
    sb3 = pytest.importorskip("stable_baselines3")
    env = gym.make("ACIS/Leaves-v0", obs=kind, scene_options={"length": 3})
    model = sb3.PPO("MlpPolicy" if kind == "coarse" else "MultiInputPolicy", env, n_steps=8, batch_size=8)
    save_sb3(tmp_path, model, {**LEAVES, "obs": kind})
    policy, arguments = load_policy(tmp_path)
    assert arguments["obs"] == kind
    observation, _ = env.reset(seed=0)
    expected, _ = model.predict(observation, deterministic=True)
    np.testing.assert_allclose(policy.predict(observation, deterministic=True)[0], expected, atol=1e-6)
    assert evaluate_policy(policy, arguments, num_scenes=2)["length"] > 0


def test_what_is_no_policy_is_refused_with_its_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{CARD}: no such file"):
        load_policy(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(ValueError, match=rf"{CARD}: not the card of a policy"):
        load_policy(tmp_path)
    (tmp_path / CARD).write_text(json.dumps({"kind": "wood", "arguments": {}}))
    with pytest.raises(ValueError, match="kind must be 'sb3' or 'program', got 'wood'"):
        load_policy(tmp_path)
    (tmp_path / CARD).write_text(json.dumps({"kind": "program", "arguments": {}}))
    (tmp_path / "policy.pt2").write_bytes(b"no program")
    with pytest.raises(ValueError, match=r"policy\.pt2: not a whole program"):
        load_policy(tmp_path)
    (tmp_path / CARD).write_text(json.dumps({"kind": "sb3", "algorithm": "QQ", "arguments": {}}))
    with pytest.raises(ValueError, match="'QQ' is in none of"):
        load_policy(tmp_path)


def test_arguments_that_are_objects_cannot_be_saved_and_leave_nothing(tmp_path):
    env = SegmentationVectorEnv(2, obs="coarse", **LEAVES)
    observations, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match="name scenes and weights by path"):
        save_program(tmp_path / "out", Coarse(), {**env.arguments, "weights": env.pretrained}, observations)
    assert not (tmp_path / "out").exists()
