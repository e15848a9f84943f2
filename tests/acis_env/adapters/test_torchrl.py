"""TorchRL sees the episodes of the vector environment as they are, and its own DDPG trains on them."""

import gymnasium as gym
import pytest
import torch

pytest.importorskip("torchrl", reason="the adapter needs TorchRL")

from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import SerialEnv
from torchrl.envs.utils import check_env_specs, step_mdp
from torchrl.modules import ValueOperator
from torchrl.objectives import DDPGLoss, SoftUpdate
from torchrl.objectives.value import TD0Estimator, TDLambdaEstimator

from acis_env import SegmentationVectorEnv
from acis_env.adapters.torchrl import INFO_TYPES, SegmentationTorchRLEnv
from acis_env.metrics import METRIC_NAMES

OBSERVATION_KEYS = {
    "dict": ("image", "mask", "foreground", "angles"),
    "stacked": ("observation",),
    "coarse": ("observation",),
}


@pytest.fixture
def make_vec(pretrained, scenes):
    """A function that opens the hand-made scenes, of 2, 3, 1, 4 and 3 instances, in slots that do not reset."""

    def make(num_envs=3, **options):
        options = {
            "scenes": scenes,
            "weights": pretrained,
            "autoreset_mode": "Disabled",
            "sampler": "shuffle",
            **options,
        }
        return SegmentationVectorEnv(num_envs, **options)

    return make


@pytest.fixture
def make_env(make_vec):
    """The same, for TorchRL."""

    def make(num_envs=3, infos=("potential", "sbd"), **options):
        return SegmentationTorchRLEnv(make_vec(num_envs, **options), infos)

    return make


def play_twin(env, actions, seed):
    """What TorchRL should see of `actions` `[T, B, l]`: observations before and after every step, rewards, flags."""
    begin, _ = env.reset(seed=seed)
    rows = []
    for action in actions:
        end, rewards, terminated, truncated, infos = env.step(action)
        rows.append((begin, end, rewards, terminated, truncated, infos))
        begin, done = end, terminated | truncated
        if done.any():
            begin, _ = env.reset(options={"reset_mask": done})
    return rows


def assert_equal_to_twin(data, rows, keys):
    """`data` `[B, T]` of TorchRL holds what the twin saw, bit by bit."""
    for t, (begin, end, rewards, terminated, truncated, infos) in enumerate(rows):
        step = data[:, t]
        for key in keys:
            before, after = (obs if isinstance(obs, torch.Tensor) else obs[key] for obs in (begin, end))
            assert torch.equal(step[key], before)
            assert torch.equal(step["next", key], after)
        assert torch.equal(step["next", "reward"], rewards[:, None])
        assert torch.equal(step["next", "terminated"], terminated[:, None])
        assert torch.equal(step["next", "truncated"], truncated[:, None])
        assert torch.equal(step["next", "done"], (terminated | truncated)[:, None])
        assert torch.equal(step["next", "potential"], infos["potential"][:, None])


# Contract


@pytest.mark.parametrize("obs", OBSERVATION_KEYS)
@pytest.mark.parametrize("stop", ["ground_truth", "agent"])
@pytest.mark.parametrize("name", ["ACIS/Leaves-v0", "ACIS/Scenes-v0"])
def test_torchrl_finds_nothing_to_object_to(name, obs, stop, pretrained, scenes):
    options = {"obs": obs, "stop": stop, "autoreset_mode": "Disabled", "max_episode_steps": 4}
    options |= {"scene_options": {"length": 3}} if "Leaves" in name else {"scenes": scenes, "weights": pretrained}
    env = SegmentationTorchRLEnv(gym.make_vec(name, num_envs=2, **options), infos=INFO_TYPES)
    check_env_specs(env, seed=0)
    check_env_specs(env, break_when_any_done="both")
    assert set(OBSERVATION_KEYS[obs]) | set(INFO_TYPES) == set(env.observation_spec.keys())
    assert env.action_spec.shape[-1] == env.vector_env.single_action_space.shape[0]


@pytest.mark.parametrize("obs", ["dict", "stacked"])
def test_float_planes_have_their_own_bounds(make_env, obs):
    env = make_env(obs=obs, obs_dtype="float32")
    check_env_specs(env)
    spec = env.observation_spec[OBSERVATION_KEYS[obs][-1]]
    assert spec.dtype == torch.float32
    assert spec.space.high.max() == 1


