"""Stable-Baselines3 and sb3-contrib learn from what really happened, with little memory for pictures."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from acis_env import SegmentationVectorEnv
from acis_env.metrics import METRIC_NAMES

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DDPG, PPO, TD3
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from acis_env.adapters.sb3 import EnvReference, SB3VecEnv, SceneReplayBuffer

KINDS = {
    "dict": {"obs": "dict"},
    "stacked": {"obs": "stacked"},
    "float": {"obs": "dict", "obs_dtype": "float32"},
    "coarse": {"obs": "coarse"},
}
PICTURES = {name: options for name, options in KINDS.items() if name != "coarse"}
COLOURFUL = {"rotation": 20, "brightness": 0.2, "saturation": 0.3}
SMALL = {"net_arch": [8]}


class MaskOnly(BaseFeaturesExtractor):
    """The mask at every fourth pixel: Stable-Baselines3's own networks want pictures of at least 36x36."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=64)

    def forward(self, observations):
        return observations["mask"][:, 0, ::4, ::4].flatten(1)


@pytest.fixture
def make_env(pretrained, scenes):
    """A function that opens the hand-made scenes in `num_envs` slots."""

    def make(num_envs=3, **options):
        return SegmentationVectorEnv(num_envs, **{"scenes": scenes, "weights": pretrained, **options})

    return make


def random_actions(steps, num_envs=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 4)).astype(np.float32)


def rows(observations, index):
    """Row or rows of a batch, as a dict of arrays whatever the kind."""
    parts = observations if isinstance(observations, dict) else {"all": observations}
    return {key: np.asarray(value[index]) for key, value in parts.items()}


def assert_same(first, second):
    assert set(first) == set(second)
    for key in first:
        assert first[key].dtype == second[key].dtype
        np.testing.assert_array_equal(first[key], second[key])


def play_by_hand(env, actions, seed):
    """What happens when an environment without automatic resets is reset by hand: one tuple per step."""
    observations, _ = env.reset(seed=seed)
    for action in actions:
        following, rewards, terminated, truncated, infos = env.step(action)
        yield observations, following, rewards.numpy(), terminated.numpy(), truncated.numpy(), infos
        observations, over = following, terminated | truncated
        if over.any():
            observations, _ = env.reset(options={"reset_mask": over})


# The vector environment


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_every_array_is_that_of_an_environment_that_is_reset_by_hand(make_env, options):
    venv = SB3VecEnv(make_env(max_episode_steps=3, augmentation=COLOURFUL, **options))
    twin = make_env(max_episode_steps=3, augmentation=COLOURFUL, autoreset_mode="Disabled", **options)
    actions, ends = random_actions(12), 0
    venv.seed(5)
    observations = venv.reset()
    for action, (before, after, rewards, terminated, truncated, infos) in zip(
        actions, play_by_hand(twin, actions, seed=5), strict=True
    ):
        assert all(venv.observation_space.contains(_one(observations, slot)) for slot in range(3))
        assert_same(rows(observations, slice(None)), rows(before, slice(None)))
        observations, own_rewards, dones, own_infos = venv.step(action)
        assert (own_rewards.dtype, dones.dtype) == (np.float32, np.bool_)
        np.testing.assert_array_equal(own_rewards, rewards)
        np.testing.assert_array_equal(dones, terminated | truncated)
        for slot in np.flatnonzero(dones):
            ends += 1
            info = own_infos[slot]
            assert_same(_parts(info["terminal_observation"]), rows(after, slot))
            assert info["TimeLimit.truncated"] == truncated[slot]
            for key in (*METRIC_NAMES, "is_success"):
                assert info[key] == infos[key][slot].item()
    assert ends >= 9


def _one(observations, slot):
    return {k: v[slot] for k, v in observations.items()} if isinstance(observations, dict) else observations[slot]


def _parts(observation):
    return observation if isinstance(observation, dict) else {"all": observation}


