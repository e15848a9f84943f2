"""The learner: losses and updates of actor, critic and termination unit.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.3 and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.decoder import MaskAutoencoder, kl_to_prior
from acis_env.dynamics import Rules
from acis_env.precision import autocast
from acis_env.reward import ScoreName
from agents.actor import Actor
from agents.config import Objective, Phase, TrainConfig
from agents.critic import Critic
from agents.distributed import ALONE, Group
from agents.episodes import Batch, Episodes, MicroBatch, Sampler, run_episodes
from agents.replay import Transitions, join, transitions

Losses = dict[str, Tensor]
"""Detached scalars by TensorBoard tag."""


class ActorCritic:
    """Actor, critic and their optimisers; the decoder stays frozen.

    Losses are means over a whole batch. Their gradients are added up over micro-batches and over the processes of
    `group`, whose weights are and remain the same.
    """

    def __init__(self, autoencoder: MaskAutoencoder, config: TrainConfig, group: Group = ALONE) -> None:
        self.config = config
        self.group = group
        self.rules = Rules(score=config.score)
        self.decoder = autoencoder.decoder.freeze()
        self.actor = Actor(autoencoder.config, config.actor).to(config.device)
        self.critic = Critic(autoencoder.config, config.critic).to(config.device)
        if config.start_from_encoder:
            self.actor.start_from(autoencoder.encoder)
            self.critic.start_from(autoencoder.encoder)
        if config.compile:
            self.actor.compile(dynamic=True)  # fewer scenes are left from step to step
            self.critic.compile(dynamic=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.policy_parameters(), fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), config.critic_learning_rate, fused=True)
        self.termination_optimizer = torch.optim.Adam(self.actor.termination.parameters(), fused=True)

    @torch.no_grad()
    def collect(self, batch: Batch, generator: torch.Generator) -> Transitions:
        """Episode execution: sample from the policy, with extra noise in some scenes."""
        noise = self.draw_noise(batch, generator, self.config.exploration)
        collected = []
        for part in batch.parts:
            episodes = self.play(part, noise)
            number = batch.number_steps(part.places)
            collected.append(transitions(episodes, self.config.gamma, number, batch.num_steps))
        return join(collected)

    def update_critic(self, batch: Transitions) -> Losses:
        """Policy evaluation: one step towards the Monte-Carlo returns, Eq. (7).

        With the objective ac-score the immediate reward, whose gradient is known, is left out of them.
        """
        self.critic_optimizer.zero_grad(set_to_none=True)
        sums: list[Losses] = []
        for part in batch.split(self.config.accumulate):
            targets = part.returns - part.reward if self.config.values_the_future else part.returns
            loss = F.mse_loss(self._predict_returns(part), targets, reduction="sum") / batch.total
            loss.backward()
            moments = {"mean": targets.sum() / batch.total, "square": targets.square().sum() / batch.total}
            sums.append({"loss": loss.detach(), **moments})
        losses, norm = self._descend(self.critic_optimizer, self.config.clip_norm, sums)
        variance = losses["square"] - losses["mean"] ** 2
        explained = 1 - losses["loss"] / variance.clamp_min(1e-6)
        return {"critic/loss": losses["loss"], "critic/explained_variance": explained, "critic/gradient_norm": norm}

    def update_actor(
        self, batch: Batch, phase: Phase, generator: torch.Generator, decay: float = 1.0, monitor: bool = False
    ) -> Losses:
        """Policy iteration: one step up the phase's objective, and a few of the termination unit.

        Args:
            batch: fresh episodes.
            phase: gives the objective and its KL weight.
            generator: of the sampled actions.
            decay: factor on the learning rates of policy and termination unit.
            monitor: also compare the critic's gradient with the score's, which costs two more backward passes.
        """
        self.actor_optimizer.param_groups[0]["lr"] = decay * phase.learning_rate
        self.termination_optimizer.param_groups[0]["lr"] = decay * self.config.termination_learning_rate
        samples = phase.objective in ("ac", "ac-score")
        noise = self.draw_noise(batch, generator) if samples else None
        self.actor_optimizer.zero_grad(set_to_none=True)
        sums: list[Losses] = []
        readings, continue_targets = [], []
        for part in batch.parts:
            episodes = self.play(part, noise)
            sums.append(self._add_gradients(episodes, phase, batch, samples and monitor))
            readings.append(episodes.readings)
            continue_targets.append(episodes.continue_targets)
        clip = self.config.clip_norm_bce if phase.objective == "bl-bce" else self.config.clip_norm
        losses, norm = self._descend(self.actor_optimizer, clip, sums)
        num_states = batch.num_steps + len(batch)
        termination = self._update_termination(torch.cat(readings), torch.cat(continue_targets), num_states)
        return {**losses, "actor/gradient_norm": norm, "termination/loss": termination}

    def draw_noise(self, batch: Batch, generator: torch.Generator, levels: Sequence[float] = (0.0,)) -> Tensor:
        """Random numbers for the actions in all scenes of `batch`, those of other processes included.

        Returns:
            `[2, B, T, l]` on the host: a factor of the policy's standard deviation; and noise of the prior at one of
            `levels`, drawn for each scene's whole episode.
        """
        shape = (len(batch), int(batch.lengths[0]), self.decoder.config.latent_size)
        policy, prior = (torch.randn(shape, generator=generator) for _ in range(2))
        level = torch.tensor(levels)[torch.randint(len(levels), (len(batch), 1, 1), generator=generator)]
        return torch.stack([policy, level * prior])

    def play(self, part: MicroBatch, noise: Tensor | None) -> Episodes:
        """Episodes with mean actions, or with the `noise` `[2, B, T, l]` that was drawn for the whole batch."""
        sampler = None if noise is None else _sampler(*noise[:, part.places].to(part.state.context.device))
        settings = (self.config.truncate, self.config.precision)
        return run_episodes(self.actor, self.decoder, part.state, self.rules, sampler, *settings)

    def _add_gradients(self, episodes: Episodes, phase: Phase, batch: Batch, monitor: bool) -> Losses:
        """Descend from a micro-batch of `batch` to its share of the gradients; returns its share of the losses."""
        terms, monitors = self._objective(episodes, phase.objective, monitor)
        objective = torch.cat(terms).sum() / batch.num_steps
        mean, log_variance = (torch.cat([getattr(s, n) for s in episodes.steps]) for n in ("mean", "log_variance"))
        kl = kl_to_prior(mean, log_variance).sum() / batch.num_steps
        (phase.kl_weight * kl - objective).backward()
        potential = episodes.potential.sum()
        return {
            "actor/objective": objective.detach(),
            "actor/kl": kl.detach(),
            "actor/latent_std": torch.exp(0.5 * log_variance.detach()).mean(1).sum() / batch.num_steps,
            "rollout/return": potential / len(batch),
            "rollout/score_per_instance": potential / batch.num_steps,
            **{name: value / batch.num_steps for name, value in monitors.items()},
        }

    def _update_termination(self, readings: Tensor, continue_targets: Tensor, num_states: int) -> Tensor:
        """A few steps of the termination unit, which is small and trails a policy that moves under it.

        Args:
            readings: `[S, r]`, of the states that this process visited.
            continue_targets: `[S]`.
            num_states: that all processes visited.

        Returns:
            The loss before the last of them.
        """
        for _ in range(self.config.termination_updates):
            self.termination_optimizer.zero_grad(set_to_none=True)
            logits = self.actor.continue_logit(readings)
            loss = F.binary_cross_entropy_with_logits(logits, continue_targets, reduction="sum") / num_states
            loss.backward()
            losses, _ = self._descend(self.termination_optimizer, self.config.clip_norm, [{"loss": loss.detach()}])
        return losses["loss"]

    def _objective(self, episodes: Episodes, objective: Objective, monitor: bool) -> tuple[list[Tensor], Losses]:
        """The objective at every step, to be ascended, and what `monitor` asks for, summed over all steps."""
        if objective == "bl-bce":
            return [-_bce(step.predicted_mask, episodes.targets(t)) for t, step in enumerate(episodes.steps)], {}
        scores = self._scores(episodes) if objective != "ac" or monitor else []
        if objective == "bl-score":
            return scores, {}
        values = self._values(episodes)
        monitors = {"critic/gradient_cosine": _gradient_cosine(episodes, values, scores)} if monitor else {}
        if objective == "ac":
            return values, monitors
        # Nothing follows a last step, and there the critic has nothing to say.
        triples = zip(scores, values, episodes.steps, strict=True)
        return [score + value * (step.remaining > 1) for score, value, step in triples], monitors

    def _scores(self, episodes: Episodes) -> list[Tensor]:
        """Soft score of every mask with the instance it is assigned in the end."""
        steps = enumerate(episodes.steps)
        return [soft_score(step.predicted_mask, episodes.targets(t), self.config.score) for t, step in steps]

    def _values(self, episodes: Episodes) -> list[Tensor]:
        """The critic's value of every mask; its gradient is with respect to the mask alone."""
        self.critic.requires_grad_(False)
        with autocast(episodes.context.device, self.config.precision):
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

    def _predict_returns(self, batch: Transitions) -> Tensor:
        """The critic's value of every step that was kept, `[S]`."""
        scene = batch.scene.to(batch.context.device)
        with autocast(batch.context.device, self.config.precision):
            share, context = self.critic.condition(batch.context.float() / 255)
            values: Tensor = self.critic(
                (share[scene], context[scene]),
                batch.mask.float() / 255,
                batch.predicted_mask.float() / 255,
                batch.remaining,
            )
        return values

    def _descend(
        self, optimizer: torch.optim.Optimizer, clip_norm: float, sums: Sequence[Losses]
    ) -> tuple[Losses, Tensor]:
        """One clipped gradient step of the whole batch.

        Args:
            optimizer: of parameters that hold the gradients of this process's micro-batches, added up.
            clip_norm: largest norm of the gradient.
            sums: the losses of these micro-batches, each its share of the batch's.

        Returns:
            The losses of the batch, and the norm before clipping.

        Raises:
            FloatingPointError: a loss or the gradient is not finite; nothing has been changed then.
        """
        parameters: list[nn.Parameter] = optimizer.param_groups[0]["params"]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        totals = torch.stack([torch.stack(list(losses.values())) for losses in sums]).sum(0)
        self.group.sum([*gradients, totals])
        norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
        if not torch.isfinite(norm + totals.sum()):
            found = ", ".join(f"{name} {value:.3g}" for name, value in zip(sums[0], totals.tolist(), strict=True))
            raise FloatingPointError(f"{found} with gradient norm {norm.item():.3g}; lower the learning rate")
        optimizer.step()
        return dict(zip(sums[0], totals.unbind(), strict=True)), norm.detach()

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


