"""A critic with its optimiser: what it is asked, and how it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from acis_env.precision import autocast
from agents.algorithms.base import Learner, Losses
from agents.algorithms.replay import Transitions
from agents.algorithms.rollout import Step
from agents.models.critic import Critic, CriticConfig


class CriticLearner:
    """Learns the values of masks, from whole batches that micro-batches and processes share."""

    def __init__(
        self, learner: Learner, config: CriticConfig, max_remaining: int | None = None, clip_norm: float = 1.0
    ) -> None:
        """Make a critic.

        Args:
            learner: gives the networks to begin from, the environment and the processes.
            config: sizes and inputs.
            max_remaining: largest number of missing instances that it tells apart; None: it is not told.
            clip_norm: largest norm of its gradient.
        """
        self.learner, self.clip_norm = learner, clip_norm
        autoencoder = learner.pretrained.autoencoder
        self.critic = Critic(autoencoder.config, config, max_remaining).to(learner.core.device)
        if learner.config.start_from_encoder:
            if config.trunk_widths:
                raise ValueError(f"start_from_encoder needs a critic without trunk_widths, got {config.trunk_widths}")
            self.critic.start_from(autoencoder.encoder)
        if learner.config.compile:
            self.critic.compile(dynamic=True)
        self.optimizer = learner.adam(list(self.critic.parameters()))

    def has_form_of(self, other: CriticLearner) -> bool:
        """Whether both critics have the same sizes and inputs."""
        return self.critic.config == other.critic.config and self.critic.max_remaining == other.critic.max_remaining

    def values(self, batch: Transitions) -> Tensor:
        """The critic's value of every mask in `batch`, `[S]`."""
        device, precision = batch.context.device, self.learner.core.precision
        scene = batch.scene.to(device)
        with autocast(device, precision):
            of_scenes = self.critic.condition(batch.context.float() / 255)
            conditioning, mask = tuple(x[scene] for x in of_scenes), batch.mask.float() / 255
            predicted = batch.predicted_mask.float() / 255
            values: Tensor = self.critic(conditioning, mask, predicted, batch.remaining)
        return values

    def frozen(self, context: Tensor) -> Callable[[Step], Tensor]:
        """The value `[k]` of a step in the scenes of `context`, whose gradient reaches the masks and not the critic.

        Where the gradient through `M_t` is cut at every step, that is the newest mask.
        """
        precision = self.learner.core.precision
        with torch.no_grad(), autocast(context.device, precision):
            of_scenes = self.critic.condition(context)

        def value_of(step: Step) -> Tensor:
            k = len(step.mask)
            self.critic.requires_grad_(False)
            with autocast(context.device, precision):
                values: Tensor = self.critic(
                    tuple(x[:k] for x in of_scenes), step.mask, step.predicted_mask, step.remaining
                )
            self.critic.requires_grad_(True)
            return values

        return value_of

    def regress(self, batch: Transitions, targets: Tensor, learning_rate: float) -> Losses:
        """One step towards `targets` `[S]`, by the squared error."""
        sums: list[Losses] = []
        start = 0
        for part in batch.split(self.learner.config.accumulate):
            target = targets[start : start + len(part)]
            start += len(part)
            loss = F.mse_loss(self.values(part), target, reduction="sum")
            loss.backward()
            sums.append({"critic/loss": loss.detach(), "mean": target.sum(), "square": target.square().sum()})
        losses, norm = self.learner.descend(self.optimizer, learning_rate, self.clip_norm, sums, len(batch))
        variance = losses["square"] - losses["mean"] ** 2
        return {
            "critic/loss": losses["critic/loss"],
            "critic/explained_variance": 1 - losses["critic/loss"] / variance.clamp_min(1e-6),
            "critic/gradient_norm": norm,
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
