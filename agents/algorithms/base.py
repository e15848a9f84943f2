"""What all algorithms share: the actor, its optimisers, the environment, and the clipped step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.autoencoder import kl_to_prior
from acis_env.configs import check_at_least, check_positive
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import Pretrained
from agents.algorithms.distributed import SINGLE_PROCESS, ProcessGroup
from agents.algorithms.rollout import Step
from agents.models.actor import Actor, ActorConfig
from agents.models.outcomes import OutcomeChoice
from agents.models.selection import ActionSelection

Losses = dict[str, Tensor]
"""Detached scalars by TensorBoard tag."""

VectorEnv = gym.vector.VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class LearnerConfig:
    """Settings that the algorithms of a run share."""

    actor: ActorConfig = ActorConfig()
    """Sizes of the actor."""
    start_from_encoder: bool = True
    """Begin actor and critic as copies of the autoencoder's encoder; False is the paper's random start."""
    weight_decay: float = 0.0
    """L2 penalty in Adam, on the weights of actor and critic."""
    termination_updates: int = 8
    """Number of updates of the termination unit per actor update."""
    termination_learning_rate: float = 3e-3
    """Learning rate of the termination unit, which has its own optimiser; falls with the actor's."""
    accumulate: int = 1
    """Number of micro-batches per update, for small GPUs: each process goes through its scenes in so many parts."""
    compile: bool = False
    """Compile actor and critic (`torch.compile`), which takes a minute or two; whether it pays was not measured."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "accumulate", "termination_updates")
        check_at_least(0, self, "weight_decay")
        check_at_least(0, self, "termination_learning_rate")
        if self.start_from_encoder and not self.actor.skip:
            raise ValueError("start_from_encoder needs actor.skip, got False")


@dataclass(frozen=True)
class Progress:
    """Where a stage of training stands, and the random numbers of its next iteration."""

    iteration: int  # place in the stage's schedule, from 0; where the time is limited, some are skipped or repeated
    iterations: int  # length of the stage's schedule
    generator: torch.Generator  # on the host
    monitor: bool = False  # whether to also measure what costs extra
    done: int = 0  # iterations of the stage that were made before this one

    def decay(self, steps: Sequence[tuple[float, float]], warmup: int = 0) -> float:
        """The factor of the learning rates: that of the last of `steps` (share, factor) whose share is done."""
        share = (self.iteration - warmup) / max(self.iterations - warmup, 1)
        return next((factor for start, factor in reversed(steps) if share >= start), 1.0)


class Learner:
    """The actor of a run with its optimisers, and the environment that it learns in; the decoder stays frozen.

    The gradients of micro-batches and of the processes of `group` are added up, so that the actors of all processes
    are and remain the same.

    Attributes:
        env: steps episodes; may be wrapped, with automatic resets disabled.
        core: the `SegmentationVectorEnv` inside of it, for its decoder, its rules and the states of its episodes.
    """

    def __init__(self, env: VectorEnv, config: LearnerConfig, group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.env, self.core = env, core_of(env)
        self.config, self.group = config, group
        self.pretrained = pretrained_of(self.core)
        autoencoder = self.pretrained.autoencoder
        self.actor = Actor(autoencoder.config, config.actor).to(self.core.device)
        if config.start_from_encoder:
            self.actor.start_from(autoencoder.encoder)
        if config.compile:
            self.actor.compile(dynamic=True)  # fewer scenes are left from step to step
        self.renew_actor_optimizer()
        self.renew_termination_optimizer()

    def adam(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Adam:
        """An optimiser of `parameters`; each step sets its learning rate."""
        return torch.optim.Adam(parameters, weight_decay=self.config.weight_decay, fused=True)

    def renew_actor_optimizer(self) -> None:
        """Forget the moments of the actor's gradients."""
        self.actor_optimizer = self.adam(self.actor.policy_parameters())

    def renew_termination_optimizer(self) -> None:
        """Forget the moments of the termination unit's gradients."""
        self.termination_optimizer = torch.optim.Adam(self.actor.termination.parameters(), fused=True)

    def descend(
        self, optimizer: torch.optim.Adam, learning_rate: float, clip_norm: float, sums: Sequence[Losses], count: float
    ) -> tuple[Losses, Tensor]:
        """One clipped step along the mean gradient of all processes.

        Args:
            optimizer: its parameters hold the gradient of this process's loss, a sum over `count` terms.
            learning_rate: learning rate of this step.
            clip_norm: largest norm of the mean gradient.
            sums: for every micro-batch its losses, summed over terms.
            count: number of terms in this process.

        Returns:
            The losses, averaged over the terms of all processes, and the norm before clipping.

        Raises:
            FloatingPointError: a loss or the gradient is not finite; weights and moments have not been changed then.
        """
        parameters: list[nn.Parameter] = optimizer.param_groups[0]["params"]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        totals = torch.stack([torch.stack(list(losses.values())) for losses in sums]).sum(0)
        terms = totals.new_tensor([count])
        self.group.sum([*gradients, totals, terms])
        for tensor in (*gradients, totals):
            tensor /= terms
        norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
        if not torch.isfinite(norm + totals.sum()):
            optimizer.zero_grad(set_to_none=True)
            found = ", ".join(f"{name} {value:.3g}" for name, value in zip(sums[0], totals.tolist(), strict=True))
            raise FloatingPointError(f"{found} with gradient norm {norm.item():.3g}; lower the learning rate")
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return dict(zip(sums[0], totals.unbind(), strict=True)), norm.detach()

    def update_termination(self, features: Tensor, targets: Tensor, decay: float) -> Losses:
        """A few steps of the termination unit, which is small and trails a policy that moves under it.

        Args:
            features: `[V, r]`, its inputs in all states visited.
            targets: `[V]`, 1 where instances are still missing, else 0.
            decay: factor of the learning rate.

        Returns:
            The loss before the last of the steps.
        """
        rate = decay * self.config.termination_learning_rate
        for _ in range(self.config.termination_updates):
            logits = self.actor.continue_logit(features)
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            loss.backward()
            sums = [{"termination/loss": loss.detach()}]
            losses, _ = self.descend(self.termination_optimizer, rate, 1.0, sums, len(targets))
        return losses

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
            "actor_optimizer": self.actor_optimizer,
            "termination_optimizer": self.termination_optimizer,
        }


