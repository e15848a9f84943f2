"""Environments and training with streamed scenes are, bit for bit, those with all scenes in memory."""

import pickle
import threading

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from acis_env import SegmentationVectorEnv
from acis_env.augment import Augmentation
from acis_env.context import ContextConfig
from acis_env.datasets import FolderScenes, Leaves, PackedScenes, Scene
from acis_env.decoder import AutoencoderConfig
from acis_env.networks import TrunkConfig
from acis_env.pretraining import PretrainConfig, image_statistics, pretrain_autoencoder, pretrain_context
from acis_env.sampling import iteration_generator

SIZE = (32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of 30 pairs of 48x40, of one to four leaves."""
    folder = tmp_path_factory.mktemp("pairs")
    for scene in Leaves("val", (48, 40), 1, 4, length=30):
        Image.fromarray(scene.image.transpose(1, 2, 0)).save(folder / f"{scene.name}_rgb.png")
        Image.fromarray(scene.label_map.astype(np.uint8)).save(folder / f"{scene.name}_label.png")
    return folder


class Counted:
    """The scenes of a folder, which note whom they were decoded by."""

    is_thread_safe = True

    def __init__(self, folder):
        self.scenes, self.decoded = FolderScenes(folder), []
        self.max_instances = self.scenes.max_instances

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        self.decoded.append((index, threading.current_thread() is threading.main_thread()))
        return self.scenes[index]


def play(envs, steps=25):
    """Everything that the environment shows and says."""
    length = envs.single_action_space.shape[0]
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, envs.num_envs, length)).astype(np.float32)
    return [envs.reset(seed=4), *(envs.step(action) for action in actions)]


OPTIONS = [
    {"sampler": "random"},
    {"sampler": "shuffle", "augmentation": {"rotation": 20, "brightness": 0.2}},
    {"sampler": "sequential", "autoreset_mode": "NextStep"},
    {"sampler": "shuffle", "sequence_length": 2, "matching_noise": 0.1},
    {"sampler": "random", "context": "oracle", "max_episode_steps": 2, "stop": "agent"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_streamed_episodes_are_those_of_scenes_in_memory(folder, pretrained, assert_same, options):
    kept = SegmentationVectorEnv(3, scenes=folder, weights=pretrained, **options)
    expected = play(kept)
    for _ in range(2):  # with a cold cache and with a warm one
        envs = SegmentationVectorEnv(3, scenes=folder, weights=pretrained, memory_budget=0, **options)
        assert envs.scenes.is_streamed
        assert_same(play(envs), expected)
        envs.close()


@pytest.mark.parametrize("sampler", ["random", "shuffle", "sequential"])
def test_every_scene_but_the_first_ones_was_decoded_before_its_episode_began(folder, pretrained, sampler):
    scenes = Counted(folder)
    envs = SegmentationVectorEnv(2, scenes=scenes, weights=pretrained, memory_budget=0, sampler=sampler)
    _, infos = envs.reset(seed=1)
    for _ in range(30):
        foretold = [sampler.peek() for sampler in envs.samplers]
        asked = set(envs.scenes._store._scenes)
        assert set(foretold) <= asked
        _, _, terminated, _, infos = envs.step(np.zeros((2, 4), np.float32))
        for slot in terminated.nonzero()[:, 0].tolist():
            assert infos["scene_index"][slot] == foretold[slot]
    assert not any(is_main for _, is_main in scenes.decoded)
    assert len(scenes.decoded) == len({index for index, _ in scenes.decoded})
    envs.close()


def test_a_streaming_environment_is_pickled_and_goes_on_from_snapshots(folder, pretrained, assert_same):
    kept, envs = (
        SegmentationVectorEnv(3, scenes=folder, weights=pretrained, sampler="shuffle", memory_budget=budget)
        for budget in (2**31, 0)
    )
    assert_same(play(envs, 7), play(kept, 7))
    other = pickle.loads(pickle.dumps(envs))
    snapshot = envs.get_state()
    actions = np.random.default_rng(1).uniform(-1, 1, (12, 3, 4)).astype(np.float32)
    expected = [kept.step(action) for action in actions]
    assert other.scenes.is_streamed
    assert_same([other.step(action) for action in actions], expected)
    envs.step(actions[0])
    envs.set_state(snapshot)
    assert_same([envs.step(action) for action in actions], expected)
    for one in (other, envs):
        assert one.scenes._store._threads is not None
        one.close()
        assert one.scenes._store._threads is None


def test_single_environments_take_the_budget_and_close(folder, pretrained):
    env = gym.make("ACIS/Scenes-v0", scenes=folder, weights=pretrained, memory_budget=0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    store = env.unwrapped._slot.scenes._store
    assert store._threads is not None
    env.close()
    assert store._threads is None
    with pytest.raises(ValueError, match="memory_budget must be a number of bytes"):
        gym.make("ACIS/Scenes-v0", scenes=folder, weights=pretrained, memory_budget="much")


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.fixture
def scenes_with_empty_ones(folder):
    """Scenes of which every third has no instance, and so is not for the autoencoder."""

    class Some(list):
        is_thread_safe = True
        max_instances = 4

    found = list(FolderScenes(folder))
    return Some(
        Scene(scene.image, scene.label_map * (number % 3 > 0), scene.name) for number, scene in enumerate(found)
    )


def test_pretraining_on_streamed_scenes_gives_the_same_networks(scenes_with_empty_ones, tmp_path):
    config = PretrainConfig(
        iterations=4, batch_size=5, eval_every=2, augmentation=Augmentation(rotation=10, brightness=0.2)
    )
    trunk = TrunkConfig((4, 4), 8, "stride")
    networks, statistics = [], []
    for budget in (2**31, 0):
        train, val = (PackedScenes(scenes_with_empty_ones, SIZE, memory_budget=budget) for _ in range(2))
        assert train.is_streamed == (budget == 0)
        context = pretrain_context(train, val, ContextConfig(widths=(4, 6), size=SIZE), config, tmp_path)
        shape = AutoencoderConfig(SIZE, 3, 8, 2, (4, 4), trunk)
        networks.append((context, pretrain_autoencoder(train, val, context, shape, config, tmp_path)))
        statistics.append(image_statistics(train))
        for packed in (train, val):
            packed.close()
    for kept, streamed in zip(*networks, strict=True):
        assert same_weights(kept, streamed)
    assert statistics[0] == statistics[1]


def test_pretraining_has_the_scenes_of_the_next_batch_made_meanwhile(folder, tmp_path, monkeypatch):
    train = PackedScenes(Counted(folder), SIZE, memory_budget=0)
    expected = []
    expect = train.expect
    monkeypatch.setattr(train, "expect", lambda indices: expected.append(list(indices)) or expect(indices))
    gathered = []
    gather = train.gather
    monkeypatch.setattr(train, "gather", lambda indices: gathered.append(list(indices)) or gather(indices))
    val = PackedScenes(FolderScenes(folder, ids=["leaves-val-00000"]), SIZE)
    config = PretrainConfig(iterations=5, batch_size=4, eval_every=5)
    pretrain_context(train, val, ContextConfig(widths=(4, 6), size=SIZE), config, tmp_path)
    assert gathered[1:] == expected[:-1]
    assert gathered[0] == iteration_generator(0, 0).choice(30, 4, replace=False).tolist()
    train.close()
