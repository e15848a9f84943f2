import importlib
import sys

import gymnasium as gym
import pytest
import torch
from torch import nn

from acis_env.vector_env import SegmentationVectorEnv

pytest.importorskip("skrl")

from skrl.agents.torch.ddpg import DDPG
from skrl.agents.torch.ppo import PPO
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils.spaces.torch import unflatten_tensorized_space

from acis_env.adapters.skrl import FinalObservations, SkrlWrapper

GAMMA = 0.5
QUIET = {"write_interval": 0, "checkpoint_interval": 0}


class Policy(GaussianMixin, Model):
    def __init__(self, env):
        Model.__init__(self, observation_space=env.observation_space, action_space=env.action_space, device=env.device)
        GaussianMixin.__init__(self)
        self.mean = nn.Linear(self.num_observations, self.num_actions)
        self.log_std = nn.Parameter(torch.full((self.num_actions,), -0.5))

    def compute(self, inputs, role):
        return self.mean(inputs["observations"]), {"log_std": self.log_std}


class Actor(DeterministicMixin, Model):
    def __init__(self, env):
        Model.__init__(self, observation_space=env.observation_space, action_space=env.action_space, device=env.device)
        DeterministicMixin.__init__(self, clip_actions=True)
        self.mean = nn.Linear(self.num_observations, self.num_actions)

    def compute(self, inputs, role):
        return self.mean(inputs["observations"]), {}


class Value(DeterministicMixin, Model):
    def __init__(self, env, sees_actions=False):
        Model.__init__(self, observation_space=env.observation_space, action_space=env.action_space, device=env.device)
        DeterministicMixin.__init__(self)
        self.sees_actions = sees_actions
        self.value = nn.Linear(self.num_observations + sees_actions * self.num_actions, 1)

    def compute(self, inputs, role):
        seen = inputs["observations"]
        if self.sees_actions:
            seen = torch.cat([seen, inputs["taken_actions"]], dim=1)
        return self.value(seen), {}


class FinalObservationPPO(FinalObservations, PPO):
    pass


class FinalObservationDDPG(FinalObservations, DDPG):
    pass


@pytest.fixture
def make_env(scenes, pretrained):
    def make(num_envs=3, obs="coarse", **options):
        return SegmentationVectorEnv(num_envs, scenes=scenes, weights=pretrained, obs=obs, **options)

    return make


