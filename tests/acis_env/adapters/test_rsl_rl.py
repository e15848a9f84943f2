import copy
import importlib
import sys

import gymnasium as gym
import pytest
import torch

from acis_env.vector_env import SegmentationVectorEnv

pytest.importorskip("rsl_rl")

from rsl_rl.runners import OnPolicyRunner

from acis_env.adapters.rsl_rl import RslRlVecEnv

GAMMA = 0.5
MLP = {"class_name": "MLPModel", "hidden_dims": [8], "activation": "elu"}
LSTM = {"class_name": "RNNModel", "hidden_dims": [8], "activation": "elu", "rnn_type": "lstm", "rnn_hidden_dim": 6}
CNN = {"class_name": "CNNModel", "hidden_dims": [8], "activation": "elu"}
CNN["cnn_cfg"] = {"output_channels": [4], "kernel_size": 4, "stride": 4}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 0.5}
OWN_PPO = "acis_env.adapters.rsl_rl:FinalObservationPPO"


@pytest.fixture
def make_env(scenes, pretrained):
    def make(num_envs=3, obs="coarse", **options):
        return SegmentationVectorEnv(num_envs, scenes=scenes, weights=pretrained, obs=obs, **options)

    return make


def make_runner(env, network=MLP, algorithm="PPO", num_steps=8, groups=("policy",), log_dir=None):
    torch.manual_seed(0)
    config = {
        "num_steps_per_env": num_steps,
        "save_interval": 100,
        "obs_groups": {"actor": list(groups), "critic": list(groups)},
        "actor": {**copy.deepcopy(network), "distribution_cfg": dict(GAUSSIAN)},
        "critic": copy.deepcopy(network),
        "algorithm": {"class_name": algorithm, "gamma": GAMMA, "num_learning_epochs": 2, "num_mini_batches": 1},
    }
    return OnPolicyRunner(env, config, log_dir=log_dir)


def collect(runner, num_steps):
    """Roll out as the runner does, without an update."""
    observations = runner.env.get_observations()
    with torch.inference_mode():
        for _ in range(num_steps):
            observations, rewards, dones, extras = runner.env.step(runner.alg.act(observations))
            runner.alg.process_env_step(observations, rewards, dones, extras)


def test_everything_is_as_the_environment_itself_gives_it(make_env):
    env, twin = RslRlVecEnv(make_env(max_episode_steps=2), seed=7), make_env(max_episode_steps=2)
    expected, _ = twin.reset(seed=7)
    torch.testing.assert_close(env.get_observations()["policy"], expected, rtol=0, atol=0)
    generator, num_time_outs, num_terminated = torch.Generator().manual_seed(0), 0, 0
    for _ in range(12):
        actions = 2 * torch.rand(3, 4, generator=generator) - 1
        observations, rewards, dones, extras = env.step(actions)
        expected, expected_rewards, terminated, truncated, infos = twin.step(actions)
        torch.testing.assert_close(observations["policy"], expected, rtol=0, atol=0)
        torch.testing.assert_close(env.get_observations()["policy"], expected, rtol=0, atol=0)
        torch.testing.assert_close(rewards, expected_rewards, rtol=0, atol=0)
        torch.testing.assert_close(dones, (terminated | truncated).long())
        torch.testing.assert_close(extras["time_outs"], truncated)
        torch.testing.assert_close(env.episode_length_buf, infos["step_count"])
        assert ("final_obs" in extras) == ("log" in extras) == bool(dones.any())
        if dones.any():
            torch.testing.assert_close(extras["final_obs"]["policy"], infos["final_obs"], rtol=0, atol=0)
            ended = infos["_final_info"]
            torch.testing.assert_close(extras["log"]["/episode/sbd"], infos["final_info"]["sbd"][ended])
        num_time_outs, num_terminated = num_time_outs + truncated.sum(), num_terminated + terminated.sum()
    assert num_time_outs > 0
    assert num_terminated > 0


