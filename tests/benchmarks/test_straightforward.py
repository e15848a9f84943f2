"""The implementation that ours is compared with computes the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper

from acis_env.reward import score
from acis_env.vector_env import SegmentationVectorEnv
from agents.algorithms import BaselineConfig, LearnerConfig
from agents.models.actor import Actor, ActorConfig
from agents.models.agent import Agent
from agents.training.config import Stage, TrainConfig
from agents.training.trainer import Trainer
from benchmarks import straightforward
from benchmarks.learning import iterate, naive_iterate
from benchmarks.parts import action_gradient
from benchmarks.straightforward import NaiveDecoder, NaiveEnv, NaiveLearner, naive_actor, segment

TINY_ACTOR = ActorConfig(memory_size=6, layers=2, hidden=8, termination_hidden=4)


@pytest.fixture
def make_naive_env(scenes, pretrained):
    """A function that makes one straightforward environment on the five scenes."""
    decoder = NaiveDecoder(pretrained.autoencoder.decoder)
    return lambda: NaiveEnv(scenes, pretrained, decoder)


@pytest.fixture
def contexts(scenes, pretrained):
    """Predicted contexts of the five scenes, `[5, 12, 32, 32]`."""
    images = torch.stack([torch.from_numpy(scene.image) for scene in scenes])
    return pretrained.context_network.context(images)


@pytest.mark.parametrize("state_pyramid", [True, False])
def test_masks_are_those_of_our_decoder(make_networks, contexts, state_pyramid):
    ours = make_networks(state_pyramid=state_pyramid).autoencoder.decoder
    latent = torch.randn(5, 4)
    masks = NaiveDecoder(ours)(latent, contexts)
    assert masks.shape == (5, 1, 32, 32)
    assert masks.std() > 0.05
    torch.testing.assert_close(masks, ours(latent, ours.condition(contexts)), atol=1e-4, rtol=0)


def test_the_gradient_of_the_action_is_that_of_our_decoder(pretrained, contexts):
    ours = pretrained.autoencoder.decoder
    naive, latent, conditioning = NaiveDecoder(ours), torch.randn(5, 4), ours.condition(contexts)
    expected = action_gradient(lambda x: ours(x, conditioning), latent)
    assert expected.abs().min() > 0
    torch.testing.assert_close(
        action_gradient(lambda x: naive(x, contexts), latent), expected, rtol=1e-4, atol=1e-4 * float(expected.norm())
    )


def test_dense_scores_are_ours_and_zero_against_padding(scenes):
    label_maps = torch.stack([torch.from_numpy(scene.label_map).long() for scene in scenes])
    targets = straightforward.dense_masks(label_maps, 6)
    masks = torch.rand(5, 32, 32)
    found = straightforward.dense_scores(masks, targets)
    torch.testing.assert_close(found, score(masks, label_maps, targets.sum((-2, -1))))
    assert (found[2, 1:] == 0).all()
    assert found[2, 0] > 0


def test_whole_episodes_are_ours(scenes, pretrained, make_naive_env):
    ours = SegmentationVectorEnv(1, scenes=scenes, weights=pretrained, autoreset_mode="Disabled")
    naive = make_naive_env()
    rng = np.random.default_rng(0)
    for index, scene in enumerate(scenes):
        options = {"scene_index": index}
        (expected, _), (observation, _) = ours.reset(options=options), naive.reset(options=options)
        assert_same_observation(observation, expected)
        for step in range(1, scene.num_instances + 1):
            action = rng.uniform(-1, 1, 4).astype(np.float32)
            expected, rewards, terminated, _, infos = ours.step(action[None])
            observation, reward, is_over, _, info = naive.step(action)
            assert_same_observation(observation, expected)
            assert reward == pytest.approx(float(rewards), abs=1e-4)
            assert bool(terminated) == is_over == (step == scene.num_instances)
        assert info["potential"] > 0.05
        assert info["potential"] == pytest.approx(float(infos["potential"]), abs=1e-4)
        assert info["sbd"] == pytest.approx(float(infos["sbd"]), abs=1e-4)


def test_a_vector_of_them_shows_the_scenes_that_our_environment_shows(scenes, pretrained, make_naive_env):
    ours = SegmentationVectorEnv(3, scenes=scenes, weights=pretrained)
    naive = SyncVectorEnv([make_naive_env] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    (expected, _), (observations, _) = ours.reset(seed=7), naive.reset(seed=7)
    num_ended = 0
    for _ in range(8):
        for name in expected:
            assert_close_planes(observations[name], expected[name])
        actions = np.random.default_rng(1).uniform(-1, 1, (3, 4)).astype(np.float32)
        expected, rewards, terminated, _, _ = ours.step(actions)
        observations, naive_rewards, naive_terminated, _, _ = naive.step(actions)
        np.testing.assert_allclose(naive_rewards, rewards.numpy(), atol=1e-4)
        np.testing.assert_array_equal(naive_terminated, terminated.numpy())
        num_ended += terminated.sum()
    assert num_ended > 3


def test_scenes_of_another_size_are_refused(scenes, make_networks):
    larger = make_networks(size=(64, 64))
    with pytest.raises(ValueError, match=r"scenes must be \(64, 64\), got \(32, 32\) for boxes-0"):
        NaiveEnv(scenes, larger, NaiveDecoder(larger.autoencoder.decoder))


def test_it_is_a_valid_gymnasium_environment(make_naive_env):
    check_env(make_naive_env(), skip_render_check=True)


@pytest.mark.parametrize("downsample", ["pool", "stride"])
def test_the_policy_is_that_of_our_actor(make_networks, contexts, downsample):
    config = make_networks().autoencoder.config
    actor = Actor(replace(config, encoder=replace(config.encoder, downsample=downsample)), TINY_ACTOR)
    naive = naive_actor(actor)
    mask, memory = torch.rand(5, 1, 32, 32), torch.randn(5, 4, 6)
    features = naive.trunk(contexts, mask)
    torch.testing.assert_close(features, actor.trunk(actor.trunk.condition(contexts), mask), atol=1e-4, rtol=1e-4)
    assert features.std() > 0.001
    expected = actor(actor.condition(contexts), mask, memory)
    for found, of_ours in zip(naive(naive.condition(contexts), mask, memory), expected, strict=True):
        torch.testing.assert_close(found, of_ours, atol=1e-4, rtol=1e-4)


class AllScenes(VectorWrapper):
    """Shows as many scenes as there are slots, one in each."""

    def reset(self, *, seed=None, options=None):
        return self.env.reset(seed=seed, options={**(options or {}), "scene_index": np.arange(self.num_envs)})


def test_an_iteration_of_training_follows_the_gradients_that_ours_follows(scenes, pretrained, tmp_path):
    main = Stage("main", BaselineConfig(kl_weight=1e-2, clip_norm=0.05), 1)
    config = TrainConfig(
        stages=(main,), batch_size=5, learner=LearnerConfig(TINY_ACTOR, termination_updates=2), eval_scenes=1
    )
    env = SegmentationVectorEnv(5, scenes=scenes, weights=pretrained, autoreset_mode="Disabled")
    trainer = Trainer(config, tmp_path, AllScenes(env), env)
    learner = NaiveLearner(trainer.learner.actor, pretrained.autoencoder.decoder, config)
    expected = {}

    def keep_gradients(*_):
        grads = {name: p.grad for name, p in trainer.learner.actor.named_parameters() if p.grad is not None}
        expected.update({name: grad.clone() for name, grad in grads.items()})

    for optimizer in (trainer.learner.actor_optimizer, trainer.learner.termination_optimizer):
        optimizer.register_step_pre_hook(keep_gradients)
    naive_iterate(trainer, learner)()
    iterate(trainer)()
    found = dict(learner.actor.named_parameters())
    for name in ("head.2.weight", "skip.weight", "termination.0.weight", "trunk.linear.weight"):
        # Their gradients: Adam takes steps of one length, also along what is nothing but rounding. That is up to 0.004
        # of the norm here, on processors without AVX-512; the KL term, a hundredth of the loss, is 0.02 to 0.03 of it.
        assert expected[name].norm() > 1e-5
        assert (found[name].grad - expected[name]).norm() < 0.01 * expected[name].norm()


def test_images_are_segmented_as_by_our_agent(scenes, pretrained, contexts):
    actor = Actor(pretrained.autoencoder.config, TINY_ACTOR).requires_grad_(False)
    torch.nn.init.constant_(actor.termination[-1].bias, 100.0)
    expected = Agent(actor, pretrained, max_steps=3).segment(scenes[0].image).label_map
    decoder = NaiveDecoder(pretrained.autoencoder.decoder)
    found = segment(naive_actor(actor), decoder, contexts[:1], 3)
    assert (found == expected).mean() > 0.99


def assert_same_observation(observation, expected):
    assert observation.keys() == expected.keys()
    for name, planes in observation.items():
        assert_close_planes(planes, expected[name][0])


def assert_close_planes(planes, expected):
    assert planes.dtype == np.uint8
    difference = planes.astype(int) - expected.numpy().astype(int)
    assert abs(difference).max() <= 1  # rounding may fall to either side
    assert (difference != 0).mean() < 0.01
