"""Directions in which masks change, by decoders whose changes are known."""

import cv2
import numpy as np
import torch

from acis_env.datasets import Leaves
from agents.models.agent import Agent
from agents.watch.session import Session
from agents.watch.steering import principal_directions


class Linear:
    """Its mask is a sum of pictures, each of which belongs to a direction of the latent."""

    latent_size = 4

    def __init__(self, directions, strengths):
        self.to_pixels = torch.diag(torch.tensor(strengths)) @ directions

    def __call__(self, latent, conditioning):
        return (latent @ self.to_pixels.T)[:, None, None]


def test_directions_are_those_along_which_a_linear_decoder_changes_most_and_grows():
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    decoder = Linear(rotation, [1.0, -5.0, 3.0, 0.1])
    found = principal_directions(decoder, (), torch.randn(1, 4, generator=generator), 3)
    torch.testing.assert_close(found, torch.stack([-rotation[1], rotation[2], rotation[0]]), atol=1e-4, rtol=0)


def test_directions_are_at_right_angles_and_of_length_one(tiny):
    context = torch.rand(1, 12, 32, 32, generator=torch.Generator().manual_seed(0))
    decoder = tiny.autoencoder.frozen_decoder(refine=True)
    found = principal_directions(decoder, decoder.condition(context), torch.zeros(1, 4), 4)
    torch.testing.assert_close(found @ found.T, torch.eye(4), atol=1e-5, rtol=0)


def asked_at_its_innermost_pixel(session, leaf):
    """Dice of `leaf` with what a click there offers, 0 where that is nothing."""
    depth = cv2.distanceTransform(np.pad(leaf, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    try:
        session.ask(*map(int, np.unravel_index(depth.argmax(), depth.shape)))
    except ValueError:
        return 0.0
    mask = session.now.candidates[-1].mask >= 0.5
    return 2 * (mask & leaf).sum() / (mask.sum() + leaf.sum())


def test_a_click_into_a_leaf_offers_that_leaf():
    agent, scenes = Agent.load("leaves-64"), Leaves("test", (64, 64))
    found = []
    for scene in map(scenes.__getitem__, range(15)):
        session = Session(agent, scene.image)
        for label in range(1, scene.num_instances + 1):
            found.append(asked_at_its_innermost_pixel(session, scene.label_map == label))
    assert np.mean(found) > 0.9
    assert np.count_nonzero(found) >= 0.98 * len(found)
