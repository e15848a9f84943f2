"""Algorithms of Stable-Baselines3 and sb3-contrib learn from what really happened."""

import pickle
import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")
from stable_baselines3 import DDPG, PPO, TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecMonitor

from acis_env.adapters.sb3 import SB3VecEnv, SceneReplayBuffer

COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}
SMALL = {"net_arch": [8]}


class MaskOnly(BaseFeaturesExtractor):
    """The mask at every fourth pixel: Stable-Baselines3's own networks want pictures of at least 36x36."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=64)

    def forward(self, observations):
        return observations["mask"][:, 0, ::4, ::4].flatten(1)


def rows(observations, index):
    """Row or rows of a batch, as a dict of arrays whatever the kind."""
    parts = observations if isinstance(observations, dict) else {"all": observations}
    return {key: np.asarray(value[index]) for key, value in parts.items()}


def off_policy(algorithm, policy, venv, **options):
    return algorithm(
        policy,
        venv,
        buffer_size=300,
        learning_starts=6,
        batch_size=8,
        train_freq=4,
        gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(4), 0.3 * np.ones(4)),
        replay_buffer_class=SceneReplayBuffer,
        replay_buffer_kwargs={"source": venv.replay_source},
        seed=7,
        device="cpu",
        **options,
    )


@pytest.mark.parametrize(
    ("algorithm", "policy", "obs", "extractor"),
    [(TD3, "MlpPolicy", "stacked", {}), (DDPG, "MultiInputPolicy", "dict", {"features_extractor_class": MaskOnly})],
)
def test_off_policy_algorithms_store_what_really_happened(
    play_by_hand, make_vec, sample_slot, algorithm, policy, obs, extractor
):
    options = {"obs": obs, "max_episode_steps": 3, "augmentation": COLOURFUL}
    venv = VecMonitor(SB3VecEnv(make_vec(3, **options)), info_keywords=("sbd",))
    model = off_policy(algorithm, policy, venv, policy_kwargs={**SMALL, **extractor})
    initial = pickle.dumps([p.tolist() for p in model.actor.parameters()])
    model.learn(36)
    assert model._n_updates > 0
    assert pickle.dumps([p.tolist() for p in model.actor.parameters()]) != initial
    assert len(model.ep_success_buffer) > 0
    assert all(0 <= episode["sbd"] <= 1 for episode in model.ep_info_buffer)

    buffer = model.replay_buffer
    twin = make_vec(3, autoreset_mode="Disabled", **options)
    actions = buffer.actions[: buffer.size()]
    ends = {"terminated": 0, "truncated": 0}
    for row, (before, after, rewards, terminated, truncated, _) in enumerate(play_by_hand(twin, actions, seed=7)):
        np.testing.assert_allclose(buffer.rewards[row], rewards, atol=1e-5)  # actions were rescaled and back
        np.testing.assert_array_equal(buffer.dones[row], terminated | truncated)
        np.testing.assert_array_equal(buffer.timeouts[row], truncated)
        ends["terminated"] += terminated.sum()
        ends["truncated"] += truncated.sum()
        for slot in range(3):
            sample = sample_slot(buffer, np.array([row]), slot)
            assert_close(sample.observations, before, slot)
            assert_close(sample.next_observations, after, slot)
            assert sample.dones.item() == terminated[slot]  # truncation bootstraps, termination does not
    assert min(ends.values()) > 0


def assert_close(sample, observations, slot):
    """Equal up to one grey level, the rounding of a context network that sees fewer pictures at a time."""
    own, expected = rows(sample, 0), rows(observations, slot)
    for key in expected:
        assert np.abs(own[key].astype(int) - expected[key].astype(int)).max() <= 1


def test_an_algorithm_and_its_buffer_are_saved_without_the_environment_and_go_on_with_another(make_vec, tmp_path):
    venv = SB3VecEnv(make_vec(3, obs="stacked"))
    model = off_policy(TD3, "MlpPolicy", venv, policy_kwargs=SMALL)
    model.learn(24)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    assert b"SegmentationVectorEnv" not in (tmp_path / "buffer.pkl").read_bytes()

    alone = TD3.load(tmp_path / "model", device="cpu")
    assert alone.replay_buffer_kwargs["source"].env is None
    observations = venv.reset()
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(alone.predict(observations, deterministic=True)[0], expected)

    other = SB3VecEnv(make_vec(3, obs="stacked"))
    again = TD3.load(tmp_path / "model", env=other, replay_buffer_kwargs={"source": other.replay_source}, device="cpu")
    again.load_replay_buffer(tmp_path / "buffer")
    again.replay_buffer.set_source(other.replay_source)
    set_random_seed(0)
    first = model.replay_buffer.sample(16)
    set_random_seed(0)
    second = again.replay_buffer.sample(16)
    for one, two in zip(first[:5], second[:5], strict=True):
        assert torch.equal(one, two)
    again.learn(24, reset_num_timesteps=False)
    assert again._n_updates > model._n_updates
    assert again.replay_buffer.pos == 16


@pytest.fixture
def replay_rollout(play_by_hand):
    """A function that goes through a rollout: for every step, states after it, rewards, and how episodes ended."""

    def replay(model, twin, seed):
        buffer = model.rollout_buffer
        actions = buffer.actions.reshape(buffer.n_envs, buffer.buffer_size, -1).swapaxes(0, 1)
        for _, after, rewards, terminated, truncated, _ in play_by_hand(twin, actions, seed):
            yield after, rewards, terminated, truncated

    return replay


def test_ppo_bootstraps_where_an_episode_was_cut_and_not_where_it_ended(replay_rollout, make_vec):
    options = {"obs": "coarse", "max_episode_steps": 3}
    venv = VecMonitor(SB3VecEnv(make_vec(4, **options)))
    model = PPO(
        "MlpPolicy", venv, learning_rate=0.0, n_steps=16, batch_size=32, n_epochs=1, gamma=0.9, seed=2,
        policy_kwargs=SMALL, device="cpu",
    )  # fmt: skip
    model.learn(64)
    ends = {"terminated": 0, "truncated": 0}
    twin = make_vec(4, autoreset_mode="Disabled", **options)
    for row, (after, rewards, terminated, truncated) in enumerate(replay_rollout(model, twin, seed=2)):
        with torch.no_grad():
            values = model.policy.predict_values(after)[:, 0].numpy()
        np.testing.assert_allclose(model.rollout_buffer.rewards[row], rewards + 0.9 * values * truncated, atol=1e-5)
        ends["terminated"] += terminated.sum()
        ends["truncated"] += (truncated & (abs(values) > 1e-3)).sum()
    assert min(ends.values()) > 0


def test_recurrent_ppo_learns_and_bootstraps_where_an_episode_was_cut(replay_rollout, make_vec):
    contrib = pytest.importorskip("sb3_contrib")
    options = {"obs": "coarse", "max_episode_steps": 3}
    venv = VecMonitor(SB3VecEnv(make_vec(4, **options)))
    model = contrib.RecurrentPPO(
        "MlpLstmPolicy", venv, n_steps=16, batch_size=32, n_epochs=1, gamma=0.9, seed=2, device="cpu",
        policy_kwargs={**SMALL, "lstm_hidden_size": 8},
    )  # fmt: skip
    initial = [p.clone() for p in model.policy.parameters()]
    model.learn(64)
    assert any(not torch.equal(p, q) for p, q in zip(initial, model.policy.parameters(), strict=True))
    twin = make_vec(4, autoreset_mode="Disabled", **options)
    found = {"terminated": 0, "truncated": 0}
    for row, (_, rewards, terminated, truncated) in enumerate(replay_rollout(model, twin, seed=2)):
        changed = abs(model.rollout_buffer.rewards[row] - rewards) > 1e-5
        assert not (changed & ~truncated).any()
        found["terminated"] += terminated.sum()
        found["truncated"] += (changed & truncated).sum()
    assert min(found.values()) > 0


def test_policies_are_evaluated_episode_by_episode(make_vec, scenes):
    venv = VecMonitor(SB3VecEnv(make_vec(2, obs="coarse", sampler="sequential")), info_keywords=("sbd",))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, seed=0, policy_kwargs=SMALL, device="cpu")
    venv.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(model, venv, n_eval_episodes=4, return_episode_rewards=True)
    # Slot 0 plays scenes 0 and 1, slot 1 plays scenes 1 and 2.
    assert sorted(lengths) == sorted(scenes[index].num_instances for index in (0, 1, 1, 2))
    assert all(0 < value <= length for value, length in zip(returns, lengths, strict=True))


def test_a_saved_policy_acts_as_before(make_vec, tmp_path):
    venv = SB3VecEnv(make_vec(3, obs="coarse"))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, seed=0, policy_kwargs=SMALL, device="cpu").learn(24)
    model.save(tmp_path / "ppo")
    observations = venv.reset()
    again = PPO.load(tmp_path / "ppo", device="cpu")
    np.testing.assert_array_equal(
        again.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
