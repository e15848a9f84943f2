"""Policies of any library, played and measured through one protocol."""

import json

import gymnasium as gym
import numpy as np
import pytest
from torch import nn

from acis_env import SegmentationVectorEnv
from acis_env.datasets import Leaves
from agents.evaluation.evaluation import evaluate
from agents.evaluation.policies import (
    ProgramPolicy,
    RandomPolicy,
    compare_with_random,
    evaluate_policy,
    policy_segmenter,
)
from agents.evaluation.segmenters import agent_segmenter

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


def test_the_segmenter_gives_the_masks_of_the_environment(leaves_env):
    action = np.linspace(-1, 1, 16)
    segment = policy_segmenter(Constant(action), leaves_env)
    rows = evaluate("agent", segment, leaves_env.source)
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
    batch_prediction = evaluate("agent", policy_segmenter(StopsThird(np.zeros(17)), env), env.source)
    truth = [env.scenes.scene(index).num_instances for index in range(5)]
    assert all(-n <= row["dic"] <= 2 - n for row, n in zip(batch_prediction.scenes, truth, strict=True))


def test_an_agent_that_never_stops_is_stopped_where_its_environment_does_whatever_the_truth_is():
    env = SegmentationVectorEnv(split="test", stop="agent", max_episode_steps=2, **LEAVES)
    segment = policy_segmenter(Constant(-np.ones(17)), env)
    together, _ = env.source.begin(range(5))
    alone = [segment(env.source.begin([index])[0]) for index in range(5)]
    found = segment(together)
    assert found.num_masks.tolist() == [2] * 5
    assert [int(each.num_masks[0]) for each in alone] == [2] * 5
    assert found.masks.shape[1] == int(together.num_instances.max()) > 2  # for measures with the true count
    assert not found.stopped.any()


def test_a_data_set_that_is_given_itself_is_played_as_it_is(tmp_path):
    arguments = {"scenes": Leaves("test", length=3, max_leaves=4), "weights": "leaves-64"}
    named = {**LEAVES, "scene_options": {"length": 3, "max_leaves": 4}}
    policy = Constant(np.linspace(-1, 1, 16))
    assert evaluate_policy(policy, arguments) == evaluate_policy(policy, named)
    report = compare_with_random(policy, arguments, tmp_path, num_scenes=2)
    assert report["policy"]["length"] > 0


def test_a_program_clips_its_actions():
    class Large(nn.Module):
        def forward(self, observation):
            return observation * 10

    policy = ProgramPolicy(Large(), "cpu")
    actions, state = policy.predict(np.array([[-1.0, 0.05, 1.0]], dtype=np.float32), "kept")
    np.testing.assert_allclose(actions, [[-1, 0.5, 1]])
    assert state == "kept"


def test_an_agent_of_this_package_is_a_policy_that_finds_what_it_finds_by_itself(agent, make_env):
    env = make_env(context="predicted")
    state, _ = env.source.begin(range(4))
    as_policy, by_itself = (segment(state) for segment in (policy_segmenter(agent, env), agent_segmenter(agent)))
    assert as_policy.num_masks.tolist() == state.num_instances.tolist()
    for scene, count in enumerate(as_policy.num_masks.tolist()):
        errors = (as_policy.masks[scene, :count] - by_itself.masks[scene, :count]).abs().mean((1, 2))
        assert errors.max() < 0.01  # observations are rounded to bytes


def test_the_comparison_with_random_actions_is_printed_and_kept(tmp_path, capsys):
    settings = {**LEAVES, "num_envs": 3}
    report = compare_with_random(Constant(np.zeros(16)), settings, tmp_path, num_scenes=4, seed=7, total_timesteps=50)
    conditions = {"stopping": "true count", "foreground": "none", "preprocessing": "squeeze", "threshold": 0.5}
    conditions |= {"overlaps": "most-probable", "fill": 0.0}
    assert report["policy"] == evaluate_policy(Constant(np.zeros(16)), settings, 4) | conditions
    assert report["random actions"]["return"] != report["policy"]["return"]
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report
    assert (report["seed"], report["total_timesteps"]) == (7, 50)
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("4 held-out scenes")
    compare_with_random(Constant(np.zeros(16)), {**settings, "scene_options": {"length": 2}}, tmp_path / "few")
    assert capsys.readouterr().out.startswith("2 held-out scenes")
    for line, name in zip(lines, ("policy", "random actions"), strict=True):
        numbers = [f"{report[name]['return']:.3f}", f"{report[name]['sbd']:.3f}"]
        assert line.removeprefix(name).split() == [*numbers, "true", "count"]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
