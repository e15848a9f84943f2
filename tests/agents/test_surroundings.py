"""Whatever a program has set for all of torch, agents are loaded, trained and used as without it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from acis_env.datasets import Leaves, PackedScenes
from acis_env.pretraining import PretrainConfig, pretrain_autoencoder, pretrain_context
from agents.models.agent import Agent
from agents.training.config import Stage
from agents.training.trainer import Trainer

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert not tensor.is_inference()
        assert torch.equal(tensor, other[name]), name


def test_an_agent_loaded_and_used_there_segments_the_same(agent, tmp_path, surroundings):
    agent.actor.termination[-1].bias.data.fill_(100.0)  # it never stops by itself
    agent.save(tmp_path / "agent.pt")
    expected = Agent.load(tmp_path).segment(IMAGE, soft=True)
    assert len(expected.masks) == 6
    with surroundings():
        loaded = Agent.load(tmp_path)
        found = loaded.segment(IMAGE, soft=True)
    for result in (found, loaded.segment(IMAGE, soft=True)):
        assert np.array_equal(result.masks, expected.masks)
        assert result.masks.dtype == np.float32


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, lambda image: image[..., ::-1]])
def test_a_picture_that_runs_backwards_is_segmented_as_its_copy(agent, turn):
    assert np.array_equal(agent.segment(turn(IMAGE)).masks, agent.segment(turn(IMAGE).copy()).masks)


@pytest.mark.parametrize("kind", ["dict", "stacked"])
def test_observations_that_run_backwards_are_acted_on_as_their_copies(agent, kind):
    planes = np.random.default_rng(0).integers(0, 256, (2, 13, *agent.pretrained.size), dtype=np.uint8)[:, :, ::-1]
    parts = dict(zip(("image", "mask", "foreground", "angles"), np.split(planes, [3, 4, 5], axis=1), strict=True))
    given = parts if kind == "dict" else planes
    copies = {name: part.copy() for name, part in parts.items()} if kind == "dict" else planes.copy()
    starts = np.array([True, False])[::-1]
    action, _ = agent.predict(given, episode_start=starts)
    assert np.array_equal(action, agent.predict(copies, episode_start=starts.copy())[0])


def test_an_agent_trained_there_is_the_same_to_the_bit(
    config, tiny_weights, baseline, actor_critic, tmp_path, surroundings
):
    stages = (Stage("init", baseline, 1, sequence_length=1), Stage("main", actor_critic, 2))
    config = replace(config, stages=stages, env=config.env.having(weights=str(tiny_weights)))
    expected = Trainer(config, tmp_path / "one").run()
    with surroundings():
        trained = Trainer(config, tmp_path / "other").run()
    assert_same(trained.actor.state_dict(), expected.actor.state_dict())


@pytest.mark.parametrize("network", ["context", "autoencoder"])
def test_networks_pretrained_there_are_the_same_to_the_bit(network, tiny, tmp_path, surroundings):
    def train(folder):
        leaves = PackedScenes(Leaves("train", (32, 32), max_leaves=3, length=4), (32, 32))
        settings = PretrainConfig(iterations=2, batch_size=2)
        if network == "context":
            trained = pretrain_context(leaves, leaves, tiny.context_network.config, settings, tmp_path / folder)
        else:
            configs = tiny.context_network, tiny.autoencoder.config, settings
            trained = pretrain_autoencoder(leaves, leaves, *configs, tmp_path / folder)
        return trained.state_dict()

    expected = train("one")
    with surroundings():
        assert_same(train("other"), expected)
