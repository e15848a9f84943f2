"""The critic learns what it is asked, and how well it does so is what it reports."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from agents.algorithms import ValueExpansionConfig
from agents.algorithms.replay import transitions
from agents.algorithms.rollout import discounted_returns, run_episodes, sampler
from agents.models.critic import CriticConfig

GAMMA = 0.9


def bits(module):
    """A copy of all weights."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.fixture
def algorithm(make_algorithm, actor_critic):
    return make_algorithm(actor_critic)


@pytest.fixture
def episodes(algorithm, begin, tiny):
    """One episode in each of twelve scenes, played by a policy that explores."""
    noise = torch.randn(12, 4, 4, generator=torch.Generator().manual_seed(0))
    learner = algorithm.learner
    with torch.no_grad():
        return run_episodes(learner.actor, learner.core.decoder, begin(tiny), choose=sampler(noise, 0.5 * noise))


@pytest.fixture
def batch(episodes):
    return transitions(episodes, GAMMA)


def test_updates_of_the_critic_change_it_and_nothing_else(algorithm, batch, tiny):
    critic, actor = bits(algorithm.critic.critic), bits(algorithm.learner.actor)
    frozen = [bits(tiny.autoencoder), bits(tiny.context_network)]
    algorithm.update_critic(batch)
    assert not unchanged(algorithm.critic.critic, critic)
    assert unchanged(algorithm.learner.actor, actor)
    assert unchanged(tiny.autoencoder, frozen[0])
    assert unchanged(tiny.context_network, frozen[1])


def test_repeated_updates_on_a_batch_lower_its_loss(algorithm, batch):
    losses = [float(algorithm.update_critic(batch)["critic/loss"]) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("sees_reward", [True, False])
def test_value_expansion_learns_what_follows_a_step_and_algorithm_1_the_whole_return(
    make_algorithm, actor_critic, batch, sees_reward
):
    config = actor_critic if sees_reward else ValueExpansionConfig(critic=actor_critic.critic)
    algorithm = make_algorithm(config)
    for parameter in algorithm.critic.critic.head[-1].parameters():
        torch.nn.init.zeros_(parameter)  # all values are zero, so the loss is the targets' mean square
    targets = batch.returns if sees_reward else batch.returns - batch.reward
    losses = algorithm.update_critic(batch)
    assert float(losses["critic/loss"]) == pytest.approx(float(targets.square().mean()))
    unexplained = float(targets.square().mean() / targets.var(correction=0))
    assert float(losses["critic/explained_variance"]) == pytest.approx(1 - unexplained, abs=1e-3)


def test_what_follows_a_step_is_the_discounted_return_of_the_next(episodes):
    returns = discounted_returns(episodes, GAMMA)
    for now, following, step in zip(returns, [*returns[1:], torch.zeros(0)], episodes.steps, strict=True):
        future = now - step.reward
        torch.testing.assert_close(future[: len(following)], GAMMA * following, rtol=1e-4, atol=1e-5)
        assert future[len(following) :].eq(0).all()


def test_a_loss_that_is_not_finite_is_an_error_and_changes_nothing(algorithm, batch):
    algorithm.update_critic(batch)
    before, moments = bits(algorithm.critic.critic), str(algorithm.critic.optimizer.state_dict())
    for value in (torch.inf, torch.nan):
        with pytest.raises(FloatingPointError, match="learning rate"):
            algorithm.update_critic(replace(batch, returns=torch.full_like(batch.returns, value)))
    assert unchanged(algorithm.critic.critic, before)
    assert str(algorithm.critic.optimizer.state_dict()) == moments


def test_micro_batches_take_the_step_of_the_whole_batch(make_algorithm, actor_critic, batch):
    values = []
    for parts in (1, 3):
        algorithm = make_algorithm(actor_critic, accumulate=parts)
        algorithm.critic.optimizer = torch.optim.SGD(algorithm.critic.critic.parameters())
        losses = algorithm.update_critic(batch)
        weights = torch.cat([p.detach().flatten() for p in algorithm.critic.critic.parameters()])
        values.append((float(losses["critic/loss"]), float(losses["critic/explained_variance"]), weights))
    assert values[0][:2] == pytest.approx(values[1][:2], rel=1e-4)
    torch.testing.assert_close(values[0][2], values[1][2], rtol=1e-4, atol=1e-6)


def test_a_value_has_a_gradient_to_the_mask_and_none_to_the_critic(algorithm, begin, tiny, episodes):
    step = episodes.steps[0]
    predicted = step.predicted_mask.clone().requires_grad_()
    value = algorithm.critic.frozen(episodes.context)(replace(step, predicted_mask=predicted))
    value.sum().backward()
    assert predicted.grad.abs().max() > 0
    assert all(p.grad is None and p.requires_grad for p in algorithm.critic.critic.parameters())


def test_a_start_from_the_encoder_needs_a_critic_with_its_trunk(make_algorithm, actor_critic):
    config = replace(actor_critic, critic=CriticConfig(trunk_widths=(4, 4)))
    with pytest.raises(ValueError, match=r"without trunk_widths, got \(4, 4\)"):
        make_algorithm(config)
    assert make_algorithm(config, start_from_encoder=False).critic.critic.trunk is not None


def test_learning_goes_on_from_a_state_dict_as_if_there_had_been_no_break(make_algorithm, actor_critic, batch, at):
    algorithm = make_algorithm(actor_critic)
    algorithm.update_critic(batch)
    algorithm.update_actor(algorithm.first_states(batch), at())
    other = make_algorithm(actor_critic, start_from_encoder=False)
    other.learner.load_state_dict(deepcopy(algorithm.learner.state_dict()))
    other.load_state_dict([deepcopy(algorithm.state_dict())])
    for each in (algorithm, other):
        each.update_critic(batch)
        each.update_actor(each.first_states(batch), at())
    assert unchanged(other.learner.actor, bits(algorithm.learner.actor))
    assert unchanged(other.critic.critic, bits(algorithm.critic.critic))