@dataclass(frozen=True)
class AlgorithmConfig(ABC):
    """What the configurations of all algorithms have; each adds a field `kind`, the name it is saved under."""

    moves_actor: ClassVar[bool] = True
    """Whether the policy learns, and not a critic or the termination unit alone."""
    needs_whole_scenes: ClassVar[bool] = False
    """Whether it cannot learn where some instances of a scene are given away (`sequence_length`)."""

    learning_rate: float = 3e-4
    """Learning rate of the actor."""
    decay: tuple[tuple[float, float], ...] = ((0.7, 0.3), (0.9, 0.1))
    """Pairs (share, factor): from this share of the stage on, learning rates are multiplied by this factor; that of the
    critic of masks (`ActorCriticConfig`) stays as it is."""
    kl_weight: float = 0.0
    """Weight of the KL divergence of the policy from the latent prior."""
    clip_norm: float = 1.0
    """Largest norm of a gradient; longer ones are scaled down to it."""

    def __post_init__(self) -> None:
        check_positive(self, "clip_norm")
        check_at_least(0, self, "learning_rate")
        check_at_least(0, self, "kl_weight")
        for pair in self.decay:
            if not all(number >= 0 for number in pair):
                raise ValueError(f"decay must be pairs (share, factor), none negative, got {self.decay}")
        shares = [share for share, _ in self.decay]
        if shares != sorted(shares) or any(share > 1 for share in shares):
            raise ValueError(f"decay must have rising shares of at most 1, got {self.decay}")
        for name, where in self._unused().items():
            default, value = getattr(type(self), name), getattr(self, name)
            if value != default:
                raise ValueError(f"{name} has no effect where {where}: expected the default {default}, got {value}")

    def _unused(self) -> dict[str, str]:
        """Fields that have no effect, with the reason; setting one is an error."""
        return {}

    @property
    def sums_pixels(self) -> bool:
        """Whether the actor's loss is a sum over pixels, with gradients thousands of times those of a score."""
        return False

    @abstractmethod
    def make(self, learner: Learner, previous: Algorithm | None = None) -> Algorithm:
        """The algorithm of this configuration; goes on with the critic of `previous` if that learned the same."""


class Algorithm(ABC):
    """One way to learn. A stage of training calls `train_iteration` again and again.

    Attributes:
        keeps_episodes: whether episodes of the environment go on from one iteration to the next.
    """

    keeps_episodes: ClassVar[bool] = False

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    @abstractmethod
    def train_iteration(self, progress: Progress) -> Losses:
        """Gather experience and learn from it: one pass through the outer loop of training."""

    @property
    def selection(self) -> ActionSelection | None:
        """How the trained agent chooses its actions; None: it takes the policy's mean."""
        return None

    @property
    def outcomes(self) -> OutcomeChoice | None:
        """How it chooses among whole episodes; None: it plays one, and its termination unit ends it."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """All that the algorithm needs to go on beside the learner's weights; every process has to ask."""
        return {}

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027  (most need nothing)
        """Restore what the `state_dict` of every process gave, perhaps with another number of processes."""


def ascend(steps: Sequence[Step], terms: Sequence[Tensor], kl_weight: float) -> Losses:
    """Add the gradients that raise the sum of `terms`, each `[k]` of a step, less the weighted KL term.

    Returns:
        Sums over all steps and scenes of the objective, the KL divergence and the policy's standard deviation.
    """
    objective = torch.cat(list(terms)).sum()
    mean, log_variance = (torch.cat([getattr(step, name) for step in steps]) for name in ("mean", "log_variance"))
    kl = kl_to_prior(mean, log_variance).sum()
    (kl_weight * kl - objective).backward()
    return {
        "actor/objective": objective.detach(),
        "actor/kl": kl.detach(),
        "actor/latent_std": torch.exp(0.5 * log_variance.detach()).mean(1).sum(),
    }


def core_of(env: VectorEnv) -> SegmentationVectorEnv:
    """The environment inside all wrappers.

    Raises:
        ValueError: it is of another kind, or resets itself.
    """
    core = env.unwrapped
    if not isinstance(core, SegmentationVectorEnv):
        raise ValueError(f"env must be a SegmentationVectorEnv, wrapped or not, got {type(core).__name__}")
    if core.autoreset_mode is not AutoresetMode.DISABLED:
        raise ValueError(f'env must have autoreset_mode="Disabled", got {core.autoreset_mode.value!r}')
    return core


def pretrained_of(core: SegmentationVectorEnv) -> Pretrained:
    """The networks of an environment, in which our agents need the autoencoder whole.

    Raises:
        ValueError: the environment was made with a decoder or a context of one's own.
    """
    pretrained = core.pretrained
    if pretrained is None or core.arguments.get("decoder") is not None:
        raise ValueError(
            "env must be made with the weights of `acis pretrain`: the agents of this package begin as the encoder of "
            "its decoder; got a decoder of one's own"
        )
    return pretrained
