"""The learner: losses and updates of actor, critic and termination unit.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.3 and Algorithm 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.decoder import MaskAutoencoder, kl_to_prior
from acis_env.dynamics import EnvState, Rules
from acis_env.reward import ScoreName
from agents.actor import Actor
from agents.config import Phase, TrainConfig
from agents.critic import Critic
from agents.episodes import Episodes, Sampler, run_episodes
from agents.replay import Transitions

Losses = dict[str, Tensor]
"""Detached scalars by TensorBoard tag."""


class ActorCritic:
    """Actor, critic and their optimisers; the decoder stays frozen."""

    def __init__(self, autoencoder: MaskAutoencoder, config: TrainConfig) -> None:
        self.config = config
        self.rules = Rules(score=config.score)
        self.decoder = autoencoder.decoder.freeze()
        self.actor = Actor(autoencoder.config, config.actor).to(config.device)
        self.critic = Critic(autoencoder.config, config.critic).to(config.device)
        if config.start_from_encoder:
            self.actor.start_from(autoencoder.encoder)
            self.critic.start_from(autoencoder.encoder)
        self.actor_optimizer = torch.optim.Adam(self.actor.policy_parameters())
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), config.critic_learning_rate)
        self.termination_optimizer = torch.optim.Adam(self.actor.termination.parameters())

    @torch.no_grad()
    def collect(self, state: EnvState, generator: torch.Generator) -> Episodes:
        """Episode execution: sample from the policy, with extra noise in some scenes."""
        return run_episodes(self.actor, self.decoder, state, self.rules, self._exploration(len(state), generator))

    def update_critic(self, batch: Transitions) -> Losses:
        """Policy evaluation: one step towards the Monte-Carlo returns, Eq. (7).

        With the objective ac-score the immediate reward, whose gradient is known, is left out of them.
        """
        targets = batch.returns - batch.reward if self.config.values_the_future else batch.returns
        share, context = self.critic.condition(batch.context.float() / 255)
        values = self.critic(
            (share[batch.scene], context[batch.scene]),
            batch.mask.float() / 255,
            batch.predicted_mask.float() / 255,
            batch.remaining,
        )
        loss = F.mse_loss(values, targets)
        norm = _descend(loss, self.critic_optimizer, list(self.critic.parameters()), self.config.clip_norm)
        explained = 1 - loss.detach() / targets.var(correction=0).clamp_min(1e-6)
        return {"critic/loss": loss.detach(), "critic/explained_variance": explained, "critic/gradient_norm": norm}

    def update_actor(
        self, state: EnvState, phase: Phase, generator: torch.Generator, decay: float = 1.0, monitor: bool = False
    ) -> Losses:
        """Policy iteration: one step up the phase's objective, and one of the termination unit.

        Args:
            state: fresh episodes, sorted by falling number of instances.
            phase: gives the objective and its KL weight.
            generator: of the sampled actions.
            decay: factor on the learning rates of policy and termination unit.
            monitor: also compare the critic's gradient with the score's, which costs two more backward passes.
        """
        self.actor_optimizer.param_groups[0]["lr"] = decay * phase.learning_rate
        self.termination_optimizer.param_groups[0]["lr"] = decay * self.config.termination_learning_rate
        samples = phase.objective in ("ac", "ac-score")
        sampler = self._sampler(generator) if samples else None
        episodes = run_episodes(self.actor, self.decoder, state, self.rules, sampler, truncate=self.config.truncate)
        monitors = self._gradient_cosine(episodes) if samples and monitor else {}
        count = sum(len(step.reward) for step in episodes.steps)
        kl = torch.cat([kl_to_prior(step.mean, step.log_variance) for step in episodes.steps]).mean()
        objective = self._objective(episodes, phase.objective) / count

        clip = self.config.clip_norm_bce if phase.objective == "bl-bce" else self.config.clip_norm
        parameters = self.actor.policy_parameters()
        norm = _descend(phase.kl_weight * kl - objective, self.actor_optimizer, parameters, clip)
        termination = self._update_termination(episodes)
        deviation = torch.cat([torch.exp(0.5 * step.log_variance) for step in episodes.steps]).mean()
        return {
            "actor/objective": objective.detach(),
            "actor/kl": kl.detach(),
            "actor/latent_std": deviation.detach(),
            "actor/gradient_norm": norm,
            "termination/loss": termination,
            "rollout/return": episodes.potential.mean(),
            "rollout/score_per_instance": episodes.potential.sum() / count,
            **monitors,
        }

    def _update_termination(self, episodes: Episodes) -> Tensor:
        """A few steps of the termination unit, which is small and trails a policy that moves under it.

        Returns:
            The loss before the last of them.
        """
        parameters = list(self.actor.termination.parameters())
        for _ in range(self.config.termination_updates):
            logits = self.actor.continue_logit(episodes.readings)
            loss = F.binary_cross_entropy_with_logits(logits, episodes.continue_targets)
            _descend(loss, self.termination_optimizer, parameters, self.config.clip_norm)
        return loss.detach()

    def _objective(self, episodes: Episodes, objective: str) -> Tensor:
        """Sum of the objective over all steps, to be ascended."""
        if objective == "bl-bce":
            terms = [-_bce(step.predicted_mask, episodes.targets(t)) for t, step in enumerate(episodes.steps)]
        elif objective == "bl-score":
            terms = self._scores(episodes)
        elif objective == "ac":
            terms = self._values(episodes)
        else:
            # Nothing follows a last step, and there the critic has nothing to say.
            pairs = zip(self._scores(episodes), self._values(episodes), episodes.steps, strict=True)
            terms = [score + value * (step.remaining > 1) for score, value, step in pairs]
        return torch.cat(terms).sum()

    def _scores(self, episodes: Episodes) -> list[Tensor]:
        """Soft score of every mask with the instance it is assigned in the end."""
        steps = enumerate(episodes.steps)
        return [soft_score(step.predicted_mask, episodes.targets(t), self.config.score) for t, step in steps]

    def _values(self, episodes: Episodes) -> list[Tensor]:
        """The critic's value of every mask; its gradient is with respect to the mask alone."""
        self.critic.requires_grad_(False)
        share, context = self.critic.condition(episodes.context)
        values = [
            self.critic(
                (share[: len(step.mask)], context[: len(step.mask)]),
                step.mask.detach(),
                step.predicted_mask,
                step.remaining,
            )
            for step in episodes.steps
        ]
        self.critic.requires_grad_(True)
        return values

    def _gradient_cosine(self, episodes: Episodes) -> Losses:
        """Mean cosine between the gradients of the critic's value and of the true score with respect to actions.

        It falls towards zero when the actor has found what the critic misjudges, even while the critic explains
        ever more of the returns.
        """
        latents = [step.latent for step in episodes.steps]
        value, score = torch.cat(self._values(episodes)).sum(), torch.cat(self._scores(episodes)).sum()
        by_value = torch.cat(torch.autograd.grad(value, latents, retain_graph=True))
        by_score = torch.cat(torch.autograd.grad(score, latents, retain_graph=True))
        return {"critic/gradient_cosine": F.cosine_similarity(by_value, by_score, dim=1).mean()}

    def _sampler(self, generator: torch.Generator, extra: Tensor | None = None) -> Sampler:
        """The reparametrisation trick: mean plus scaled noise; `extra` `[B, 1]` widens it scene by scene."""

        def sample(mean: Tensor, deviation: Tensor) -> Tensor:
            noise = torch.randn(mean.shape, generator=generator).to(mean.device)
            if extra is not None:
                other = torch.randn(mean.shape, generator=generator).to(mean.device)
                return mean + deviation * noise + extra[: len(mean)] * other
            return mean + deviation * noise

        return sample

    def _exploration(self, batch: int, generator: torch.Generator) -> Sampler:
        """Policy noise, and noise of the prior at a level drawn for each scene's whole episode."""
        levels = torch.tensor(self.config.exploration)
        chosen = levels[torch.randint(len(levels), (batch, 1), generator=generator)]
        return self._sampler(generator, chosen.to(self.config.device))

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimisers."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "termination_optimizer": self.termination_optimizer,
        }


def soft_score(masks: Tensor, targets: Tensor, name: ScoreName) -> Tensor:
    """Differentiable soft Dice or IoU of `masks` with `targets`, both `[k, 1, H, W]`: `[k]`."""
    common = (masks * targets).sum((1, 2, 3))
    total = masks.sum((1, 2, 3)) + targets.sum((1, 2, 3))
    return 2 * common / total.clamp_min(1e-6) if name == "dice" else common / (total - common).clamp_min(1e-6)


def _bce(masks: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over pixels, `[k]`."""
    clamped = masks.clamp(1e-6, 1 - 1e-6)
    return F.binary_cross_entropy(clamped, targets, reduction="none").sum((1, 2, 3))


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float) -> Tensor:
    """One clipped gradient step; returns the norm before clipping.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; nothing has been changed then.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if not torch.isfinite(norm + loss.detach()):
        raise FloatingPointError(f"loss {loss.item()} with gradient norm {norm.item()}; lower the learning rate")
    optimizer.step()
    return norm.detach()