def test_several_environments_run_in_a_serial_one(make_env):
    env = SerialEnv(2, lambda: make_env(2, obs="coarse"))
    check_env_specs(env)
    assert env.rollout(6, break_when_any_done=False).shape == (2, 2, 6)


def test_an_environment_that_resets_itself_is_refused(make_vec):
    with pytest.raises(ValueError, match=r'autoreset_mode="Disabled".*SAME_STEP'):
        SegmentationTorchRLEnv(make_vec(autoreset_mode="SameStep"))


def test_other_environments_and_unknown_infos_are_refused(make_vec, make_env):
    with pytest.raises(ValueError, match="SegmentationVectorEnv without wrappers"):
        SegmentationTorchRLEnv(gym.vector.VectorWrapper(make_vec()))
    with pytest.raises(ValueError, match=r"infos must be some of .*got \['loss'\]"):
        make_env(infos=("potential", "loss"))


def test_it_stays_on_its_device(make_env):
    env = make_env()
    assert env.to("cpu") is env
    with pytest.raises(ValueError, match="device must be that of the vector environment, cpu, got meta"):
        env.to("meta")


def test_closing_closes_the_vector_environment_and_may_be_repeated(make_env):
    env = make_env()
    env.reset()
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="call reset"):
        env.vector_env.step(torch.zeros(3, 4))


# Data


@pytest.mark.parametrize("obs", OBSERVATION_KEYS)
@pytest.mark.parametrize("options", [{}, {"stop": "agent", "max_episode_steps": 3}], ids=["ground_truth", "agent"])
def test_a_rollout_over_many_episodes_is_what_a_twin_sees(make_env, make_vec, obs, options):
    env, twin = make_env(obs=obs, **options), make_vec(obs=obs, **options)
    env.set_seed(7)
    torch.manual_seed(0)
    data = env.rollout(10, break_when_any_done=False)
    rows = play_twin(twin, data["action"].transpose(0, 1), seed=7)
    assert_equal_to_twin(data, rows, OBSERVATION_KEYS[obs])
    assert data["next", "done"].sum() >= 6
    assert data["next", "truncated"].any() == bool(options)


def test_a_collector_stores_the_true_end_of_every_episode(make_env, make_vec):
    env, twin = make_env(obs="dict"), make_vec(obs="dict")
    env.set_seed(3)
    torch.manual_seed(0)
    batches = list(Collector(env, env.rand_action, frames_per_batch=12, total_frames=36))
    data = torch.cat([batch.reshape(3, 4) for batch in batches], dim=1)
    rows = play_twin(twin, data["action"].transpose(0, 1), seed=3)
    assert_equal_to_twin(data, rows, OBSERVATION_KEYS["dict"])
    ended = data["next", "done"][:, :-1, 0]
    assert ended.any()
    begins_empty = data["mask"][:, 1:].flatten(2).amax(-1) == 0
    ends_empty = data["next", "mask"][:, :-1].flatten(2).amax(-1) == 0
    assert begins_empty[ended].all()
    assert not ends_empty[ended].any()


def test_the_metrics_of_an_episode_stand_at_its_end_alone(make_env, make_vec):
    env, twin = make_env(infos=(*METRIC_NAMES, "is_success")), make_vec()
    env.set_seed(5)
    data = env.rollout(5, break_when_any_done=False)
    rows = play_twin(twin, data["action"].transpose(0, 1), seed=5)
    for t, (*_, infos) in enumerate(rows):
        for key in (*METRIC_NAMES, "is_success"):
            assert not data[key][:, t].any()
            expected = infos.get(key, torch.zeros(3))
            assert torch.equal(data["next", key][:, t, 0], expected.to(data["next", key].dtype))
    assert data["next", "sbd"].any()


def test_the_draws_of_an_episode_tell_its_picture(make_env):
    env = make_env(infos=("scene_index", "augmentation"), augmentation={"rotation": 20, "brightness": 0.2})
    data = env.rollout(8, break_when_any_done=False).reshape(-1)
    context = env.vector_env.source.context_again(data["scene_index"][:, 0], data["augmentation"])
    assert torch.equal((context[:, :3] * 255).round().byte(), data["image"])