def test_infos_say_little_until_an_episode_ends_and_then_everything(make_env):
    venv = SB3VecEnv(make_env(max_episode_steps=2))
    venv.set_options([{"scene_index": index} for index in (2, 0, 3)])  # 1, 2 and 4 instances
    venv.reset()
    assert [info["num_instances"] for info in venv.reset_infos] == [1, 2, 4]
    first, second = random_actions(2)
    *_, dones, infos = venv.step(first)
    assert dones.tolist() == [True, False, False]
    assert [set(info) for info in infos[1:]] == [{"scene_index", "augmentation"}] * 2
    assert [info["scene_index"] for info in infos] == [2, 0, 3]
    assert (infos[0]["num_instances"], infos[0]["step_count"]) == (1, 1)
    assert infos[0]["assignment"].tolist() == [0]
    assert isinstance(infos[0]["is_success"], bool)
    assert isinstance(infos[0]["sbd"], float)
    assert venv.reset_infos[0]["step_count"] == 0
    begun = venv.reset_infos[0]["scene_index"]
    *_, dones, infos = venv.step(second)
    assert infos[0]["scene_index"] == begun
    assert dones[1:].tolist() == [True, True]
    assert [info["TimeLimit.truncated"] for info in infos[1:]] == [False, True]


def test_seeds_and_options_hold_for_one_reset(make_env):
    venv, twin = SB3VecEnv(make_env()), make_env()
    venv.seed(3)
    venv.set_options({"scene_index": 4})
    for seed, options in ((3, {"scene_index": 4}), (None, None)):
        expected, infos = twin.reset(seed=seed, options=options)
        assert_same(rows(venv.reset(), slice(None)), rows(expected, slice(None)))
        assert [info["scene_index"] for info in venv.reset_infos] == infos["scene_index"].tolist()


@pytest.mark.parametrize("options", [[{"scene_index": 1}, {}, {}], {"reset_mask": np.ones(3, bool)}])
def test_options_that_are_not_one_scene_per_slot_are_refused(make_env, options):
    venv = SB3VecEnv(make_env())
    venv.set_options(options)
    with pytest.raises(ValueError, match="options must hold 'scene_index' for every slot"):
        venv.reset()


def test_attributes_and_methods_are_those_of_the_slots_asked_for(make_env):
    venv = SB3VecEnv(make_env(render_mode="rgb_array", sequence_length=2))
    venv.seed(0)
    venv.reset()
    assert venv.get_attr("sequence_length", [0, 2]) == [2, 2]
    assert venv.has_attr("decoder")
    assert not venv.has_attr("encoder")
    venv.set_attr("sequence_length", 1)
    assert venv.get_attr("sequence_length") == [1, 1, 1]
    with pytest.raises(ValueError, match=r"indices must be None or all 3 slots.*got \[1\]"):
        venv.set_attr("sequence_length", 3, indices=1)
    (snapshot,) = venv.env_method("get_state", indices=1)
    assert snapshot.scene_index.tolist() == [venv.reset_infos[1]["scene_index"]]
    assert venv.env_method("get_attr", "score", indices=[0, 1]) == ["dice", "dice"]
    assert venv.env_is_wrapped(Monitor, [0, 1]) == [False, False]
    frames = venv.get_images()
    assert [frame.dtype for frame in frames] == [np.uint8] * 3
    assert venv.render().ndim == 3
    venv.close()
    venv.close()


def test_without_a_render_mode_there_are_no_images(make_env):
    venv = SB3VecEnv(make_env())
    venv.reset()
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert venv.get_images() == [None] * 3


def test_only_a_bare_environment_that_resets_in_the_same_step_is_taken(make_env):
    with pytest.raises(ValueError, match=r'must have autoreset_mode="SameStep".*got "NextStep"'):
        SB3VecEnv(make_env(autoreset_mode="NextStep"))
    with pytest.raises(TypeError, match="must be a SegmentationVectorEnv without wrappers, got VectorWrapper"):
        SB3VecEnv(gym.vector.VectorWrapper(make_env()))


def test_what_was_returned_stays_as_it_was(make_env):
    venv = SB3VecEnv(make_env())
    venv.seed(0)
    kept, copies = [venv.reset()], []
    for action in random_actions(4):
        copies.append(pickle.dumps(kept[-1]))
        observations, _, _, infos = venv.step(action)
        kept.append((observations, infos))
    assert [pickle.dumps(value) for value in kept[:-1]] == copies


# The replay buffer


def collect(venv, buffers, steps, seed=0, restart=False):
    """Random steps, stored as the off-policy algorithms store them."""
    venv.seed(seed)
    observations = venv.reset()
    for step, action in enumerate(random_actions(steps, venv.num_envs, seed)):
        if restart and step == steps // 2:
            observations = venv.reset()
        following, rewards, dones, infos = venv.step(action)
        real = pickle.loads(pickle.dumps(following))
        for slot in np.flatnonzero(dones):
            for key, value in _parts(infos[slot]["terminal_observation"]).items():
                _parts(real)[key][slot] = value
        for buffer in buffers:
            buffer.add(observations, real, action, rewards, dones, infos)
        observations = following


