"""Tiny agents: random networks for 32x32 pictures, a few drawn plants, and networks that know them by heart."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from acis_env import SegmentationVectorEnv
from acis_env.augment import Augmentation
from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.datasets import Leaves, PackedScenes
from acis_env.decoder import AutoencoderConfig
from acis_env.episode_source import EpisodeSource
from acis_env.networks import TrunkConfig
from acis_env.pretraining import PretrainConfig, pretrain_autoencoder, pretrain_context
from acis_env.weights import Pretrained, save_weights
from agents.algorithms import ActorCriticConfig, BaselineConfig, Learner, LearnerConfig, Progress
from agents.algorithms.rollout import split_episodes
from agents.environment import EnvConfig
from agents.evaluation import policy_files
from agents.models.actor import ActorConfig
from agents.models.agent import Agent
from agents.models.critic import CriticConfig
from agents.training.config import TrainConfig

SIZE = (32, 32)
TRUNK = TrunkConfig(widths=(4, 6, 8), features=16, downsample="stride")
AUTOENCODER = AutoencoderConfig(
    size=SIZE, latent_size=4, hidden=16, bottleneck_channels=6, decoder_widths=(6, 6, 4), encoder=TRUNK
)
LEARNER = LearnerConfig(actor=ActorConfig(memory_size=6, layers=2, hidden=8, termination_hidden=4))
CRITIC = CriticConfig(hidden=(8, 8))
ACTOR_CRITIC = ActorCriticConfig(
    critic=CRITIC, max_remaining=6, critic_updates=2, critic_batch_size=8, critic_warmup=0, replay_size=2, decay=()
)
BASELINE = BaselineConfig(decay=())
AS_DRAWN = Augmentation(flip=False, quarter_turns=False)
CONFIG = TrainConfig(
    env=EnvConfig(
        kwargs={"scene_options": {"max_leaves": 3, "length": 6}, "sampler": "shuffle"},
        val_kwargs={"scene_options": {"max_leaves": 3, "length": 3}},
    ),
    learner=LEARNER,
    batch_size=4,
    max_steps=6,
    eval_every=1000,
    eval_scenes=3,
    checkpoint_every=1000,
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Sums have one order, so equal runs give equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _plants_drawn_once():
    """A plant depends on its arguments alone, and many tests want the same ones; to draw them takes long."""
    draw, drawn = Leaves.__getitem__, {}

    def draw_once(self, index):
        key = (*vars(self).values(), index)
        if key not in drawn:
            drawn[key] = draw(self, index)
        scene = drawn[key]
        return replace(scene, image=scene.image.copy(), label_map=scene.label_map.copy())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Leaves, "__getitem__", draw_once)
        yield


def random_networks(size=SIZE, seed=0):
    """Untrained networks; the gains make masks depend on code, place and context."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        context_network = ContextNetwork(ContextConfig(widths=(4, 6), size=size))
        autoencoder = MaskAutoencoder(replace(AUTOENCODER, size=size))
        context_network.body.head[-1].weight.mul_(10)
        decoder, encoder = autoencoder.decoder, autoencoder.encoder
        for part in (decoder.hidden, decoder.expand, *decoder.convs, decoder.head, encoder.trunk.linear, encoder.head):
            part.weight.mul_(3)
        decoder.head.weight.mul_(8)
        decoder.context_head.bias.sub_(1.5)
        encoder.head.weight.mul_(3)
        encoder.trunk.mask_conv.weight.mul_(4)
    context_network.requires_grad_(False)
    autoencoder.requires_grad_(False)
    return Pretrained(context_network.eval(), autoencoder.eval())


@pytest.fixture(scope="session")
def make_tiny():
    """A function of size and seed."""
    return random_networks


@pytest.fixture
def tiny():
    """Random networks for 32x32 pictures and codes of length 4."""
    return random_networks()


@pytest.fixture
def tiny_weights(tiny, tmp_path):
    """Folder with the weights of `tiny`."""
    save_weights(tmp_path / "weights", tiny.context_network)
    save_weights(tmp_path / "weights", tiny.autoencoder)
    return tmp_path / "weights"


@pytest.fixture(scope="session")
def config():
    """Settings for `tiny`: small networks and batches, no stages."""
    return CONFIG


@pytest.fixture(scope="session")
def leaves():
    """Twelve plants of 1 to 4 leaves, packed at 32x32."""
    scenes = PackedScenes(Leaves("train", SIZE, min_leaves=1, max_leaves=4, length=12, seed=1), SIZE)
    scenes.gather(range(12))
    return scenes


