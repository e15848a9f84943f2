"""Algorithm 1: an actor climbs the value that a critic gives to its masks.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from acis_env import dynamics
from acis_env.configs import check_at_least
from acis_env.dynamics import EnvState
from acis_env.precision import autocast
from agents.algorithms.base import Algorithm, AlgorithmConfig, Learner, Losses, Progress, ascend
from agents.algorithms.baseline import draw_noise
from agents.algorithms.collector import Collector
from agents.algorithms.critic_learner import CriticLearner
from agents.algorithms.replay import ReplayBuffer, Transitions
from agents.algorithms.rollout import Step, active_counts, assigned_scores, detach, num_steps, split_episodes
from agents.models.critic import CriticConfig


@dataclass(frozen=True)
class ActorCriticConfig(AlgorithmConfig):
    """The actor-critic of the paper (Algorithm 1; AC-Dice, AC-IoU)."""

    kind: tyro.conf.Suppress[Literal["actor-critic"]] = "actor-critic"
    kl_weight: float = 1e-3
    """Weight of the KL divergence of the policy from the latent prior."""
    gamma: float = 0.9
    """Discount of the reward per predicted mask."""
    critic: CriticConfig = CriticConfig()
    """Sizes and inputs of the critic."""
    max_remaining: int | None = 21
    """Largest number of missing instances that the critic tells apart. None: it is not told how many are missing, and
    has to infer it from the mask."""
    critic_learning_rate: float = 1e-3
    """Learning rate of the critic."""
    critic_updates: int = 3
    """Number of critic updates per iteration (the paper: 4)."""
    critic_batch_size: int = 48
    """Number of steps per critic update, in all processes together."""
    critic_warmup: int = 40
    """Number of iterations at the beginning of the stage in which only the critic learns."""
    replay_size: int = 8
    """Number of collections of episodes, the newest ones, that the critic learns from (the paper: 1)."""
    exploration: tuple[float, ...] = (0.0, 0.0, 0.5, 1.0)
    """Standard deviations of prior noise added to the actions of collected episodes, one drawn per episode."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "max_remaining", "critic_updates", "critic_batch_size", "replay_size")
        check_at_least(0, self, "critic_warmup", "exploration", "gamma")
        check_at_least(0, self, "critic_learning_rate")
        if not self.exploration:
            raise ValueError("exploration must hold at least one standard deviation, got none")

    def make(self, learner: Learner, previous: Algorithm | None = None) -> ActorCritic:
        """Algorithm 1 with these settings."""
        return ActorCritic(self, learner, previous)