@pytest.fixture
def sample_slot(monkeypatch):
    """A function that takes transitions of one slot out of a buffer, which would draw the slots."""

    def sample(buffer, rows, slot):
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "randint", lambda low, high, size: np.full(size, slot))
            return buffer._get_samples(rows)

    return sample


@pytest.fixture
def assert_equal_samples(sample_slot):
    """A function that compares every transition in two buffers, field by field."""

    def compare(buffer, expected):
        assert buffer.size() == expected.size() > 0
        for slot in range(buffer.n_envs):
            own, other = (sample_slot(either, np.arange(either.size()), slot) for either in (buffer, expected))
            assert type(own) is type(other)
            for name in ("observations", "actions", "next_observations", "dones", "rewards"):
                ours, theirs = _parts(getattr(own, name)), _parts(getattr(other, name))
                assert set(ours) == set(theirs)
                for key in theirs:
                    assert ours[key].dtype == theirs[key].dtype
                    assert torch.equal(ours[key], theirs[key]), (name, key)

    return compare


def make_buffers(venv, size, **options):
    spaces = {"observation_space": venv.observation_space, "action_space": venv.action_space}
    theirs = DictReplayBuffer if isinstance(venv.observation_space, gym.spaces.Dict) else ReplayBuffer
    common = {**spaces, "device": "cpu", "n_envs": venv.num_envs}
    own = SceneReplayBuffer(size, **common, source=venv.replay_source, **options)
    return own, theirs(size, **common)


@pytest.mark.parametrize("augmentation", [None, COLOURFUL], ids=["plain", "augmented"])
@pytest.mark.parametrize("options", PICTURES.values(), ids=PICTURES)
def test_samples_are_those_of_the_buffer_that_keeps_everything(make_env, assert_equal_samples, options, augmentation):
    venv = SB3VecEnv(make_env(3, max_episode_steps=2, augmentation=augmentation, context="oracle", **options))
    buffers = make_buffers(venv, size=30)
    collect(venv, buffers, steps=7)
    assert_equal_samples(*buffers)
    collect(venv, buffers, steps=16, restart=True)  # wraps around, and twice begins anew in the middle of an episode
    assert buffers[0].full
    assert_equal_samples(*buffers)
    assert {float(value) for value in buffers[0].timeouts.flatten()} == {0.0, 1.0}


@pytest.mark.parametrize(("num_envs", "size"), [(1, 5), (2, 2), (3, 9)])
def test_samples_are_right_for_any_number_of_slots_and_rows(make_env, assert_equal_samples, num_envs, size):
    venv = SB3VecEnv(make_env(num_envs, obs="stacked"))
    buffers = make_buffers(venv, size)
    for steps in (3, 8):
        collect(venv, buffers, steps)
        assert_equal_samples(*buffers)


def test_few_masks_are_kept_twice(make_env):
    venv = SB3VecEnv(make_env(3, obs="stacked"))
    own, theirs = make_buffers(venv, size=90)
    collect(venv, (own,), steps=30)
    ended = int(own.dones.sum())
    assert 0 < len(own._last_masks) == ended - int(own.dones[29].sum())
    arrays = (own.observations, own.actions, own.rewards, own.dones, own.timeouts, own.scene_index, own.augmentation)
    assert sum(array.nbytes for array in arrays) == 90 * (32 * 32 + 4 * 4 + 48)
    assert theirs.observations.nbytes + theirs.next_observations.nbytes == 90 * 26 * 32 * 32
    collect(venv, (own,), steps=30, seed=1)
    assert len(own._last_masks) <= own.dones.sum() + 3  # those of overwritten rows are gone


def test_contexts_that_are_kept_stay_within_their_memory(make_env, assert_equal_samples):
    venv = SB3VecEnv(make_env(3, obs="dict"))
    of_two = 2 * 12 * 32 * 32
    buffers = make_buffers(venv, size=60, cache_bytes=of_two)
    collect(venv, buffers, steps=20)
    assert len(set(buffers[0].scene_index.flatten().tolist())) > 2
    assert_equal_samples(*buffers)
    assert len(buffers[0]._cache) == 2


