"""Policies of any library: saved, loaded and played through one protocol."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from acis_env import SegmentationVectorEnv
from agents.evaluation.evaluation import evaluate
from agents.evaluation.policies import (
    CARD,
    ProgramPolicy,
    RandomPolicy,
    evaluate_policy,
    load_policy,
    policy_segmenter,
    save_program,
    save_sb3,
)

LEAVES = {"scenes": "leaves", "weights": "leaves-64", "scene_options": {"length": 5, "max_leaves": 4}}


class Constant:
    """Always the same action, and a count of the calls since an episode began in each slot."""

    def __init__(self, action):
        self.action = np.asarray(action, dtype=np.float32)
        self.starts = []

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        first = next(iter(observation.values())) if isinstance(observation, dict) else observation
        self.starts.append(episode_start.copy())
        return np.tile(self.action, (len(first), 1)), state


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


def by_hand(action, index):
    """Return and metrics of scene `index` of the test split when every action is the same."""
    env = SegmentationVectorEnv(1, split="test", autoreset_mode="Disabled", **LEAVES)
    env.reset(seed=3, options={"scene_index": index})
    total, done = 0.0, False
    while not done:
        _, rewards, terminated, _, infos = env.step(np.asarray(action, dtype=np.float32)[None])
        total, done = total + float(rewards), bool(terminated)
    return {"return": total, "sbd": float(infos["sbd"]), "length": float(infos["step_count"])}


@pytest.mark.parametrize("num_envs", [1, 2, 7])
def test_every_scene_is_played_once_whatever_the_number_of_slots(num_envs):
    action = np.linspace(-1, 1, 16)
    expected = [by_hand(action, index) for index in range(5)]
    policy = Constant(action)
    found = evaluate_policy(policy, LEAVES, num_scenes=5, num_envs=num_envs)
    for key in ("return", "sbd", "length"):
        assert found[key] == pytest.approx(np.mean([row[key] for row in expected]), abs=1e-5)
    assert policy.starts[0].all()
    assert sum(starts.sum() for starts in policy.starts) >= 5


def test_no_more_scenes_are_played_than_asked_for():
    action = np.linspace(-1, 1, 16)
    found = evaluate_policy(Constant(action), LEAVES, num_scenes=2, num_envs=3)
    assert found["length"] == np.mean([by_hand(action, index)["length"] for index in range(2)])


def test_training_settings_do_not_change_the_evaluation():
    plain = evaluate_policy(Constant(np.zeros(16)), LEAVES, num_scenes=5)
    training = {"augmentation": {"rotation": 20}, "sequence_length": 1, "autoreset_mode": "NextStep", "num_envs": 2}
    assert evaluate_policy(Constant(np.zeros(16)), {**LEAVES, **training}, num_scenes=5) == plain


def test_an_agent_that_stops_at_once_has_found_nothing():
    stop = np.append(np.linspace(-1, 1, 16), 1)
    found = evaluate_policy(Constant(stop), {**LEAVES, "stop": "agent"}, num_scenes=5)
    assert found["return"] == found["length"] == found["sbd"] == 0
    assert found["dic"] < 0


def test_random_actions_depend_on_the_seed_and_fill_the_space():
    space = gym.spaces.Box(-1, 1, (16,), np.float32)
    first, again, other = (RandomPolicy(space, seed).predict(np.zeros((200, 3)))[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (200, 16)
    assert -1 <= first.min() < -0.9
    assert 0.9 < first.max() <= 1


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


def test_the_segmenter_gives_the_masks_of_the_environment(leaves_env):
    action = np.linspace(-1, 1, 16)
    segment = policy_segmenter(Constant(action), leaves_env)
    rows = evaluate("agent", segment, leaves_env.scenes)
    expected = [by_hand(action, index) for index in range(5)]
    assert [row["sbd"] for row in rows.scenes] == pytest.approx([row["sbd"] for row in expected], abs=1e-3)


@pytest.fixture
def leaves_env():
    return SegmentationVectorEnv(split="test", **LEAVES)


def test_the_segmenter_counts_masks_up_to_the_agents_stop():
    class StopsThird(Constant):
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            actions, _ = super().predict(observation, state, episode_start)
            calls = 0 if state is None else state
            actions[:, -1] = 1 if calls == 2 else -1
            return actions, calls + 1

    env = SegmentationVectorEnv(split="test", stop="agent", **LEAVES)
    batch_prediction = evaluate("agent", policy_segmenter(StopsThird(np.zeros(17)), env), env.scenes)
    truth = [env.scenes.scene(index).num_instances for index in range(5)]
    assert all(-n <= row["dic"] <= 2 - n for row, n in zip(batch_prediction.scenes, truth, strict=True))


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


def test_a_program_clips_its_actions():
    class Large(nn.Module):
        def forward(self, observation):
            return observation * 10

    policy = ProgramPolicy(Large(), "cpu")
    actions, state = policy.predict(np.array([[-1.0, 0.05, 1.0]], dtype=np.float32), "kept")
    np.testing.assert_allclose(actions, [[-1, 0.5, 1]])
    assert state == "kept"
