"""Networks for CPUs, whose layers follow the size of the pictures."""

import pytest
import torch

from acis_env import load_pretrained
from acis_env.autoencoder import MaskAutoencoder
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.decoder import AutoencoderConfig


@pytest.mark.parametrize(
    ("size", "coarsest"),
    [((64, 64), (4, 4)), ((96, 128), (6, 8)), ((224, 224), (7, 7)), ((256, 768), (4, 12)), ((288, 768), (9, 24))],
)
def test_compact_networks_halve_pictures_of_any_size_down_to_few_cells_and_give_it_back(size, coarsest):
    context_network = ContextNetwork(ContextConfig.compact(size))
    context = context_network.context(torch.zeros(1, 3, *size, dtype=torch.uint8))
    autoencoder = MaskAutoencoder(AutoencoderConfig.compact(size, latent_size=5))
    assert autoencoder.decoder.coarse[1:] == coarsest
    assert autoencoder.reconstruct(context, torch.ones(1, 1, *size)).shape == (1, 1, *size)
    assert autoencoder.encoder.latent_size == 5


def test_the_bundled_networks_are_compact_ones():
    config = load_pretrained("leaves-64").autoencoder.config
    assert config == AutoencoderConfig.compact((64, 64), image_mean=config.image_mean, image_std=config.image_std)