def test_a_buffer_is_pickled_without_its_environment_and_goes_on_when_that_is_given_back(
    make_env, assert_equal_samples
):
    venv = SB3VecEnv(make_env(3, obs="dict"))
    buffers = make_buffers(venv, size=30)
    collect(venv, buffers, steps=6)
    assert_equal_samples(*buffers)
    content = pickle.dumps(buffers[0])
    assert b"SegmentationVectorEnv" not in content
    again = pickle.loads(content)
    with pytest.raises(RuntimeError, match=r"set_source\(venv.replay_source\)"):
        again.sample(4)
    again.set_source(venv.replay_source)
    assert_equal_samples(again, buffers[1])


def test_a_buffer_that_was_reset_is_empty(make_env, assert_equal_samples):
    venv = SB3VecEnv(make_env(3, obs="dict"))
    buffers = make_buffers(venv, size=30)
    for _ in range(2):
        collect(venv, buffers, steps=4)
        assert_equal_samples(*buffers)
        for buffer in buffers:
            buffer.reset()
        assert buffers[0].size() == 0
        assert not buffers[0]._last_masks


def test_rewards_are_normalised_as_stable_baselines3_does_and_pictures_are_not(make_env):
    venv = SB3VecEnv(make_env(3, obs="dict"))
    buffers = make_buffers(venv, size=30)
    collect(venv, buffers, steps=4)
    normalise = VecNormalize(venv, norm_obs=False)
    normalise.ret_rms.var = np.float64(0.04)
    batches = []
    for buffer in buffers:
        set_random_seed(0)
        batches.append(buffer.sample(8, env=normalise))
    assert torch.equal(batches[0].rewards, batches[1].rewards)
    assert (batches[0].rewards > 1).any()
    with pytest.raises(ValueError, match="norm_obs=False"):
        buffers[0].sample(8, env=VecNormalize(venv, norm_obs_keys=["mask"]))


def test_what_the_buffer_cannot_work_with_is_refused(make_env):
    venv, coarse = SB3VecEnv(make_env(obs="dict")), SB3VecEnv(make_env(obs="coarse"))
    with pytest.raises(ValueError, match='observation_space must be that of obs="dict" or "stacked"'):
        SceneReplayBuffer(10, coarse.observation_space, coarse.action_space)
    with pytest.raises(ValueError, match="optimize_memory_usage must be False"):
        SceneReplayBuffer(10, venv.observation_space, venv.action_space, optimize_memory_usage=True)
    buffer = SceneReplayBuffer(10, venv.observation_space, venv.action_space, device="cpu", n_envs=3)
    with pytest.raises(TypeError, match=r"source must be SB3VecEnv.replay_source, got SB3VecEnv"):
        buffer.set_source(venv)
    with pytest.raises(ValueError, match="source must have the observations of the buffer"):
        buffer.set_source(coarse.replay_source)
    observations = venv.reset()
    following, rewards, dones, _ = venv.step(random_actions(1)[0])
    with pytest.raises(ValueError, match=r"infos must have the keys .*'scene_index', 'augmentation'.*, got \[\]"):
        buffer.add(observations, following, random_actions(1)[0], rewards, dones, [{}] * 3)


# Algorithms


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
def test_off_policy_algorithms_store_what_really_happened(make_env, sample_slot, algorithm, policy, obs, extractor):
    options = {"obs": obs, "max_episode_steps": 3, "augmentation": COLOURFUL}
    venv = VecMonitor(SB3VecEnv(make_env(3, **options)), info_keywords=("sbd",))
    model = off_policy(algorithm, policy, venv, policy_kwargs={**SMALL, **extractor})
    initial = pickle.dumps([p.tolist() for p in model.actor.parameters()])
    model.learn(36)
    assert model._n_updates > 0
    assert pickle.dumps([p.tolist() for p in model.actor.parameters()]) != initial
    assert len(model.ep_success_buffer) > 0
    assert all(0 <= episode["sbd"] <= 1 for episode in model.ep_info_buffer)

    buffer = model.replay_buffer
    twin = make_env(3, autoreset_mode="Disabled", **options)
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


def test_an_algorithm_and_its_buffer_are_saved_without_the_environment_and_go_on_with_another(make_env, tmp_path):
    venv = SB3VecEnv(make_env(3, obs="stacked"))
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

    other = SB3VecEnv(make_env(3, obs="stacked"))
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


