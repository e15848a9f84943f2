"""The actor: what it starts as, what it remembers, and what its termination unit may not do."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from acis_env.networks import FOREGROUND
from agents.models.actor import Actor


@pytest.fixture
def state(begin, tiny):
    """Seven plants of several leaves, with the oracle's context."""
    return begin(tiny, [1, 3, 6, 11, 2, 9, 0])


@pytest.fixture
def actor(make_algorithm, baseline):
    return make_algorithm(baseline).learner.actor


@pytest.fixture
def fresh_actor(tiny, config):
    """As it is built, without a lively head."""
    torch.manual_seed(0)
    return Actor(tiny.autoencoder.config, config.learner.actor)


def act(actor, state, mask, memory=None):
    memory = actor.initial_memory(len(mask)) if memory is None else memory
    with torch.no_grad():
        return actor(actor.condition(state.context), mask, memory)


@pytest.mark.parametrize("label", [1, 2])
def test_it_starts_by_encoding_the_one_missing_instance_as_the_autoencoder_would(tiny, fresh_actor, state, label):
    missing = (state.label_map == label).float()[:, None]
    everything_else = (state.label_map > 0).float()[:, None] - missing
    encoder = tiny.autoencoder.encoder
    with torch.no_grad():
        mean, log_variance = encoder(state.context, missing)
    before = act(fresh_actor, state, everything_else)
    assert not torch.allclose(before.mean, mean, atol=0.05)
    fresh_actor.start_from(encoder)
    after = act(fresh_actor, state, everything_else)
    torch.testing.assert_close(after.mean, mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.log_variance, log_variance.clamp(-10, 0), rtol=1e-4, atol=1e-4)


def test_starting_from_the_encoder_leaves_the_encoder_as_it_was(tiny, fresh_actor):
    before = {name: value.clone() for name, value in tiny.autoencoder.state_dict().items()}
    fresh_actor.start_from(tiny.autoencoder.encoder)
    with torch.no_grad():
        for parameter in fresh_actor.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in tiny.autoencoder.state_dict().items())


def test_the_loss_of_the_termination_unit_does_not_reach_the_policy(actor, state):
    mask = torch.rand(len(state), 1, 32, 32)
    out = actor(actor.condition(state.context), mask, actor.initial_memory(len(state)))
    out.continue_logit.square().sum().backward()
    assert all(parameter.grad is None for parameter in actor.policy_parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in actor.termination.parameters())


def test_policy_parameters_and_those_of_the_termination_unit_are_all_there_are(actor):
    policy = {id(p) for p in actor.policy_parameters()}
    termination = {id(p) for p in actor.termination.parameters()}
    assert not policy & termination
    assert policy | termination == {id(p) for p in actor.parameters()}


def test_the_termination_unit_is_told_the_share_of_the_foreground_that_is_uncovered(actor, state):
    seen = []
    actor.termination.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, -1]))
    first_leaf = (state.label_map == 1).float()[:, None]
    act(actor, state, first_leaf)
    area = (state.label_map > 0).sum((1, 2))
    rest = (state.label_map > 1).sum((1, 2))
    torch.testing.assert_close(seen[0], rest / area)


def test_memory_matters_once_the_head_listens_to_it_and_not_before(tiny, fresh_actor, state):
    fresh_actor.start_from(tiny.autoencoder.encoder)
    mask = torch.rand(len(state), 1, 32, 32)
    memory = torch.randn_like(fresh_actor.initial_memory(len(state)))
    blank, full = (act(fresh_actor, state, mask, m) for m in (None, memory))
    assert torch.equal(blank.mean, full.mean)
    assert not torch.allclose(blank.continue_logit, full.continue_logit)
    nn.init.normal_(fresh_actor.head[-1].weight)
    blank, full = (act(fresh_actor, state, mask, m) for m in (None, memory))
    assert not torch.allclose(blank.mean, full.mean)


def test_every_layer_of_memory_is_read_and_written(actor, state):
    mask = torch.rand(len(state), 1, 32, 32)
    start = actor.initial_memory(len(state))
    assert start.shape == (len(state), 4, 6)
    assert start.abs().sum() == 0
    reference = act(actor, state, mask)
    assert (reference.memory != start).flatten(2).any(2).all()
    for row in range(start.shape[1]):
        memory = start.clone()
        memory[:, row] = 1
        assert not torch.allclose(act(actor, state, mask, memory).mean, reference.mean)


def test_memory_is_that_of_stacked_lstm_cells_run_by_torch(actor, state):
    mask = torch.rand(len(state), 1, 32, 32)
    lstm = nn.LSTM(16, 6, num_layers=2, batch_first=True)
    for layer, cell in enumerate(actor.lstm):
        for name, value in cell.state_dict().items():
            getattr(lstm, f"{name}_l{layer}").data.copy_(value)
    first = act(actor, state, mask)
    second = act(actor, state, 1 - mask, first.memory)
    share = actor.condition(state.context)[0]
    with torch.no_grad():
        features = torch.stack([actor.trunk(share, m) for m in (mask, 1 - mask)], dim=1)
        _, (h, c) = lstm(features)
    torch.testing.assert_close(second.memory[:, 0::2], h.transpose(0, 1))
    torch.testing.assert_close(second.memory[:, 1::2], c.transpose(0, 1))


def test_the_split_first_convolution_is_that_of_the_concatenated_input(actor, state):
    trunk = actor.trunk
    mask = torch.rand(len(state), 1, 32, 32)
    weight = torch.cat([trunk.context_conv.weight, trunk.mask_conv.weight], dim=1)
    joint = torch.cat([trunk.normalise(state.context), mask], dim=1)
    x = F.conv2d(joint, weight, trunk.context_conv.bias, stride=2, padding=1)
    torch.testing.assert_close(trunk.condition(state.context) + trunk.mask_conv(mask), x, rtol=1e-4, atol=1e-4)
    for conv in trunk.convs:
        x = conv(torch.relu(x))
    features = F.leaky_relu(trunk.linear(torch.relu(x).flatten(1)))
    torch.testing.assert_close(trunk(trunk.condition(state.context), mask), features, rtol=1e-4, atol=1e-4)


def test_the_policy_is_never_wider_than_the_prior_nor_arbitrarily_narrow(actor, state):
    mask = torch.zeros(len(state), 1, 32, 32)
    for bias, bound in ((1e4, 0), (-1e4, -10)):
        actor.head[-1].bias.data[4:] = bias
        assert act(actor, state, mask).log_variance.eq(bound).all()


def test_the_foreground_is_passed_on_unchanged(actor, state):
    assert torch.equal(actor.condition(state.context)[1], state.context[:, FOREGROUND : FOREGROUND + 1])


def test_without_the_linear_path_the_papers_head_speaks_alone_and_is_random_at_first(tiny, config, state):
    torch.manual_seed(0)
    actor = Actor(tiny.autoencoder.config, replace(config.learner.actor, skip=False))
    out = act(actor, state, torch.zeros(len(state), 1, 32, 32))
    assert out.mean.std(0).max() > 1e-4  # a head of zeros would say the same of every scene
    assert actor.skip is None
