"""Tiny networks with random weights from a fixed seed, and scenes drawn by hand, for all tests."""

import os
import signal
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many workers as cores, and a thread each
# A shell lets what it starts in the background ignore Ctrl-C, and so would whatever tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import torch

from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.datasets import Scene
from acis_env.decoder import AutoencoderConfig
from acis_env.networks import TrunkConfig
from acis_env.weights import Pretrained

BOXES = (
    [(2, 3, 12, 13), (15, 16, 30, 28)],
    [(4, 4, 28, 12), (4, 12, 16, 29), (20, 18, 30, 30)],
    [(8, 6, 25, 27)],
    [(0, 0, 14, 14), (16, 0, 32, 14), (0, 17, 13, 32), (17, 18, 31, 31)],
    [(1, 1, 9, 31), (12, 2, 20, 20), (22, 5, 31, 29)],
)


@pytest.fixture(scope="session", autouse=True)
def fewer_scenes():
    """Scenes that are only summed up, measured or tuned on: as many as there are elsewhere cost more than tiny runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("training.origin.COMPARED", "training.trainer.SCALE_SCENES", "evaluation.classical.NUM_SCENES"):
            patch.setattr(f"agents.{name}", 12)
        yield


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch):
    """The folder of this test's caches, so that none finds what another has left, or the user's own."""
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("ACIS_CACHE", str(folder))
    return folder


class HandMadeScenes(list):
    """A list of scenes, which is a data set."""

    @property
    def max_instances(self):
        return max(scene.num_instances for scene in self)


def draw_boxes(boxes, size=(32, 32), name="boxes"):
    """Instances that are rectangles (top, left, bottom, right); each has its own colour, and pixels are noisy."""
    label_map = np.zeros(size, np.int32)
    for label, (top, left, bottom, right) in enumerate(boxes, start=1):
        label_map[top:bottom, left:right] = label
    rng = np.random.default_rng(len(boxes))
    colours = np.vstack([[40, 30, 20], rng.integers(80, 220, (len(boxes), 3))])
    image = colours[label_map].transpose(2, 0, 1) + rng.integers(-20, 21, (3, *size))
    return Scene(image.astype(np.uint8), label_map, name)


def tiny_networks(size=(32, 32), seed=0, **options):
    """Untrained networks whose masks and contexts vary: default weights alone would give 0.5 everywhere."""
    options = {
        "latent_size": 4,
        "hidden": 16,
        "bottleneck_channels": 4,
        "decoder_widths": (6, 4),
        "encoder": TrunkConfig(widths=(4, 6), features=8, downsample="stride"),
        **options,
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        context_network = ContextNetwork(ContextConfig(widths=(4, 6), size=size))
        autoencoder = MaskAutoencoder(AutoencoderConfig(size=size, **options))
        context_network.body.head[-1].weight.mul_(20)
        decoder = autoencoder.decoder
        for weight in (decoder.hidden.weight, decoder.expand.weight, decoder.head.weight):
            weight.mul_(5)
        decoder.context_head.bias.sub_(3)
    context_network.requires_grad_(False)
    autoencoder.requires_grad_(False)
    return Pretrained(context_network.eval(), autoencoder.eval())


@pytest.fixture
def make_scene():
    return draw_boxes


@pytest.fixture
def make_scenes():
    return HandMadeScenes


@pytest.fixture
def scenes():
    """Five scenes of 2, 3, 1, 4 and 3 rectangles at 32x32."""
    return HandMadeScenes(draw_boxes(boxes, name=f"boxes-{i}") for i, boxes in enumerate(BOXES))


@pytest.fixture
def make_networks():
    return tiny_networks


@pytest.fixture
def pretrained():
    """Tiny networks for 32x32 and actions of length 4."""
    return tiny_networks()


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "meta device": lambda: torch.device("meta"),
}
"""What a program may have set for all of torch, as context managers."""


@pytest.fixture
def set_default_dtype():
    return default_dtype


@pytest.fixture(params=SURROUNDINGS.values(), ids=SURROUNDINGS)
def surroundings(request):
    return request.param