def _sampler(policy: Tensor, extra: Tensor) -> Sampler:
    """The reparametrisation trick, with noise `[b, T, l]` in units of the policy's deviation, and other noise."""
    return lambda t, mean, deviation: mean + deviation * policy[: len(mean), t] + extra[: len(mean), t]


def soft_score(masks: Tensor, targets: Tensor, name: ScoreName) -> Tensor:
    """Differentiable soft Dice or IoU of `masks` with `targets`, both `[k, 1, H, W]`: `[k]`."""
    common = (masks * targets).sum((1, 2, 3))
    total = masks.sum((1, 2, 3)) + targets.sum((1, 2, 3))
    return 2 * common / total.clamp_min(1e-6) if name == "dice" else common / (total - common).clamp_min(1e-6)


def _bce(masks: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over pixels, `[k]`."""
    clamped = masks.clamp(1e-6, 1 - 1e-6)
    return F.binary_cross_entropy(clamped, targets, reduction="none").sum((1, 2, 3))


def _gradient_cosine(episodes: Episodes, values: list[Tensor], scores: list[Tensor]) -> Tensor:
    """Cosine between the gradients of the critic's value and of the true score with respect to actions, summed.

    It falls towards zero when the actor has found what the critic misjudges, even while the critic explains
    ever more of the returns.
    """
    latents = [step.latent for step in episodes.steps]
    gradients = [torch.autograd.grad(torch.cat(x).sum(), latents, retain_graph=True) for x in (values, scores)]
    by_value, by_score = map(torch.cat, gradients)
    return F.cosine_similarity(by_value, by_score, dim=1).sum()