def train(agent, env, timesteps):
    cfg = {"timesteps": timesteps, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    SequentialTrainer(env=env, agents=agent, cfg=cfg).train()


def make_ppo(kind, env, rollouts, memory_size):
    torch.manual_seed(0)
    models = {"policy": Policy(env), "value": Value(env)}
    cfg = {
        "rollouts": rollouts,
        "learning_epochs": 2,
        "mini_batches": 2,
        "discount_factor": GAMMA,
        "time_limit_bootstrap": True,
        "experiment": QUIET,
    }
    memory = RandomMemory(memory_size=memory_size, num_envs=env.num_envs, device=env.device)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    return kind(models=models, memory=memory, device=env.device, cfg=cfg, **spaces)


def replay(env, actions, seed):
    """What the environment itself gives for actions `[T, B, a]`: one dict of `[T, B, ...]`."""
    observations, _ = env.reset(seed=seed)
    steps = []
    for chosen in actions:
        following, rewards, terminated, truncated, infos = env.step(chosen)
        ended = terminated | truncated
        final = infos["final_obs"] if ended.any() else following
        steps.append((observations, rewards, terminated, truncated, following, ended, final))
        observations = following
    names = ("observations", "rewards", "terminated", "truncated", "following", "ended", "final")
    return {name: torch.stack(values) for name, values in zip(names, zip(*steps, strict=True), strict=True)}


def test_everything_is_as_the_environment_itself_gives_it(make_env):
    actions = 2 * torch.rand(12, 3, 4, generator=torch.Generator().manual_seed(0)) - 1
    twin = replay(make_env(), actions, seed=7)
    env = SkrlWrapper(make_env(), seed=7)
    observations, infos = env.reset()
    assert infos["step_count"].tolist() == [0, 0, 0]
    for t, chosen in enumerate(actions):
        torch.testing.assert_close(observations, twin["observations"][t], rtol=0, atol=0)
        observations, rewards, terminated, truncated, infos = env.step(chosen)
        torch.testing.assert_close(rewards, twin["rewards"][t][:, None], rtol=0, atol=0)
        torch.testing.assert_close(terminated, twin["terminated"][t][:, None])
        torch.testing.assert_close(truncated, twin["truncated"][t][:, None])
        assert ("final_obs" in infos) == twin["ended"][t].any()
        if "final_obs" in infos:
            torch.testing.assert_close(infos["final_obs"], twin["final"][t], rtol=0, atol=0)
    assert env.state() is None
    assert env.device == torch.device("cpu")
    assert twin["terminated"].any()


@pytest.mark.parametrize("options", [{"obs": "dict"}, {"obs": "stacked"}, {"obs": "dict", "obs_dtype": "float32"}])
def test_flat_observations_unflatten_to_those_of_the_environment_in_0_to_1(make_env, options):
    env, twin = SkrlWrapper(make_env(**options), seed=3), make_env(**options)
    flat, _ = env.reset()
    expected, _ = twin.reset(seed=3)
    assert flat.shape == (3, 13 * 32 * 32)
    assert flat.dtype == torch.float32
    space, found = env.observation_space, unflatten_tensorized_space(env.observation_space, flat)
    assert gym.spaces.flatdim(space) == 13 * 32 * 32
    if options["obs"] == "stacked":
        space, found, expected = {"all": space}, {"all": found}, {"all": expected}
    for name, planes in expected.items():
        scaled = planes / 255 if planes.dtype == torch.uint8 else planes
        torch.testing.assert_close(found[name], scaled)
        assert space[name].contains(found[name][0].numpy())


@pytest.mark.parametrize("kind", [PPO, FinalObservationPPO])
def test_a_truncated_episode_is_worth_its_final_observation_and_a_terminated_one_nothing(make_env, kind):
    env = SkrlWrapper(make_env(max_episode_steps=2), seed=1)
    agent = make_ppo(kind, env, rollouts=100, memory_size=8)
    train(agent, env, 8)  # fewer steps than before an update: the networks stay as they are
    twin = replay(make_env(max_episode_steps=2), agent.memory.get_tensor_by_name("actions"), seed=1)
    assert twin["terminated"].any()
    assert twin["truncated"].any()
    # Without FinalObservations, skrl knows only the observation with which the next episode begins.
    seen = twin["final"] if kind is FinalObservationPPO else twin["following"]
    with torch.no_grad():
        values = agent.value.value(seen)[..., 0]
    expected = twin["rewards"] + GAMMA * values * twin["truncated"]
    torch.testing.assert_close(agent.memory.get_tensor_by_name("rewards")[..., 0], expected)
    torch.testing.assert_close(agent.memory.get_tensor_by_name("observations"), twin["observations"])


def test_ppo_trains(make_env):
    env = SkrlWrapper(make_env(max_episode_steps=2), seed=1)
    agent = make_ppo(FinalObservationPPO, env, rollouts=4, memory_size=4)
    before = [p.clone() for p in agent.policy.parameters()]
    train(agent, env, 12)
    after = list(agent.policy.parameters())
    assert all(p.isfinite().all() for p in after)
    assert all((p != q).any() for p, q in zip(before, after, strict=True))
    assert len(agent.tracking_data["Loss / Policy loss"]) == 3
    assert all(0 <= value <= 1 for value in agent.tracking_data["Info / sbd"])


@pytest.mark.parametrize("obs", ["coarse", "stacked"])
def test_replay_memory_stores_how_a_finished_episode_ended(make_env, obs):
    env = SkrlWrapper(make_env(max_episode_steps=2, obs=obs), seed=2)
    torch.manual_seed(0)
    models = {"policy": Actor(env), "target_policy": Actor(env)}
    models |= {"critic": Value(env, sees_actions=True), "target_critic": Value(env, sees_actions=True)}
    memory = RandomMemory(memory_size=10, num_envs=3)
    cfg = {"batch_size": 4, "random_timesteps": 4, "learning_starts": 6, "experiment": QUIET}
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    agent = FinalObservationDDPG(models=models, memory=memory, device=env.device, cfg=cfg, **spaces)
    train(agent, env, 10)
    assert len(agent.tracking_data["Loss / Critic loss"]) == 4
    twin = replay(make_env(max_episode_steps=2, obs=obs), memory.get_tensor_by_name("actions"), seed=2)
    is_ended = twin["ended"].view(10, 3, *[1] * (twin["final"].dim() - 2))
    expected = torch.where(is_ended, twin["final"], twin["following"]).flatten(2)
    expected = expected / 255 if expected.dtype == torch.uint8 else expected
    torch.testing.assert_close(memory.get_tensor_by_name("next_observations"), expected)
    assert (twin["final"] != twin["following"]).any()


def test_with_one_slot_a_step_shows_how_the_episode_ended_and_reset_goes_on_with_the_next(make_env):
    env, twin = SkrlWrapper(make_env(num_envs=1), seed=4), make_env(num_envs=1)
    observations, _ = env.reset()
    expected, _ = twin.reset(seed=4)
    for _ in range(8):
        torch.testing.assert_close(observations, expected)
        actions = torch.full((1, 4), 0.3)
        observations, _, terminated, _, infos = env.step(actions)
        expected, _, _, _, twin_infos = twin.step(actions)
        if terminated.any():
            torch.testing.assert_close(observations, twin_infos["final_obs"])
            observations, infos = env.reset()
            assert "final_obs" not in infos
        assert infos["scene_index"] == twin_infos["scene_index"]


def test_reset_begins_anew_in_the_middle_of_episodes(make_env):
    env = SkrlWrapper(make_env(num_envs=1), seed=0)
    env.reset()
    env.step(torch.zeros(1, 4))
    _, infos = env.reset()
    assert infos["step_count"].tolist() == [0]


def test_episode_means_are_over_the_episodes_that_ended(make_env):
    env, twin = SkrlWrapper(make_env(), seed=5), make_env()
    env.reset()
    twin.reset(seed=5)
    for _ in range(6):
        infos, twin_infos = env.step(torch.zeros(3, 4))[-1], twin.step(torch.zeros(3, 4))[-1]
        assert ("episode" in infos) == ("final_info" in twin_infos)
        if "episode" in infos:
            ended = twin_infos["_final_info"]
            expected = twin_infos["final_info"]["sbd"][ended].mean()
            torch.testing.assert_close(infos["episode"]["sbd"], expected)
            assert all(value.numel() == 1 for value in infos["episode"].values())


def test_gymnasium_wrappers_may_stand_between(make_env):
    env = SkrlWrapper(gym.wrappers.vector.TransformReward(make_env(render_mode="rgb_array"), lambda r: 2 * r), seed=7)
    twin = make_env()
    env.reset()
    twin.reset(seed=7)
    doubled, single = env.step(torch.zeros(3, 4))[1], twin.step(torch.zeros(3, 4))[1]
    torch.testing.assert_close(doubled, 2 * single[:, None])
    assert len(env.render()) == 3
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_other_ways_to_reset_are_refused(make_env, mode):
    with pytest.raises(ValueError, match="SameStep"):
        SkrlWrapper(make_env(autoreset_mode=mode))


def test_without_skrl_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skrl", None)
    monkeypatch.delitem(sys.modules, "acis_env.adapters.skrl")
    with pytest.raises(ImportError, match=r"acis-env\[skrl\]"):
        importlib.import_module("acis_env.adapters.skrl")
