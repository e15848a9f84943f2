"""The critic of products: what it can tell apart, and that it learns what no sum of state and action can say."""

import torch

from agents.models.product_critic import ProductCritic


def test_a_state_without_features_gives_all_actions_the_same_value():
    critic = ProductCritic(6, 3).eval()
    for parameter in critic.state[-1].parameters():
        torch.nn.init.zeros_(parameter)
    values = critic(torch.randn(8, 6), torch.randn(8, 3))
    assert values.shape == (8, 1)
    assert (values == values[0]).all()


def test_dropout_makes_values_random_in_training_alone():
    torch.manual_seed(0)
    critic, states, actions = ProductCritic(6, 3, dropout=0.5), torch.randn(8, 6), torch.randn(8, 3)
    assert (critic(states, actions) != critic(states, actions)).any()
    critic.eval()
    assert (critic(states, actions) == critic(states, actions)).all()


def test_it_learns_that_the_better_of_two_actions_depends_on_the_state():
    torch.manual_seed(0)
    critic = ProductCritic(4, 4, width=32, dropout=0.0)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    for _ in range(300):
        states, actions = torch.randn(2, 256, 4).unbind(0)
        loss = (critic(states, actions)[:, 0] - (states * actions).sum(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.0  # of a variance of 4, which is all that a sum of both could leave
    right = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    for state, better in ((right, right), (-right, -right)):
        assert critic(state, better) > critic(state, -better)