def test_the_same_seed_gives_the_same_episodes_and_none_another(make_env):
    def begin(seed):
        env = make_env(sampler="random", augmentation={"rotation": 20})
        env.set_seed(seed)
        return env.reset()["image"]

    assert torch.equal(begin(4), begin(4))
    assert not torch.equal(begin(4), begin(5))
    assert not torch.equal(begin(None), begin(None))


def test_a_later_seed_holds_from_the_next_episode_on(make_env):
    env = make_env(augmentation={"rotation": 20})
    env.set_seed(4)
    first = env.reset()
    env.rollout(5, break_when_any_done=False)
    env.set_seed(4)
    assert torch.equal(env.reset()["image"], first["image"])


def test_a_reset_can_choose_the_scenes(make_env, scenes):
    image = make_env().reset(scene_index=[3, 0, 3])["image"]
    for slot, index in enumerate((3, 0, 3)):
        assert torch.equal(image[slot], torch.from_numpy(scenes[index].image))


def test_stored_data_does_not_change_when_the_environment_goes_on(make_env):
    env = make_env()
    start = env.reset()
    kept, later = start.clone(), start.clone()
    for _ in range(6):
        _, later = env.step_and_maybe_reset(env.rand_action(later))
    assert (start == kept).all()


# Partial resets and partial steps


def test_a_partial_reset_leaves_the_other_slots_alone(make_env):
    env = make_env()
    env.set_seed(0)
    env.reset(scene_index=3)
    before = step_mdp(env.step(env.rand_action(env.reset(scene_index=3))))
    reset = env.reset(before.clone().set("_reset", torch.tensor([[False], [True], [False]])))
    for slot in (0, 2):
        assert (reset[slot] == before[slot]).all()
    assert reset["potential"][1] == 0
    assert not reset["mask"][1].any()
    assert env.vector_env.state.step_count.tolist() == [1, 0, 1]


def test_a_partial_reset_of_no_slot_changes_nothing(make_env):
    env = make_env()
    before = env.reset()
    reset = env.reset(before.clone().set("_reset", torch.zeros(3, 1, dtype=torch.bool)))
    assert (reset == before).all()


def test_a_slot_that_is_not_reset_stays_done(make_env):
    env = make_env()
    ended = step_mdp(env.step(env.rand_action(env.reset(scene_index=2))))
    assert ended["done"].all()
    mask = torch.tensor([[True], [False], [True]])
    reset = env.reset(ended.clone().set("_reset", mask))
    assert reset["done"].tolist() == reset["terminated"].tolist() == [[False], [True], [False]]
    with pytest.warns(UserWarning, match="done_key"):
        reset = env.reset(TensorDict({"_reset": mask}, batch_size=[3]))
    assert reset["done"].tolist() == [[False], [True], [False]]


def test_stepping_after_the_end_is_an_error_and_maybe_reset_the_way_out(make_env):
    env = make_env()
    ended = step_mdp(env.step(env.rand_action(env.reset(scene_index=[2, 3, 3]))))
    with pytest.raises(RuntimeError, match=r"slots \[0\] are over"):
        env.step(env.rand_action(ended.clone()))
    again = env.step(env.rand_action(env.maybe_reset(ended)))
    assert again["next", "reward"].shape == (3, 1)


def test_a_rollout_until_all_are_done_holds_the_slots_that_are(make_env, make_vec):
    env, twin = make_env(infos=("potential", "num_instances")), make_vec()
    env.set_seed(0)
    start = env.reset(scene_index=[0, 3, 2])
    torch.manual_seed(0)
    data = env.rollout(10, auto_reset=False, tensordict=start, break_when_all_done=True)
    assert data.shape == (3, 4)
    observations, _ = twin.reset(seed=0, options={"scene_index": [0, 3, 2]})
    for slot, length in enumerate((2, 4, 1)):
        assert data["next", "done"][slot, :, 0].tolist() == [t >= length - 1 for t in range(4)]
        for t in range(length, 4):
            assert (data[slot, t] == data[slot, length - 1]).all()
    twin.reset(seed=0, options={"scene_index": 3})
    for t in range(4):
        observations, rewards, *_ = twin.step(data["action"][:, t])
        assert torch.equal(data["next", "mask"][1, t], observations["mask"][1])
        assert torch.equal(data["next", "reward"][1, t, 0], rewards[1])