@pytest.fixture
def begin(leaves):
    """A function that begins episodes in scenes of `leaves`, longest first, with the oracle's context by default."""

    def begin_episodes(pretrained, indices=range(12), oracle=True, scenes=leaves):
        context = "oracle" if oracle else pretrained.context_network
        source = EpisodeSource(context, pretrained.autoencoder.decoder, scenes)
        (state,) = split_episodes(source.begin(list(indices))[0])
        return state

    return begin_episodes


@pytest.fixture
def make_env(tiny, leaves):
    """A function of options that makes an environment with the scenes of `leaves`, ready for a learner."""

    def make(num_envs=4, pretrained=tiny, **options):
        settings = {"scenes": leaves.dataset, "context": "oracle", "autoreset_mode": "Disabled", **options}
        env = SegmentationVectorEnv(num_envs, weights=pretrained, **settings)
        env.reset(seed=0)
        return env

    return make


@pytest.fixture
def make_algorithm(make_env):
    """A function of a configuration. The policy's narrow noise and its memory both matter.

    Further arguments are an environment, the learner's settings that differ, and the networks.
    """

    def make(algorithm_config, env=None, pretrained=None, **settings):
        env = env or make_env(**({} if pretrained is None else {"pretrained": pretrained}))
        torch.manual_seed(0)
        learner = Learner(env, replace(LEARNER, **settings))
        with torch.no_grad():
            nn.init.normal_(learner.actor.head[-1].weight, std=0.3)
            learner.actor.head[-1].bias[learner.core.decoder.latent_size :] = -2.0
        return algorithm_config.make(learner)

    return make


@pytest.fixture
def baseline():
    """The baseline's settings, with a constant learning rate."""
    return BASELINE


@pytest.fixture
def actor_critic():
    """Settings of Algorithm 1 for tiny networks, without warm-up and with a constant learning rate."""
    return ACTOR_CRITIC


@pytest.fixture
def at():
    """A function of a seed: the progress of an iteration whose random numbers that seed decides."""
    return lambda seed=0, **fields: Progress(
        **{"iteration": 0, "iterations": 1, "generator": torch.Generator().manual_seed(seed), **fields}
    )


@pytest.fixture
def agent(make_algorithm, baseline, tiny):
    """An untrained agent with a lively actor."""
    return Agent(make_algorithm(baseline).learner.actor.requires_grad_(False), tiny, max_steps=6)


@pytest.fixture
def save_program():
    """The function of that name, where this torch saves programs without pickles."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8):
        pytest.skip("torch 2.7 and earlier save programs as pickles")
    return policy_files.save_program


@pytest.fixture
def stop_after():
    """A function that makes the termination unit of `actor` stop scene `b` after `counts[b]` masks."""

    class Script(nn.Module):
        def __init__(self, counts):
            super().__init__()
            self.counts, self.t = torch.as_tensor(counts), 0

        def forward(self, features):
            if len(features) < len(self.counts):  # those that have stopped may be left out
                self.counts = self.counts[self.counts >= self.t]
            self.t += 1
            return torch.where(self.counts >= self.t, 1.0, -1.0)[: len(features), None]

    def script(actor, counts):
        actor.termination = Script(counts)

    return script


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """Networks that were trained on three plants until they know them: `pretrained`, `scenes`."""
    folder = tmp_path_factory.mktemp("learned")
    scenes = PackedScenes(Leaves("train", SIZE, min_leaves=2, max_leaves=3, length=3, seed=3), SIZE)
    with torch.random.fork_rng(devices=[]):
        how = PretrainConfig(iterations=70, batch_size=3, eval_every=1000, augmentation=AS_DRAWN)
        context_config = ContextConfig(widths=(8, 12), size=SIZE)
        context_network = pretrain_context(scenes, scenes, context_config, replace(how, learning_rate=2e-2), folder)
        widths = replace(AUTOENCODER, decoder_widths=(12, 8, 8), encoder=replace(TRUNK, features=32))
        how = replace(how, iterations=300, learning_rate=4e-3, kl_weight=0.1, batch_size=6)
        autoencoder = pretrain_autoencoder(scenes, scenes, context_network, widths, how, folder)
    return SimpleNamespace(pretrained=Pretrained(context_network, autoencoder), scenes=scenes)