def replay_rollout(model, twin, seed):
    """For every step of the rollout: states after it, rewards, and how episodes ended."""
    buffer = model.rollout_buffer
    actions = buffer.actions.reshape(buffer.n_envs, buffer.buffer_size, -1).swapaxes(0, 1)
    for _, after, rewards, terminated, truncated, _ in play_by_hand(twin, actions, seed):
        yield after, rewards, terminated, truncated


def test_ppo_bootstraps_where_an_episode_was_cut_and_not_where_it_ended(make_env):
    options = {"obs": "coarse", "max_episode_steps": 3}
    venv = VecMonitor(SB3VecEnv(make_env(4, **options)))
    model = PPO(
        "MlpPolicy", venv, learning_rate=0.0, n_steps=16, batch_size=32, n_epochs=1, gamma=0.9, seed=2,
        policy_kwargs=SMALL, device="cpu",
    )  # fmt: skip
    model.learn(64)
    ends = {"terminated": 0, "truncated": 0}
    twin = make_env(4, autoreset_mode="Disabled", **options)
    for row, (after, rewards, terminated, truncated) in enumerate(replay_rollout(model, twin, seed=2)):
        with torch.no_grad():
            values = model.policy.predict_values(after)[:, 0].numpy()
        np.testing.assert_allclose(model.rollout_buffer.rewards[row], rewards + 0.9 * values * truncated, atol=1e-5)
        ends["terminated"] += terminated.sum()
        ends["truncated"] += (truncated & (abs(values) > 1e-3)).sum()
    assert min(ends.values()) > 0


def test_recurrent_ppo_learns_and_bootstraps_where_an_episode_was_cut(make_env):
    contrib = pytest.importorskip("sb3_contrib")
    options = {"obs": "coarse", "max_episode_steps": 3}
    venv = VecMonitor(SB3VecEnv(make_env(4, **options)))
    model = contrib.RecurrentPPO(
        "MlpLstmPolicy", venv, n_steps=16, batch_size=32, n_epochs=1, gamma=0.9, seed=2, device="cpu",
        policy_kwargs={**SMALL, "lstm_hidden_size": 8},
    )  # fmt: skip
    initial = [p.clone() for p in model.policy.parameters()]
    model.learn(64)
    assert any(not torch.equal(p, q) for p, q in zip(initial, model.policy.parameters(), strict=True))
    twin = make_env(4, autoreset_mode="Disabled", **options)
    found = {"terminated": 0, "truncated": 0}
    for row, (_, rewards, terminated, truncated) in enumerate(replay_rollout(model, twin, seed=2)):
        changed = abs(model.rollout_buffer.rewards[row] - rewards) > 1e-5
        assert not (changed & ~truncated).any()
        found["terminated"] += terminated.sum()
        found["truncated"] += (changed & truncated).sum()
    assert min(found.values()) > 0


def test_policies_are_evaluated_episode_by_episode(make_env, scenes):
    venv = VecMonitor(SB3VecEnv(make_env(2, obs="coarse", sampler="sequential")), info_keywords=("sbd",))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, seed=0, policy_kwargs=SMALL, device="cpu")
    venv.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(model, venv, n_eval_episodes=4, return_episode_rewards=True)
    # Slot 0 plays scenes 0 and 1, slot 1 plays scenes 1 and 2.
    assert sorted(lengths) == sorted(scenes[index].num_instances for index in (0, 1, 1, 2))
    assert all(0 < value <= length for value, length in zip(returns, lengths, strict=True))


def test_a_saved_policy_acts_as_before(make_env, tmp_path):
    venv = SB3VecEnv(make_env(3, obs="coarse"))
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, seed=0, policy_kwargs=SMALL, device="cpu").learn(24)
    model.save(tmp_path / "ppo")
    observations = venv.reset()
    again = PPO.load(tmp_path / "ppo", device="cpu")
    np.testing.assert_array_equal(
        again.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )


def test_a_vector_environment_can_be_pickled(make_env):
    venv = SB3VecEnv(make_env(3))
    venv.seed(0)
    venv.reset()
    again = pickle.loads(pickle.dumps(venv))
    for action in random_actions(4):
        (first, _, _, _), (second, _, _, _) = venv.step(action), again.step(action)
        assert_same(rows(first, slice(None)), rows(second, slice(None)))
    assert pickle.loads(pickle.dumps(EnvReference(venv.env))).env is None
