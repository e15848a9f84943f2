"""The critic: what it starts as, what it can see, and that it can learn returns."""

from dataclasses import replace

import pytest
import torch

from acis_env.networks import ANGLE_BINS, FOREGROUND
from agents.models.critic import Critic, CriticConfig

LEFT, RIGHT = slice(0, 16), slice(16, 32)


@pytest.fixture
def make_critic(tiny):
    def make(max_remaining=6, **settings):
        torch.manual_seed(0)
        critic_config = CriticConfig(**{"hidden": (8, 8), **settings})
        return Critic(tiny.autoencoder.config, critic_config, max_remaining).requires_grad_(False)

    return make


@pytest.fixture
def state(begin, tiny):
    return begin(tiny, [1, 3, 6, 11])


def half(side):
    mask = torch.zeros(4, 1, 32, 32)
    mask[..., side] = 1
    return mask


def value(critic, state, mask, predicted_mask, remaining=3):
    return critic(critic.condition(state.context), mask, predicted_mask, torch.full((4,), remaining))


def test_it_starts_by_reading_the_predicted_mask_as_the_encoder_does_and_no_other(tiny, make_critic, state):
    critic, encoder = make_critic(), tiny.autoencoder.encoder
    critic.start_from(encoder)
    seen = []
    critic.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, :16]))
    predicted, mask = torch.rand(2, 4, 1, 32, 32)
    value(critic, state, mask, predicted)
    value(critic, state, torch.zeros_like(mask), predicted)
    expected = encoder.trunk(encoder.trunk.condition(state.context), predicted)
    torch.testing.assert_close(seen[0], expected)
    torch.testing.assert_close(seen[1], expected)
    assert not torch.allclose(encoder.trunk(encoder.trunk.condition(state.context), mask), expected)


def test_the_number_of_missing_instances_is_seen_by_a_critic_that_is_told_it_and_by_no_other(make_critic, state):
    masks = half(LEFT), half(RIGHT)
    for max_remaining in (6, None):
        critic = make_critic(max_remaining)
        values = [value(critic, state, *masks, remaining=n) for n in (1, 2)]
        assert torch.equal(*values) == (max_remaining is None)


def test_only_a_critic_that_is_told_the_number_of_missing_instances_needs_it(make_critic, state):
    masks = half(LEFT), half(RIGHT)
    untold = make_critic(max_remaining=None)
    assert torch.equal(untold(untold.condition(state.context), *masks), value(untold, state, *masks))
    told = make_critic(max_remaining=6)
    with pytest.raises(ValueError, match="remaining must be given to a critic with max_remaining, got None"):
        told(told.condition(state.context), *masks)


def test_missing_instances_beyond_the_largest_number_look_alike(make_critic, state):
    critic = make_critic(max_remaining=6)
    many, more, fewer = (value(critic, state, half(LEFT), half(RIGHT), remaining=n) for n in (6, 60, 5))
    assert torch.equal(many, more)
    assert not torch.equal(many, fewer)


def test_products_show_where_masks_overlap(make_critic, state):
    critic = make_critic()
    weight = critic.trunk.mask_conv.weight
    weight[:, :2] = 0  # blind for the masks themselves,
    weight[:, 3:] = 0  # and for products with foreground and angles
    nothing = value(critic, state, half(LEFT), torch.zeros(4, 1, 32, 32))
    disjoint = value(critic, state, half(LEFT), half(RIGHT))
    overlapping = value(critic, state, half(LEFT), half(LEFT))
    assert torch.equal(nothing, disjoint)
    assert not torch.allclose(nothing, overlapping)


def test_products_show_foreground_and_angles_under_the_mask(make_critic, state):
    critic = make_critic()
    critic.trunk.mask_conv.weight[:, :3] = 0
    foreground = state.context[:, FOREGROUND : FOREGROUND + 1]
    nothing, on_background, on_leaves = (
        value(critic, state, half(LEFT), mask) for mask in (0 * foreground, 1 - foreground, foreground)
    )
    assert torch.equal(nothing, on_background)
    assert not torch.allclose(nothing, on_leaves)
    assert critic.trunk.mask_conv.weight.shape[1] == 2 + 1 + 1 + ANGLE_BINS


def test_without_products_only_the_two_masks_are_seen(make_critic, state):
    critic = make_critic(products=False)
    assert critic.trunk.mask_conv.weight.shape[1] == 2
    reference = value(critic, state, half(LEFT), half(LEFT))
    assert not torch.allclose(value(critic, state, half(LEFT), half(RIGHT)), reference)
    assert not torch.allclose(value(critic, state, half(RIGHT), half(LEFT)), reference)


def test_it_can_learn_the_returns_of_a_fixed_batch(make_algorithm, actor_critic):
    algorithm = make_algorithm(replace(actor_critic, critic_learning_rate=1e-2))
    batch = algorithm.collector.collect(12, torch.Generator().manual_seed(0))
    before = algorithm.update_critic(batch)["critic/explained_variance"]
    for _ in range(150):
        losses = algorithm.update_critic(batch)
    assert before < 0.5
    assert losses["critic/explained_variance"] > 0.95


def test_a_trunk_and_head_of_its_own_have_the_widths_that_are_named(make_critic, state):
    critic = make_critic(trunk_widths=(3, 5), trunk_features=7, hidden=(6, 9, 2))
    assert [conv.out_channels for conv in critic.modules() if isinstance(conv, torch.nn.Conv2d)][-1] == 5
    steps = critic.max_remaining + 1
    shapes = [tuple(layer.weight.shape) for layer in critic.head if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(6, 7 + steps), (9, 6), (2, 9), (1, 2)]
    assert value(critic, state, half(LEFT), half(RIGHT)).shape == (4,)