class ActorCritic(Algorithm):
    """Collects episodes in the environment; the critic learns their returns, and the actor climbs the critic."""

    keeps_episodes = True

    def __init__(self, config: ActorCriticConfig, learner: Learner, previous: Algorithm | None = None) -> None:
        super().__init__(learner)
        self.config: ActorCriticConfig = config
        self.critic = CriticLearner(learner, config.critic, config.max_remaining, config.clip_norm)
        self.replay = ReplayBuffer(config.replay_size)
        if (
            type(previous) is type(self)
            and previous.config.gamma == config.gamma
            and previous.critic.has_form_of(self.critic)
        ):
            # Only what has been learnt: the settings are those of this stage.
            self.critic.load_state_dict(previous.critic.state_dict())
            self.replay.load_state_dict(previous.replay.state_dict(), learner.core.device)
        self._critic_batch_size = learner.group.share(config.critic_batch_size, "critic_batch_size")
        self.collector = Collector(learner.env, learner.actor, config.gamma, config.exploration)

    def train_iteration(self, progress: Progress) -> Losses:
        """One pass through the outer loop of Algorithm 1."""
        config, generator = self.config, progress.generator
        collected = self.collector.collect(self.learner.core.num_envs, generator)  # episode execution
        self.replay.add(collected)
        for _ in range(config.critic_updates):  # policy evaluation
            losses = self.update_critic(self.replay.sample(self._critic_batch_size, generator))
        losses["rollout/return"] = collected.reward.sum() / len(collected.context)
        if progress.iteration >= config.critic_warmup:  # policy iteration
            losses |= self.update_actor(self.first_states(collected), progress)
        return losses

    def update_critic(self, batch: Transitions) -> Losses:
        """One step towards the Monte-Carlo returns, Eq. (7)."""
        return self.critic.regress(batch, self.critic_targets(batch), self.config.critic_learning_rate)

    def critic_targets(self, batch: Transitions) -> Tensor:
        """What the critic learns to predict of every step, `[S]`: its return."""
        return batch.returns

    def update_actor(self, states: Sequence[EnvState], progress: Progress) -> Losses:
        """Play from `states` by the policy, and climb the critic's value of every mask.

        The value of a mask needs nothing that comes after it. So there is a backward pass at every step, and never more
        than one step is held in memory.
        """
        learner = self.learner
        sums: list[Losses] = []
        features, targets = [], []
        for state in states:
            noise = draw_noise(state, learner, progress.generator)
            losses, visited, missing = self._climb(state, noise, progress.monitor)
            sums.append({name: torch.stack([step[name] for step in losses]).sum() for name in losses[0]})
            features += visited
            targets += missing
        decay = progress.decay(self.config.decay, self.config.critic_warmup)
        rate, count = decay * self.config.learning_rate, sum(int(num_steps(state).sum()) for state in states)
        climbed, norm = learner.descend(learner.actor_optimizer, rate, self.config.clip_norm, sums, count)
        termination = learner.update_termination(torch.cat(features), torch.cat(targets).float(), decay)
        return {**climbed, "actor/gradient_norm": norm, **termination}

    def first_states(self, collected: Transitions) -> list[EnvState]:
        """The states `s_1` of the collected episodes, longest first, in micro-batches."""
        context, mask = (x.float() / 255 for x in (collected.context, collected.mask[collected.step == 0]))
        lengths = torch.bincount(collected.scene).to(context.device)
        source, parts = self.learner.core.source, self.learner.config.accumulate
        state = source.begin_contexts(context, mask, collected.label_map, step_limit=lengths)
        return list(split_episodes(state, parts))

    def _climb(self, state: EnvState, noise: Tensor, monitor: bool) -> tuple[list[Losses], list[Tensor], list[Tensor]]:
        """Play from `state` with `noise` `[B, T, L]`, adding up the gradients of the actor.

        Returns:
            Losses of every step, summed over scenes; for every state visited what the termination unit reads there,
            and whether instances are still missing.
        """
        learner = self.learner
        core, actor = learner.core, learner.actor
        value_of = self.critic.frozen(state.context)
        with autocast(core.device, core.precision):
            features, foreground = actor.condition(state.context)
        # All steps share the context's features: their gradients are added up here, and go on backward at the end.
        shared = features.detach().requires_grad_(features.requires_grad)
        memory = actor.initial_memory(len(state))
        losses: list[Losses] = []
        visited, missing = [], []
        for t, (reached, running) in enumerate(active_counts(num_steps(state))):
            state, memory = state.select(slice(reached)), memory[:reached].clone()
            with autocast(core.device, core.precision):
                out = actor((shared[:reached], foreground[:reached]), state.accumulated_mask, memory)
            visited.append(out.termination_features)
            missing.append(state.step_count < state.num_instances)
            if running == 0:
                break
            before = state.select(slice(running))
            mean, log_variance = out.mean[:running], out.log_variance[:running]
            latent = mean + torch.exp(0.5 * log_variance) * noise[:running, t].to(mean.device)
            with autocast(core.device, core.precision):
                state = self._join_mask(before, latent, monitor)
            remaining = (before.num_instances - before.step_count).clamp_min(0)
            drawn = (mean, log_variance, latent, state.predicted_mask)
            step = Step(before.accumulated_mask, *drawn, state.potential - before.potential, remaining)
            value = value_of(step)
            monitored = self._compare_gradients(state, step, value) if monitor else {}
            losses.append({**ascend([step], [value], self.config.kl_weight), **monitored})
            state, memory = detach(state), out.memory[:running].detach()
        if shared.grad is not None:
            features.backward(shared.grad)
        return losses, visited, missing

    def _join_mask(self, state: EnvState, latent: Tensor, is_scored: bool) -> EnvState:
        """The state after the actions `latent`; scores and assignments, which climbing does without, if asked for."""
        core = self.learner.core
        if is_scored:
            return dynamics.step(state, latent, core.decoder, core.rules)[0]
        return dynamics.transition(state, latent, core.decoder)

    def _compare_gradients(self, state: EnvState, step: Step, value: Tensor) -> Losses:
        """Cosine between the action's gradients by the critic's value and by the true score, summed over scenes.

        It falls towards zero when the actor has found what the critic misjudges, even while the critic explains
        ever more of the returns.
        """
        score = self.learner.core.rules.score
        newest = state.step_count[:, None] - 1
        instance = state.assignment.gather(1, newest)[:, 0]
        scores = assigned_scores(step.predicted_mask, state.label_map, state.areas, instance, score)
        by_value, by_score = (torch.autograd.grad(x.sum(), step.latent, retain_graph=True)[0] for x in (value, scores))
        cosine = F.cosine_similarity(by_value, by_score, dim=1).sum()
        return {"critic/gradient_cosine": cosine, "rollout/score_per_instance": step.reward.sum()}

    def state_dict(self) -> dict[str, Any]:
        """Critic, replay, and the episodes under way."""
        return {
            "critic": self.critic.state_dict(),
            "replay": self.replay.state_dict(),
            "collector": self.collector.state_dict(),
        }

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore what the `state_dict` of all processes gave; with another number of them, episodes begin anew."""
        group = self.learner.group
        self.critic.load_state_dict(states[0]["critic"])
        if len(states) == group.world_size:
            own = states[group.rank]
            self.replay.load_state_dict(own["replay"], self.learner.core.device)
            self.collector.load_state_dict(own["collector"])
        else:
            collections = [state["replay"] for state in states]
            self.replay.load_share(collections, group.rank, group.world_size, self.learner.core.device)