def test_a_slot_that_sits_out_a_step_goes_on_as_if_nothing_had_been(make_env):
    env, twin = make_env(), make_env()
    first, second, third = (torch.rand(3, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))

    def step(env, tensordict, action, mask=(True, True, True)):
        return env.step(tensordict.clone().update({"action": action, "_step": torch.tensor(mask)}))

    twin_state = step_mdp(step(twin, twin.reset(scene_index=3), first))
    expected = step(twin, twin_state, third)
    state = step_mdp(step(env, env.reset(scene_index=3), first))
    partial = step(env, state, second, (True, False, False))
    for slot in (1, 2):
        assert partial["next", "reward"][slot] == 0
        assert torch.equal(partial["next", "mask"][slot], state["mask"][slot])
        assert torch.equal(partial["next", "potential"][slot], state["potential"][slot])
    assert not torch.equal(partial["next", "mask"][0], state["mask"][0])
    after = step(env, step_mdp(partial), third)
    for slot in (1, 2):
        for key in ("mask", "reward", "potential", "done"):
            assert torch.equal(after["next", key][slot], expected["next", key][slot])


# Learning


class SumCritic(nn.Module):
    """A value that every observation has, so that what is bootstrapped can be told from zero."""

    def forward(self, observation):
        return observation.sum(-1, keepdim=True)


@pytest.mark.parametrize("kind", [TD0Estimator, TDLambdaEstimator])
def test_truncation_bootstraps_from_the_true_end_and_termination_does_not(make_env, kind):
    env = make_env(2, obs="coarse", max_episode_steps=2)
    begin = env.reset(scene_index=[0, 3])  # 2 and 4 instances: the limit cuts the second
    data = env.rollout(3, auto_reset=False, tensordict=begin, break_when_any_done=False)
    assert data["next", "terminated"][:, :2, 0].tolist() == [[False, True], [False, False]]
    assert data["next", "truncated"][:, :2, 0].tolist() == [[False, False], [False, True]]
    critic = ValueOperator(SumCritic(), in_keys=["observation"])
    arguments = {"lmbda": 0.9} if kind is TDLambdaEstimator else {}
    target = kind(gamma=0.5, value_network=critic, **arguments).value_estimate(data)[:, 1, 0]
    reward, following = data["next", "reward"][:, 1, 0], SumCritic()(data["next", "observation"])[:, 1, 0]
    assert following.min() > 1
    torch.testing.assert_close(target, reward + 0.5 * following * torch.tensor([0.0, 1.0]))


def test_ddpg_of_torchrl_trains_for_a_few_updates(make_env):
    torch.manual_seed(0)
    env = make_env(4, obs="coarse")
    num_inputs, num_actions = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]
    policy = nn.Sequential(nn.Linear(num_inputs, 16), nn.ReLU(), nn.Linear(16, num_actions), nn.Tanh())
    actor = TensorDictModule(policy, in_keys=["observation"], out_keys=["action"])
    critic = ValueOperator(Critic(num_inputs, num_actions), in_keys=["observation", "action"])
    loss = DDPGLoss(actor, critic, delay_actor=True, delay_value=True, gamma=None)
    loss.make_value_estimator(gamma=0.9)
    targets = SoftUpdate(loss, tau=0.1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(200), batch_size=32)
    before = [parameter.clone() for parameter in policy.parameters()]
    losses = []
    collector = Collector(
        env, actor, frames_per_batch=16, total_frames=64, init_random_frames=32, auto_register_policy_transforms=False
    )
    for data in collector:
        buffer.extend(data.reshape(-1))
        for _ in range(10):
            found = loss(buffer.sample())
            optimizer.zero_grad()
            (found["loss_value"] + found["loss_actor"]).backward()
            optimizer.step()
            targets.step()
            losses.append(found["loss_value"].item())
    assert losses[-1] < losses[0] / 2
    assert all(not torch.equal(new, old) for new, old in zip(policy.parameters(), before, strict=True))
    assert policy(env.reset()["observation"]).abs().max() <= 1


class Critic(nn.Module):
    """Value of an observation and an action."""

    def __init__(self, num_inputs, num_actions):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(num_inputs + num_actions, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, observation, action):
        return self.body(torch.cat((observation, action), dim=-1))
