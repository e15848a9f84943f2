"""Scenes without instances, alone and among others: an episode in them ends with its first step and earns nothing."""

import numpy as np
import pytest
import torch

from acis_env import SegmentationEnv
from acis_env.datasets import PackedScenes
from acis_env.decoder import AutoencoderConfig
from acis_env.networks import TrunkConfig
from acis_env.pretraining import PretrainConfig, evaluate_autoencoder, evaluate_context, pretrain_autoencoder

AUTOENCODER = AutoencoderConfig((32, 32), 3, 8, 2, (4, 4), TrunkConfig((4, 4), 8, "stride"))
OPTIONS = [
    {},
    {"reward": "greedy"},
    {"reward": "sbd"},
    {"sequence_length": 1},
    {"sequence_length": 1, "prefill": "random"},
    {"matching_noise": 0.1},
    {"context": "oracle"},
    {"augmentation": {"rotation": 10}},
    {"render_mode": "rgb_array"},
]


@pytest.fixture(params=["mixed", "empty"])
def data(request, scenes, make_scenes, make_scene):
    """An empty scene, and beside it one of two instances or another empty one."""
    return make_scenes([make_scene([], name="nothing"), scenes[0] if request.param == "mixed" else make_scene([])])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
def test_an_episode_without_instances_ends_with_its_first_step(make_vec, data, random_actions, options, mode):
    env = make_vec(2, scenes=data, autoreset_mode=mode, **options)
    _, infos = env.reset(seed=0, options={"scene_index": 0})
    assert infos["num_instances"].tolist() == [0, 0]
    _, rewards, terminated, truncated, infos = env.step(random_actions(1, 2)[0])
    assert rewards.tolist() == [0, 0]
    assert terminated.all()
    assert not truncated.any()
    final = infos["final_info"] if mode == "SameStep" else infos
    assert final["sbd"].tolist() == final["mucov"].tolist() == [0, 0]
    assert torch.equal(final["dic"], final["avg_fp"])  # whatever was found there is not there
    if mode != "Disabled":
        for actions in random_actions(5, 2):
            assert env.step(actions)[1].isfinite().all()


def test_an_agent_that_ends_its_episodes_may_say_at_once_that_there_is_nothing(make_vec, data):
    env = make_vec(1, scenes=data, stop="agent", count_penalty=0.5)
    env.reset(options={"scene_index": 0})
    done = np.array([[0, 0, 0, 0, 1]], np.float32)
    _, rewards, terminated, _, infos = env.step(done)
    assert (rewards.tolist(), terminated.tolist()) == ([0], [True])
    assert infos["final_info"]["is_success"].tolist() == [True]
    env.reset(options={"scene_index": 0})
    assert env.step(-done)[1].tolist() == [-0.5]


def test_a_single_environment_of_an_empty_scene_ends_likewise(pretrained, data):
    env = SegmentationEnv(scenes=data, weights=pretrained)
    env.reset(options={"scene_index": 0})
    assert env.step(np.zeros(4, np.float32))[1:3] == (0.0, True)


def test_the_autoencoder_learns_from_the_scenes_with_instances_alone(scenes, make_scenes, make_scene, tmp_path):
    """Empty scenes among others change which is drawn, so all but one are empty here, and that one is all there is."""
    config = PretrainConfig(iterations=3, batch_size=2, eval_every=3)
    only = make_scenes([scenes[0]])
    among = make_scenes([make_scene([]), scenes[0], make_scene([], name="other")])
    networks = []
    for data in (only, among):
        packed = PackedScenes(data, (32, 32))
        context = _BlindContext()
        networks.append(pretrain_autoencoder(packed, packed, context, AUTOENCODER, config, tmp_path))
    for first, second in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(first, second)


def test_there_is_no_learning_of_masks_without_any(make_scenes, make_scene, tmp_path):
    packed = PackedScenes(make_scenes([make_scene([])] * 2), (32, 32))
    with pytest.raises(ValueError, match="train must have a scene with an instance to learn masks from, got 2 without"):
        pretrain_autoencoder(packed, packed, _BlindContext(), AUTOENCODER, PretrainConfig(), tmp_path)


def test_pretrained_networks_are_measured_where_there_is_something(pretrained, scenes, make_scenes, make_scene):
    parts = pretrained.autoencoder, pretrained.context_network
    lists = ([scenes[0]], [make_scene([]), scenes[0]], [make_scene([])])
    one, mixed, empty = (PackedScenes(make_scenes(part), (32, 32)) for part in lists)
    assert evaluate_autoencoder(*parts, mixed) == pytest.approx(evaluate_autoencoder(*parts, one))
    assert set(evaluate_autoencoder(*parts, empty).values()) == {0.0}
    assert all(np.isfinite(value) for value in evaluate_context(pretrained.context_network, empty).values())


class _BlindContext(torch.nn.Module):
    """Sees nothing in any picture."""

    def context(self, images):
        return images.new_zeros(len(images), 12, *images.shape[2:], dtype=torch.float32)
