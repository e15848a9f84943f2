"""The paper's baseline: every mask is compared with the instance that it is assigned, and nobody looks ahead.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, section 5.1: BL and BL-Trunc; Eq. (2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from acis_env.configs import check_at_least, check_choice
from acis_env.dynamics import EnvState
from acis_env.refinement import RefiningDecoder
from agents.algorithms.base import Algorithm, AlgorithmConfig, Learner, Losses, Progress, ascend
from agents.algorithms.rollout import ChooseActions, Episodes, choose_mean, run_episodes, sampler, split_episodes


@dataclass(frozen=True)
class BaselineConfig(AlgorithmConfig):
    """Supervision of every mask by the instance that max-matching assigns to it (BL, BL-Trunc)."""

    kind: tyro.conf.Suppress[Literal["baseline"]] = "baseline"
    learning_rate: float = 2e-3
    """Learning rate of the actor."""
    objective: Literal["cross-entropy", "score"] = "score"
    """cross-entropy: summed over pixels, as in the paper. score: the environment's score, soft Dice or IoU or one's
    own, which has to be differentiable."""
    bptt_steps: int | None = 1
    """Steps after which the gradient through mask and memory is cut (1: BL-Trunc). None: it runs through the whole
    episode (BL)."""
    sample: bool = False
    """Act by samples of the policy instead of its mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "objective")
        check_at_least(1, self, "bptt_steps")

    @property
    def sums_pixels(self) -> bool:
        """Whether the objective is the cross-entropy."""
        return self.objective == "cross-entropy"

    def make(self, learner: Learner, previous: Algorithm | None = None) -> Baseline:
        """The baseline with these settings."""
        return Baseline(self, learner)


class Baseline(Algorithm):
    """Plays whole episodes and follows the gradient of every mask's agreement with its instance.

    Assignments are final when episodes are over. So one backward pass goes through all steps.
    """

    def __init__(self, config: BaselineConfig, learner: Learner) -> None:
        super().__init__(learner)
        self.config: BaselineConfig = config
        if config.objective == "cross-entropy" and isinstance(learner.core.decoder, RefiningDecoder):
            # The gradient of a cross-entropy needs the very probability that it is passed on through.
            raise ValueError('objective must be "score" where masks are refined, got "cross-entropy" with refine=True')

    def train_iteration(self, progress: Progress) -> Losses:
        """Begin an episode in every slot, play all of them, and take one step."""
        self.learner.env.reset()
        return self.update_actor(split_episodes(self.learner.core.state, self.learner.config.accumulate), progress)

    def update_actor(self, states: Iterable[EnvState], progress: Progress) -> Losses:
        """One step of the actor up the objective of whole episodes from `states`, micro-batch by micro-batch."""
        decay = progress.decay(self.config.decay)
        played, sums = [], []
        for state in states:
            episodes = self.play(state, progress.generator)
            losses = ascend(episodes.steps, self.terms(episodes), self.config.kl_weight)
            sums.append({**losses, **reached(episodes)})
            played.append(episodes)
        return step_actor(self, self.config, played, sums, decay)

    def play(self, state: EnvState, generator: torch.Generator) -> Episodes:
        """Play whole episodes from `state`, with gradients to the actor."""
        learner = self.learner
        core, choose = learner.core, self.choose(state, generator)
        return run_episodes(
            learner.actor, core.decoder, state, core.rules, choose, self.config.bptt_steps, core.precision
        )

    def choose(self, state: EnvState, generator: torch.Generator) -> ChooseActions:
        """How actions are taken in the episodes of `state`."""
        return sampler(draw_noise(state, self.learner, generator)) if self.config.sample else choose_mean

    def terms(self, episodes: Episodes) -> list[Tensor]:
        """What every step adds to the objective, `T` tensors `[k]`."""
        steps = range(len(episodes.steps))
        if self.config.objective == "score":
            return [episodes.scores(t, self.learner.core.rules.score) for t in steps]
        masks = (step.predicted_mask for step in episodes.steps)
        return [-cross_entropy(mask, episodes.targets(t), episodes.ignored(t)) for t, mask in enumerate(masks)]


def step_actor(
    algorithm: Algorithm, config: AlgorithmConfig, played: list[Episodes], sums: list[Losses], decay: float
) -> Losses:
    """One step of the actor, whose gradients have been added up, and a few of its termination unit.

    Args:
        algorithm: has the learner.
        config: gives the learning rate and the largest norm of the gradient.
        played: the episodes of every micro-batch.
        sums: their losses, summed over steps; see `reached`.
        decay: factor of the learning rates.
    """
    learner = algorithm.learner
    rate, count = decay * config.learning_rate, sum(episodes.num_steps for episodes in played)
    losses, norm = learner.descend(learner.actor_optimizer, rate, config.clip_norm, sums, count)
    num_episodes = losses.pop("episodes")
    losses["rollout/return"] = losses["rollout/score_per_instance"] / num_episodes
    features, targets = (
        torch.cat([getattr(e, name) for e in played]) for name in ("termination_features", "continue_targets")
    )
    return {**losses, "actor/gradient_norm": norm, **learner.update_termination(features, targets, decay)}


def reached(episodes: Episodes) -> Losses:
    """Sum up what `episodes` reached; `step_actor` makes means of it."""
    potential = episodes.potential.sum()
    return {"rollout/score_per_instance": potential, "episodes": potential.new_tensor(len(episodes))}


def draw_noise(state: EnvState, learner: Learner, generator: torch.Generator) -> Tensor:
    """Standard normal numbers `[B, T, L]`, on the host, for the actions of the episodes of `state`."""
    return torch.randn(len(state), state.scores.shape[1], learner.core.decoder.latent_size, generator=generator)


def cross_entropy(masks: Tensor, targets: Tensor, ignored: Tensor) -> Tensor:
    """Binary cross-entropy of `masks` with `targets`, both `[k, 1, H, W]`, summed over pixels not `ignored`: `[k]`."""
    clamped = masks.clamp(1e-6, 1 - 1e-6)
    return F.binary_cross_entropy(clamped, targets, reduction="none").masked_fill(ignored, 0).sum((1, 2, 3))