def test_observations_handed_out_are_nobody_elses(make_env):
    env = RslRlVecEnv(make_env(), seed=7)
    first = env.get_observations()["policy"].clone()
    env.get_observations()["policy"].zero_()
    torch.testing.assert_close(env.get_observations()["policy"], first)
    stepped, *_ = env.step(torch.zeros(3, 4))
    second = stepped["policy"].clone()
    stepped["policy"].zero_()
    torch.testing.assert_close(env.get_observations()["policy"], second)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_parts_of_dict_observations_are_groups_of_planes_in_0_to_1(make_env, dtype):
    env, twin = RslRlVecEnv(make_env(obs="dict", obs_dtype=dtype), seed=3), make_env(obs="dict")
    expected, _ = twin.reset(seed=3)
    groups = env.get_observations()
    assert groups.batch_size == (3,)
    assert set(groups.keys()) == set(expected)
    for name, planes in expected.items():
        assert groups[name].dtype == torch.float32
        torch.testing.assert_close(groups[name], planes / 255, rtol=0, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("algorithm", ["PPO", OWN_PPO])
def test_a_time_out_adds_the_discounted_value_and_a_terminated_episode_nothing(make_env, algorithm):
    env = RslRlVecEnv(make_env(max_episode_steps=2), seed=1)
    runner = make_runner(env, algorithm=algorithm)
    collect(runner, 8)
    storage, twin = runner.alg.storage, make_env(max_episode_steps=2)
    observations, _ = twin.reset(seed=1)
    num_time_outs = num_terminated = 0
    for t in range(8):
        torch.testing.assert_close(storage.observations["policy"][t], observations)
        before = observations
        observations, rewards, terminated, truncated, infos = twin.step(storage.actions[t])
        # rsl_rl itself bootstraps from the observation before the last step.
        seen = infos["final_obs"] if algorithm == OWN_PPO and truncated.any() else before
        with torch.no_grad():
            values = runner.alg.critic.mlp(seen)[:, 0]
        torch.testing.assert_close(storage.rewards[t][:, 0], rewards + GAMMA * values * truncated)
        torch.testing.assert_close(storage.dones[t][:, 0].bool(), terminated | truncated)
        num_time_outs, num_terminated = num_time_outs + truncated.sum(), num_terminated + terminated.sum()
    assert num_time_outs > 0
    assert num_terminated > 0


def test_asking_for_final_values_leaves_a_recurrent_critic_as_it_was(make_env):
    env = RslRlVecEnv(make_env(max_episode_steps=2), seed=1)
    own, plain = make_runner(env, LSTM, OWN_PPO).alg, make_runner(env, LSTM).alg
    observations = env.get_observations()
    with torch.inference_mode():
        for alg in (own, plain):
            alg.act(observations)
        _, rewards, dones, extras = env.step(torch.zeros(3, 4))
        extras = {**extras, "final_obs": observations}
        dones = torch.zeros_like(dones)
        for alg in (own, plain):
            alg.process_env_step(observations, rewards, dones, extras)
    for mine, theirs in zip(own.critic.get_hidden_state(), plain.critic.get_hidden_state(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("network", "obs", "groups"),
    [
        (MLP, "coarse", ["policy"]),
        (LSTM, "coarse", ["policy"]),
        (CNN, "stacked", ["policy"]),
        (CNN, "dict", ["image", "mask", "foreground", "angles"]),
    ],
)
def test_ppo_trains(make_env, network, obs, groups):
    env = RslRlVecEnv(make_env(max_episode_steps=2, obs=obs), seed=1)
    runner = make_runner(env, network, OWN_PPO, num_steps=4, groups=groups)
    before = [p.clone() for p in runner.alg.actor.parameters()]
    runner.learn(3)
    after = list(runner.alg.actor.parameters())
    assert all(p.isfinite().all() for p in after)
    assert sum(bool((p != q).any()) for p, q in zip(before, after, strict=True)) > len(after) / 2


def test_metrics_of_episodes_reach_tensorboard(make_env, tmp_path, capsys):
    runner = make_runner(RslRlVecEnv(make_env(), seed=1), log_dir=str(tmp_path))
    runner.learn(1)
    assert "/episode/sbd:" in capsys.readouterr().out
    assert list(tmp_path.glob("events*"))


def test_the_environment_goes_on_after_inference_mode_with_ordinary_tensors(make_env):
    env = RslRlVecEnv(make_env(), seed=1)
    with torch.inference_mode():
        for _ in range(4):
            observations, rewards, _, extras = env.step(torch.zeros(3, 4))
    tensors = [*env.env.state.tensors(), observations["policy"], rewards, extras["time_outs"]]
    assert not any(tensor.is_inference() for tensor in tensors)
    rewards += 1
    env.step(torch.zeros(3, 4, requires_grad=True))
    env.env.reset()


def test_a_constructor_in_inference_mode_gives_ordinary_tensors(make_env):
    base = make_env()
    with torch.inference_mode():
        env = RslRlVecEnv(base, seed=1)
    assert not env.get_observations()["policy"].is_inference()


@pytest.mark.parametrize(
    ("options", "longest"),
    [({}, 4), ({"max_episode_steps": 2}, 2), ({"max_episode_steps": 9}, 4), ({"stop": "agent"}, 8)],
)
def test_max_episode_length_is_that_of_the_longest_episode(make_env, options, longest):
    env = RslRlVecEnv(make_env(**options), seed=0)
    assert env.max_episode_length == longest
    assert env.num_actions == 4 + (options.get("stop") == "agent")


def test_random_initial_lengths_are_ignored_with_a_warning(make_env):
    env = RslRlVecEnv(make_env(), seed=0)
    with pytest.warns(UserWarning, match="init_at_random_ep_len"):
        make_runner(env, num_steps=2).learn(1, init_at_random_ep_len=True)


def test_gymnasium_wrappers_may_stand_between(make_env):
    env = RslRlVecEnv(gym.wrappers.vector.TransformReward(make_env(), lambda r: 2 * r), seed=7)
    twin = make_env()
    twin.reset(seed=7)
    torch.testing.assert_close(env.step(torch.zeros(3, 4))[1], 2 * twin.step(torch.zeros(3, 4))[1])
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_other_ways_to_reset_are_refused(make_env, mode):
    with pytest.raises(ValueError, match="SameStep"):
        RslRlVecEnv(make_env(autoreset_mode=mode))


def test_without_rsl_rl_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rsl_rl", None)
    monkeypatch.setitem(sys.modules, "rsl_rl.algorithms", None)
    monkeypatch.delitem(sys.modules, "acis_env.adapters.rsl_rl")
    with pytest.raises(ImportError, match=r"acis-env\[rsl_rl\]"):
        importlib.import_module("acis_env.adapters.rsl_rl")
