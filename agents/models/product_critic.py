"""A critic for small observations, which multiplies what it knows of the state with what it knows of the action."""

from __future__ import annotations

from torch import Tensor, nn


class ProductCritic(nn.Module):
    """Values of actions: a perceptron on elementwise products of features of the state and features of the action.

    What a code is worth depends on where its mask falls, so state and action act on each other. Perceptrons on both
    side by side were the poorer fit to rewards of actions that they had not seen. Dropout keeps the critic from
    learning a replay buffer by heart.
    """

    def __init__(self, num_features: int, num_actions: int, width: int = 256, dropout: float = 0.1) -> None:
        """Make a critic of states of `num_features` numbers and actions of `num_actions`.

        Args:
            num_features: length `o` of what is known of a state, best normalised to zero mean and unit variance.
            num_actions: length `a` of an action.
            width: number of products, and width of all layers.
            dropout: rate of dropout, in [0, 1).
        """
        super().__init__()
        self.sizes = num_features, num_actions
        self.state = nn.Sequential(
            nn.Linear(num_features, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.action = nn.Sequential(nn.Linear(num_actions, width), nn.ReLU(), nn.Linear(width, width))
        self.value = nn.Sequential(
            nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Values `[B, 1]` of `actions` `[B, a]` in states with `features` `[B, o]`."""
        value: Tensor = self.value(self.state(features) * self.action(actions))
        return value
