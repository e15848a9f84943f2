"""Sources of episodes in plants and in larger scenes, a segmenter that knows the truth, and the rows of a table."""

import numpy as np
import pytest
import torch

from acis_env.datasets import PackedScenes, Scene
from acis_env.episode_source import EpisodeSource
from agents.evaluation import agent_segmenter, compare
from agents.models.prediction import Prediction


class ListedScenes(list):
    """A list of scenes, which is a data set."""

    @property
    def max_instances(self):
        return max(scene.num_instances for scene in self)


@pytest.fixture
def make_source(tiny):
    """A function that makes the source of episodes in a list of scenes, or in packed ones."""

    def make(scenes):
        packed = scenes if isinstance(scenes, PackedScenes) else PackedScenes(ListedScenes(scenes), (32, 32))
        return EpisodeSource(tiny.context_network, tiny.autoencoder.decoder, packed)

    return make


@pytest.fixture
def source(make_source, leaves):
    """Episodes in all of `leaves`."""
    return make_source(leaves)


@pytest.fixture
def large(make_source):
    """Episodes in two scenes of 96x64 with 2 and 3 instances in whole blocks of 3x2: shrinking loses nothing."""
    scenes = []
    for count in (2, 3):
        label_map = np.zeros((96, 64), np.int32)
        for label in range(1, count + 1):
            label_map[30 * label - 24 : 30 * label - 3, 10 : 20 + 10 * label] = label
        image = (60 * label_map[None] + np.array([10, 30, 50])[:, None, None]).astype(np.uint8)
        scenes.append(Scene(image, label_map, f"large-{count}"))
    return make_source(scenes)


@pytest.fixture
def truth():
    """A function that makes a segmenter of the true instances at the network's size, which stops after `count`."""

    def make(count):
        def segment(state):
            labels = range(1, int(state.num_instances.max()) + 1)
            masks = torch.stack([(state.label_map == label).float() for label in labels], dim=1)
            counts = torch.full((len(masks),), count)
            return Prediction(masks, counts, torch.ones(len(masks), dtype=torch.bool))

        return segment

    return make


@pytest.fixture
def rows(agent, source):
    """A function that measures `agent`, after `initialised` if that is given, beside the references."""

    def measure(initialised=None, num_pictures=8):
        segmenters = {} if initialised is None else {"initialised": agent_segmenter(initialised)}
        segmenters["agent"] = agent_segmenter(agent)
        return compare(segmenters, agent.pretrained, source, num_pictures=num_pictures)

    return measure
