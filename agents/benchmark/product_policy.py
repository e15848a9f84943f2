"""Networks for TD3 of Stable-Baselines3, which learns here with them and not with its own (docs/plugging_in.md)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import Tensor, nn
from torch.nn import functional as F

from agents.models.product_critic import ProductCritic


class CoarsePlanes(BaseFeaturesExtractor):
    """The planes `[13, H, W]` at a sixteenth of their size, normalised: what a small network can make use of."""

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        assert observation_space.shape is not None
        channels, height, width = observation_space.shape
        super().__init__(observation_space, features_dim=channels * (height // 16) * (width // 16))
        self.normalise = nn.BatchNorm1d(self.features_dim, affine=False, momentum=0.01)

    def forward(self, observations: Tensor) -> Tensor:
        """Features `[B, F]` of observations `[B, 13, H, W]` in [0, 255]."""
        # Every fourth pixel is enough for means over 16 x 16.
        means = F.avg_pool2d(observations[:, :, ::4, ::4] / 255, 4)
        features: Tensor = self.normalise(means.flatten(1))
        return features


class JoinedProductCritic(ProductCritic):
    """That critic for a caller who joins features and actions to one vector, as Stable-Baselines3 does."""

    def forward(self, features_and_actions: Tensor) -> Tensor:  # type: ignore[override]
        """Values `[B, 1]` of `[B, o + a]`."""
        return super().forward(*features_and_actions.split(self.sizes, dim=1))


class ProductCritics(ContinuousCritic):
    """Stable-Baselines3's critics with other networks in them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.action_space.shape is not None
        sizes = self.features_extractor.features_dim, self.action_space.shape[0]
        self.q_networks = [JoinedProductCritic(*sizes) for _ in self.q_networks]
        for index, network in enumerate(self.q_networks):
            self.add_module(f"qf{index}", network)


class ProductPolicy(TD3Policy):
    """Stable-Baselines3's policy with those critics, and an actor that cannot retreat to the corners of the actions."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """Make the parent's actor, but let what `tanh` gets have a mean square of 1."""
        actor = super().make_actor(features_extractor)
        assert actor.action_space.shape is not None
        *layers, squash = actor.mu
        actor.mu = nn.Sequential(*layers, nn.RMSNorm(actor.action_space.shape[0], elementwise_affine=False), squash)
        return actor

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Make the critics with the parent's arguments."""
        return ProductCritics(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)
