"""Foreground and angles: the oracle on scenes checked by hand, and the networks that predict them."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from acis_env.context import ContextConfig, ContextNetwork, context_loss, oracle_context, quantise_angles


def bins_of(label_map, max_instances=4):
    """The bin of every instance pixel of one label map, -1 on background."""
    one_hot = quantise_angles(torch.as_tensor(label_map)[None], max_instances)[0]
    return torch.where(one_hot.sum(0) > 0, one_hot.argmax(0), -1).tolist()


def slow_bins(label_map):
    """The bins by the formula, one pixel after the other."""
    bins = np.full(label_map.shape, -1)
    for row, column in np.argwhere(label_map > 0):
        centre_row, centre_column = np.argwhere(label_map == label_map[row, column]).mean(0)
        angle = math.atan2(row - centre_row, column - centre_column) + math.pi / 8
        bins[row, column] = math.floor((angle + math.pi) * 8 / (2 * math.pi)) % 8
    return bins


def test_the_eight_directions_around_a_centroid_fall_into_the_eight_bins():
    # Rows count downwards. The centroid is the middle pixel, itself at angle 0 like the pixel to its right:
    # (0 + pi/8 + pi) * 4/pi = 4.5, so bin 4. Each 45 degrees clockwise adds 1: lower right 5, below 6, lower
    # left 7; to the left (pi + pi/8 + pi) * 4/pi = 8.5, so 8 mod 8 = 0; upper left 1, above 2, upper right 3.
    label_map = np.ones((3, 3), np.int64)
    assert bins_of(label_map) == [[1, 2, 3], [0, 4, 4], [7, 6, 5]]


def test_centroids_of_large_instances_keep_their_digits():
    label_map = torch.zeros(512, 1024, dtype=torch.int64)
    label_map[:, 1:] = 1
    rows, columns = np.mgrid[0:512, 1:1024]
    angle = np.arctan2(rows - rows.mean(), columns - columns.mean()) + math.pi / 8
    expected = np.floor((angle + math.pi) * 8 / (2 * math.pi)).astype(int) % 8
    found = quantise_angles(label_map[None], 1)[0].argmax(0)[:, 1:].numpy()
    assert (found != expected).sum() < 20  # pixels on the border of two bins, in float32


def test_each_instance_has_its_own_centroid():
    # Two bars: the centroid of 1 is its middle pixel, that of 2 lies between its pixels.
    label_map = np.array([[1, 1, 1, 0, 2], [0, 0, 0, 0, 2]])
    assert bins_of(label_map) == [[0, 4, 4, -1, 2], [-1, -1, -1, -1, 6]]


def test_bins_are_an_eighth_of_a_turn_wide_around_their_directions():
    # From the centroid (3, 3) of a 7x7 square: one row down and three columns right is 18 degrees, still "right";
    # two down and three right is 34 degrees, "lower right". The border is at 22.5 degrees.
    bins = bins_of(np.ones((7, 7), np.int64))
    assert (bins[3][6], bins[4][6], bins[5][6]) == (4, 4, 5)
    assert (bins[2][6], bins[1][6]) == (4, 3)


@pytest.mark.parametrize("seed", range(4))
def test_bins_follow_the_formula_at_every_pixel(seed):
    label_map = np.random.default_rng(seed).integers(0, 5, (11, 8))
    np.testing.assert_array_equal(bins_of(label_map), slow_bins(label_map))


def test_angles_are_one_hot_on_instances_and_zero_on_background():
    label_maps = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 9, 8)))
    angles = quantise_angles(label_maps, 6)
    assert angles.shape == (3, 8, 9, 8)
    assert angles.dtype == torch.float32
    assert set(angles.unique().tolist()) == {0, 1}
    assert torch.equal(angles.sum(1), (label_maps > 0).float())


def test_the_oracle_holds_image_foreground_and_angles_in_this_order(scenes):
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    label_maps = torch.from_numpy(np.stack([scene.label_map for scene in scenes])).long()
    context = oracle_context(images, label_maps, 4)
    assert context.shape == (5, 12, 32, 32)
    torch.testing.assert_close(context[:, :3] * 255, images.float())
    assert torch.equal(context[:, 3], (label_maps > 0).float())
    assert torch.equal(context[:, 4:], quantise_angles(label_maps, 4))


def test_a_scene_has_the_same_oracle_alone_and_in_a_batch(scenes):
    label_maps = torch.from_numpy(np.stack([scene.label_map for scene in scenes])).long()
    together = quantise_angles(label_maps, 4)
    for scene in range(5):
        assert torch.equal(quantise_angles(label_maps[scene : scene + 1], 9)[0], together[scene])


def test_a_predicted_context_lies_in_the_unit_interval_and_angles_fade_with_the_foreground(pretrained, scenes):
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    context = pretrained.context_network.context(images)
    foreground_logit, angle_logits = pretrained.context_network(images)
    assert context.shape == (5, 12, 32, 32)
    assert not context.requires_grad
    torch.testing.assert_close(context[:, :3] * 255, images.float())
    torch.testing.assert_close(context[:, 3:4], torch.sigmoid(foreground_logit))
    torch.testing.assert_close(context[:, 4:].sum(1), context[:, 3])
    torch.testing.assert_close(context[:, 4:], torch.sigmoid(foreground_logit) * F.softmax(angle_logits, dim=1))


def test_a_scene_has_the_same_predicted_context_alone_and_in_a_batch(pretrained, scenes):
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    together = pretrained.context_network.context(images)
    alone = torch.cat([pretrained.context_network.context(image[None]) for image in images])
    torch.testing.assert_close(together, alone)


def test_the_network_normalises_images_by_the_statistics_in_its_configuration():
    torch.manual_seed(0)
    config = ContextConfig(widths=(4, 6), size=(32, 32), image_mean=(0.2, 0.4, 0.6), image_std=(0.1, 0.2, 0.3))
    network = ContextNetwork(config).eval()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.image_mean, config.image_std))
    expected = network.body((images.float() / 255 - mean) / std)
    torch.testing.assert_close(torch.cat(network(images), dim=1), expected)


def test_the_loss_of_one_scene_worked_out_pixel_by_pixel():
    label_maps = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (2, 5, 6)))
    rng = torch.Generator().manual_seed(0)
    foreground_logit, angle_logits = torch.randn(2, 1, 5, 6, generator=rng), torch.randn(2, 8, 5, 6, generator=rng)
    bins = np.stack([slow_bins(label_map) for label_map in label_maps.numpy()])
    foreground_terms, angle_terms = [], []
    for scene, row, column in np.ndindex(bins.shape):
        probability = torch.sigmoid(foreground_logit[scene, 0, row, column])
        is_instance = bins[scene, row, column] >= 0
        foreground_terms.append(-torch.log(probability if is_instance else 1 - probability))
        if is_instance:
            likelihoods = F.softmax(angle_logits[scene, :, row, column], dim=0)
            angle_terms.append(-torch.log(likelihoods[bins[scene, row, column]]))
    expected = torch.stack(foreground_terms).mean() + torch.stack(angle_terms).mean()
    torch.testing.assert_close(context_loss((foreground_logit, angle_logits), label_maps, 2), expected)


def test_the_loss_of_a_picture_without_instances_is_finite():
    logits = torch.zeros(1, 1, 4, 4), torch.zeros(1, 8, 4, 4)
    loss = context_loss(logits, torch.zeros(1, 4, 4, dtype=torch.int64), 3)
    assert float(loss) == pytest.approx(math.log(2))


def test_training_on_one_scene_learns_its_context(scenes):
    torch.manual_seed(0)
    network = ContextNetwork(ContextConfig(widths=(8, 12, 16), size=(32, 32)))
    images = torch.from_numpy(scenes[1].image)[None]
    label_maps = torch.from_numpy(scenes[1].label_map)[None].long()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(100):
        loss = context_loss(network(images), label_maps, 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    foreground_logit, angle_logits = network(images)
    assert ((foreground_logit[:, 0] > 0) == (label_maps > 0)).float().mean() > 0.97
    hits = angle_logits.argmax(1) == quantise_angles(label_maps, 3).argmax(1)
    assert hits[label_maps > 0].float().mean() > 0.9


def test_the_fcn8s_of_the_paper_has_its_widths_and_full_resolution():
    # On the meta device: 130 million weights without memory or arithmetic.
    with torch.device("meta"):
        network = ContextNetwork(ContextConfig(architecture="fcn8s", size=(64, 96)))
        images = torch.empty(2, 3, 64, 96, dtype=torch.uint8)
        foreground, angles = network(images)
    assert foreground.shape == (2, 1, 64, 96)
    assert angles.shape == (2, 8, 64, 96)
    convolutions = [module for module in network.body.modules() if isinstance(module, torch.nn.Conv2d)]
    widths = [convolution.out_channels for convolution in convolutions]
    assert widths == [64, 64, 128, 256, 256, 256, *[512] * 6, 4096, 4096, 9, 9, 9]


def test_a_size_that_is_no_multiple_of_32_is_refused():
    with pytest.raises(ValueError, match=r"two positive multiples of 32, got \(32, 40\)"):
        ContextNetwork(ContextConfig(size=(32, 40)))


@pytest.mark.parametrize(("levels", "size"), [(6, (32, 32)), (6, (96, 96)), (7, (64, 128))])
def test_a_u_net_too_deep_for_its_size_is_refused(levels, size):
    with pytest.raises(ValueError, match=rf"{levels} widths of a U-Net need sides divisible by {2**levels}, got"):
        ContextConfig(widths=(4,) * levels, size=size)
    assert ContextConfig("fcn8s", (4,) * levels, size).size == size
