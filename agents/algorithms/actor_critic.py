"""The learner: losses and updates of actor, critic and termination unit.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.3 and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.autoencoder import MaskAutoencoder, kl_to_prior
from acis_env.dynamics import Rules
from acis_env.precision import autocast
from acis_env.reward import ScoreName
from agents.algorithms.distributed import SINGLE, Group
from agents.algorithms.replay import Transitions, comparisons, join, transitions
from agents.algorithms.rollout import (
    Batch,
    Choice,
    Episodes,
    MicroBatch,
    Step,
    Visit,
    choose_mean,
    instance_masks,
    run_episodes,
)
from agents.algorithms.search import Search, explore, look, rank_correlation
from agents.models.actor import Actor
from agents.models.critic import Critic
from agents.training.config import Phase, TrainConfig

BETWEEN_WEIGHT = 0.1
"""Of a judge's error in the mean over candidates, beside its errors about that mean."""

Losses = dict[str, Tensor]
"""Detached scalars by TensorBoard tag."""


class ActorCritic:
    """Actor, critic and their optimisers; the decoder stays frozen.

    Losses are means over a whole batch. Their gradients are added up over micro-batches and over the processes of
    `group`, whose weights are and remain the same.
    """

    def __init__(self, autoencoder: MaskAutoencoder, config: TrainConfig, group: Group = SINGLE) -> None:
        self.config = config
        self.group = group
        self.rules = Rules(score=config.score)
        self.decoder = autoencoder.frozen_decoder(config.refine)
        self.actor = Actor(autoencoder.config, config.actor).to(config.device)
        self.critic = Critic(autoencoder.config, config.critic).to(config.device)
        if config.start_from_encoder:
            self.actor.start_from(autoencoder.encoder)
            self.critic.start_from(autoencoder.encoder)
        if config.compile:
            self.actor.compile(dynamic=True)  # fewer scenes are left from step to step
            self.critic.compile(dynamic=True)
        decay = config.weight_decay
        self.actor_optimizer = torch.optim.Adam(self.actor.policy_parameters(), weight_decay=decay, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), weight_decay=decay, fused=True)
        self.termination_optimizer = torch.optim.Adam(self.actor.termination.parameters(), fused=True)

    @torch.no_grad()
    def collect(self, batch: Batch, generator: torch.Generator) -> Transitions:
        """Episode execution: sample from the policy, with extra noise in some scenes."""
        noise = self.draw_noise(batch, generator, self.config.exploration)
        collected = []
        for part in batch.parts:
            episodes = self.play(part, self.sampler(part, noise))
            number = batch.number_steps(part.places)
            collected.append(transitions(episodes, self.config.gamma, number, batch.num_steps))
        return join(collected)

    @torch.no_grad()
    def compare(
        self, batch: Batch, generator: torch.Generator, value: Literal["reward", "return"] | None = None
    ) -> tuple[Transitions, list[Episodes]]:
        """Episode execution, with the true values of several candidates in every state.

        Half of the scenes follow the policy's mean and half the best candidate, since a judge's choices lie between.
        `value` says what a candidate is worth, if it is not what the configuration says.

        Returns:
            The candidates, and the episodes of every micro-batch.
        """
        noise = self._draw_search(batch, generator)
        follows_best = torch.rand(len(batch), 1, generator=generator) < 0.5
        collected, played = [], []
        for part in batch.parts:
            search = self._search(part, noise, value)
            episodes = self.play(part, explore(search, follows_best[part.places].to(part.state.context.device)))
            collected.append(comparisons(episodes, search.tried, batch.number_steps(part.places), batch.num_steps))
            played.append(episodes)
        return join(collected), played

    @torch.no_grad()
    def correlate(self, compared: Transitions) -> Losses:
        """How well the critic ranks the candidates of every state of `compared`, which `compare` gave."""
        correlation = rank_correlation(self.predict_values(compared).T, compared.returns.T).sum() / compared.total
        self.group.sum([correlation])
        return {"critic/rank_correlation": correlation}

    def update_judge(self, compared: Transitions, decay: float = 1.0) -> Losses:
        """One step towards the values of candidates in the same states, mostly towards their differences.

        Args:
            compared: states with candidates, from `compare`.
            decay: factor on the learning rate.
        """
        self.critic_optimizer.param_groups[0]["lr"] = decay * self.config.critic_learning_rate
        self.critic_optimizer.zero_grad(set_to_none=True)
        sums: list[Losses] = []
        for part in compared.split(self.config.accumulate):
            # States differ far more than the candidates in one of them, which is all that a choice depends on.
            errors = self.predict_values(part) - part.returns
            shared = errors.mean(1, keepdim=True)
            within = (errors - shared).square().mean(1).sum() / compared.total
            between = shared.square().sum() / compared.total
            (within + BETWEEN_WEIGHT * between).backward()
            spread = (part.returns - part.returns.mean(1, keepdim=True)).square().mean(1).sum() / compared.total
            sums.append({"critic/loss": within.detach(), "between": between.detach(), "spread": spread})
        losses, norm = self._descend(self.critic_optimizer, self.config.clip_norm, sums)
        explained = 1 - losses["critic/loss"] / losses["spread"].clamp_min(1e-6)
        return {
            "critic/loss": losses["critic/loss"],
            "critic/explained_spread": explained,
            "critic/gradient_norm": norm,
        }

    def update_critic(self, batch: Transitions, learning_rate: float | None = None) -> Losses:
        """Policy evaluation: one step towards the Monte-Carlo returns, Eq. (7).

        With the objective ac-score the immediate reward, whose gradient is known, is left out of them.

        Args:
            batch: steps of earlier episodes.
            learning_rate: None: that of the configuration.
        """
        rate = self.config.critic_learning_rate if learning_rate is None else learning_rate
        self.critic_optimizer.param_groups[0]["lr"] = rate
        self.critic_optimizer.zero_grad(set_to_none=True)
        sums: list[Losses] = []
        for part in batch.split(self.config.accumulate):
            targets = part.returns - part.reward if self.config.values_the_future else part.returns
            loss = F.mse_loss(self.predict_values(part)[:, 0], targets, reduction="sum") / batch.total
            loss.backward()
            moments = {"mean": targets.sum() / batch.total, "square": targets.square().sum() / batch.total}
            sums.append({"critic/loss": loss.detach(), **moments})
        losses, norm = self._descend(self.critic_optimizer, self.config.clip_norm, sums)
        variance = losses["square"] - losses["mean"] ** 2
        explained = 1 - losses["critic/loss"] / variance.clamp_min(1e-6)
        return {
            "critic/loss": losses["critic/loss"],
            "critic/explained_variance": explained,
            "critic/gradient_norm": norm,
        }

    def update_actor(
        self, batch: Batch, phase: Phase, generator: torch.Generator, decay: float = 1.0, monitor: bool = False
    ) -> Losses:
        """Policy iteration: one step up the phase's objective, and a few of the termination unit.

        Args:
            batch: fresh episodes.
            phase: gives the objective and its KL weight.
            generator: of the sampled actions.
            decay: factor on the learning rates of policy and termination unit.
            monitor: also compare the critic's gradient with the score's, which costs two more backward passes; with
                the objective ac alone, since the critic of ac-score estimates something else.
        """
        self.actor_optimizer.param_groups[0]["lr"] = decay * phase.learning_rate
        draw = self._draw_search if phase.objective == "search" else self.draw_noise
        noise = draw(batch, generator)
        self.actor_optimizer.zero_grad(set_to_none=True)
        sums: list[Losses] = []
        played = []
        for part in batch.parts:
            if phase.objective == "ac":
                episodes, losses = self._ascend_values(part, batch, phase, noise, monitor)
            else:
                episodes, losses = self._ascend(part, batch, phase, noise)
            potential = episodes.potential.sum()
            reached = {"return": potential / len(batch), "score_per_instance": potential / batch.num_steps}
            sums.append({**losses, **{f"rollout/{name}": value for name, value in reached.items()}})
            played.append(episodes)
        clip = self.config.clip_norm_bce if phase.objective == "bl-bce" else self.config.clip_norm
        losses, norm = self._descend(self.actor_optimizer, clip, sums)
        return {**losses, "actor/gradient_norm": norm, **self.update_termination(batch, played, decay)}

    def update_termination(self, batch: Batch, played: Sequence[Episodes], decay: float = 1.0) -> Losses:
        """A few steps of the termination unit, which is small and trails a policy that moves under it.

        Args:
            batch: the scenes of all processes.
            played: this process's episodes in them.
            decay: factor on the learning rate.

        Returns:
            The loss before the last of the steps.
        """
        self.termination_optimizer.param_groups[0]["lr"] = decay * self.config.termination_learning_rate
        readings, targets = (torch.cat([getattr(e, name) for e in played]) for name in ("readings", "continue_targets"))
        num_states = batch.num_steps + len(batch)  # a scene is also visited when nothing is left
        name = "termination/loss"
        for _ in range(self.config.termination_updates):
            self.termination_optimizer.zero_grad(set_to_none=True)
            logits = self.actor.continue_logit(readings)
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / num_states
            loss.backward()
            losses, _ = self._descend(self.termination_optimizer, self.config.clip_norm, [{name: loss.detach()}])
        return losses

    def draw_noise(self, batch: Batch, generator: torch.Generator, levels: Sequence[float] = (0.0,)) -> Tensor:
        """Random numbers for the actions in all scenes of `batch`, those of other processes included.

        Returns:
            `[2, B, T, l]` on the host: a factor of the policy's standard deviation; and noise of the prior at one of
            `levels`, drawn for each scene's whole episode.
        """
        shape = (len(batch), int(batch.lengths[0]), self.decoder.latent_size)
        policy, prior = (torch.randn(shape, generator=generator) for _ in range(2))
        level = torch.tensor(levels)[torch.randint(len(levels), (len(batch), 1, 1), generator=generator)]
        return torch.stack([policy, level * prior])

    def play(
        self, part: MicroBatch, choose: Choice = choose_mean, learn: Callable[[Step], None] | None = None
    ) -> Episodes:
        """Episodes of the scenes in `part`; `learn` may go backward at every step, and the gradient is cut there."""
        bptt_steps = self.config.bptt_steps if learn is None else 1
        settings = (choose, bptt_steps, self.config.precision)
        return run_episodes(self.actor, self.decoder, part.state, self.rules, *settings, learn=learn)

    def sampler(self, part: MicroBatch, noise: Tensor) -> Choice:
        """The reparametrisation trick, with the `noise` `[2, B, T, l]` that was drawn for the whole batch."""
        noise, places = (x.to(part.state.context.device) for x in (noise, part.places))

        def sample(visit: Visit) -> Tensor:
            policy, extra = noise[:, places[: len(visit.state)], visit.t]
            deviation = torch.exp(0.5 * visit.out.log_variance)
            action: Tensor = visit.out.mean + deviation * policy + extra
            return action

        return sample

    def _draw_search(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Random numbers `[K - 1, B, T, l]` of the candidates in all scenes of `batch`."""
        num_others, latent_size = self.config.search.candidates - 1, self.decoder.latent_size
        return torch.randn(num_others, len(batch), int(batch.lengths[0]), latent_size, generator=generator)

    def _search(self, part: MicroBatch, noise: Tensor, value: Literal["reward", "return"] | None = None) -> Search:
        noise = noise[:, part.places].to(part.state.context.device)
        config = replace(self.config.search, value=value or self.config.search.value)
        settings = (config, noise, self.config.gamma, self.rules, self.config.precision)
        return Search(self.actor, self.decoder, *settings)

    def _ascend(self, part: MicroBatch, batch: Batch, phase: Phase, noise: Tensor) -> tuple[Episodes, Losses]:
        """Play a micro-batch of `batch` and add its share of the gradients; also returns its share of the losses.

        Assignments are final when episodes are over. So one backward pass goes through all steps.
        """
        search = self._search(part, noise) if phase.objective == "search" else None
        choose = self.sampler(part, noise) if phase.sample or phase.objective == "ac-score" else choose_mean
        episodes = self.play(part, choose if search is None else look(search))
        steps, terms = (
            episodes.steps,
            self._imitate(episodes) if phase.objective == "bl-bce" else self._scores(episodes),
        )
        if search is not None:
            best = [candidates.best for candidates in search.tried]
            distances = [(step.mean - z).square().mean(1) for step, z in zip(steps, best, strict=True)]
            terms = [score - self.config.search.weight * d for score, d in zip(terms, distances, strict=True)]
        if phase.objective == "ac-score":
            value_of = self._frozen_critic(episodes.context)
            values = [value_of(step) for step in steps]
            # What follows is differentiated up to the cut, and from there on estimated. Nothing follows a last step.
            window = self.config.bptt_steps or len(steps)
            ends = [(step.remaining > 1) * ((t + 1) % window == 0) for t, step in enumerate(steps)]
            terms = [score + value * end for score, value, end in zip(terms, values, ends, strict=True)]
        return episodes, self._add_gradients(steps, terms, phase, batch)

    def _ascend_values(
        self, part: MicroBatch, batch: Batch, phase: Phase, noise: Tensor, monitor: bool
    ) -> tuple[Episodes, Losses]:
        """The same for the objective ac: the value of a mask needs nothing that comes after it.

        So there is a backward pass at every step, and never more than one step is held in memory.
        """
        value_of = self._frozen_critic(part.state.context)
        sums: list[Losses] = []

        def learn(step: Step) -> None:
            value, monitors = value_of(step), {}
            if monitor:
                instances = instance_masks(part.state.label_map[: len(value)], step.assignment)
                score = soft_score(step.predicted_mask, instances, self.config.score)
                monitors = {"critic/gradient_cosine": _gradient_cosine(step, value, score) / batch.num_steps}
            sums.append({**self._add_gradients([step], [value], phase, batch), **monitors})

        episodes = self.play(part, self.sampler(part, noise), learn)
        return episodes, {name: torch.stack([losses[name] for losses in sums]).sum() for name in sums[0]}

    def _add_gradients(self, steps: Sequence[Step], terms: Sequence[Tensor], phase: Phase, batch: Batch) -> Losses:
        """Ascend the mean of `terms`, each `[k]` of a step, less the KL term; returns their shares of the losses."""
        objective = torch.cat(list(terms)).sum() / batch.num_steps
        mean, log_variance = (torch.cat([getattr(s, n) for s in steps]) for n in ("mean", "log_variance"))
        kl = kl_to_prior(mean, log_variance).sum() / batch.num_steps
        (phase.kl_weight * kl - objective).backward()
        return {
            "actor/objective": objective.detach(),
            "actor/kl": kl.detach(),
            "actor/latent_std": torch.exp(0.5 * log_variance.detach()).mean(1).sum() / batch.num_steps,
        }

    def _imitate(self, episodes: Episodes) -> list[Tensor]:
        """Minus the cross-entropy of every mask with the instance it is assigned in the end."""
        return [-_bce(step.predicted_mask, episodes.targets(t)) for t, step in enumerate(episodes.steps)]

    def _scores(self, episodes: Episodes) -> list[Tensor]:
        """Soft score of every mask with the instance it is assigned in the end."""
        steps = enumerate(episodes.steps)
        return [soft_score(step.predicted_mask, episodes.targets(t), self.config.score) for t, step in steps]

    def _frozen_critic(self, context: Tensor) -> Callable[[Step], Tensor]:
        """The critic's value of a step in the scenes of `context`, with its gradient with respect to the masks alone.

        Where the gradient through `M_t` is cut at every step, that is the newest mask.
        """
        with torch.no_grad(), autocast(context.device, self.config.precision):
            share, context = self.critic.condition(context)

        def value_of(step: Step) -> Tensor:
            k = len(step.mask)
            self.critic.requires_grad_(False)
            with autocast(context.device, self.config.precision):
                values: Tensor = self.critic((share[:k], context[:k]), step.mask, step.predicted_mask, step.remaining)
            self.critic.requires_grad_(True)
            return values

        return value_of

    def predict_values(self, batch: Transitions) -> Tensor:
        """The critic's value of every mask that was kept, `[S, K]`."""
        scene = batch.scene.to(batch.context.device)
        with autocast(batch.context.device, self.config.precision):
            share, context = self.critic.condition(batch.context.float() / 255)
            conditioning, mask = (share[scene], context[scene]), batch.mask.float() / 255
            predicted = (batch.predicted_mask.float() / 255).split(1, dim=1)
            values = [self.critic(conditioning, mask, candidate, batch.remaining) for candidate in predicted]
        return torch.stack(values, dim=1)

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


def soft_score(masks: Tensor, targets: Tensor, name: ScoreName) -> Tensor:
    """Differentiable soft Dice or IoU of `masks` with `targets`, both `[k, 1, H, W]`: `[k]`."""
    common = (masks * targets).sum((1, 2, 3))
    total = masks.sum((1, 2, 3)) + targets.sum((1, 2, 3))
    return 2 * common / total.clamp_min(1e-6) if name == "dice" else common / (total - common).clamp_min(1e-6)


def _bce(masks: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over pixels, `[k]`."""
    clamped = masks.clamp(1e-6, 1 - 1e-6)
    return F.binary_cross_entropy(clamped, targets, reduction="none").sum((1, 2, 3))


def _gradient_cosine(step: Step, value: Tensor, score: Tensor) -> Tensor:
    """Cosine between the gradients of the critic's value and of the true score with respect to the action, summed.

    It falls towards zero when the actor has found what the critic misjudges, even while the critic explains
    ever more of the returns.
    """
    by_value, by_score = (torch.autograd.grad(x.sum(), step.latent, retain_graph=True)[0] for x in (value, score))
    return F.cosine_similarity(by_value, by_score, dim=1).sum()
