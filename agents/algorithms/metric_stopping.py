"""Metric stopping: the termination unit learns to stop where the label map is best, whatever the count says.

Nothing in the paper, whose unit learns whether instances are missing: the wrong lesson once a mask went astray.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from acis_env import dynamics
from acis_env.configs import check_at_least
from acis_env.dynamics import EnvState
from acis_env.metrics import METRIC_NAMES, batch_metrics
from agents.algorithms.base import Algorithm, AlgorithmConfig, Learner, Losses, Progress
from agents.algorithms.follow_up import FollowUp


@dataclass(frozen=True)
class MetricStoppingConfig(AlgorithmConfig):
    """The termination unit alone, trained to make a measure of the label map as large as possible.

    The policy stays as it is, and chooses its actions as it did in the stage before.
    """

    moves_actor: ClassVar[bool] = False
    kind: tyro.conf.Suppress[Literal["metric-stopping"]] = "metric-stopping"
    learning_rate: float = 2e-3
    """Learning rate of the termination unit."""
    metric: str = "sbd"
    """Measure of `acis_env.metrics` that is to be large."""
    count_price: float = 0.0
    """What each instance too many or too few costs beside it."""
    updates: int = 24
    """Number of updates per iteration."""
    replay_size: int = 32
    """Number of batches of episodes, the newest ones, that each update goes through."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "updates", "replay_size")
        check_at_least(0, self, "count_price")
        if self.metric not in METRIC_NAMES:
            raise ValueError(f"metric must be one of {', '.join(METRIC_NAMES)}, got {self.metric!r}")

    def _unused(self) -> dict[str, str]:
        return {"kl_weight": "the policy stays as it is"}

    def make(self, learner: Learner, previous: Algorithm | None = None) -> MetricStopping:
        """Metric stopping with these settings."""
        return MetricStopping(self, learner, previous)


class Prefixes(NamedTuple):
    """What comes of stopping after 0, 1, ... `T` masks in the episodes of `B` scenes."""

    features: Tensor  # [T + 1, B, r], what the termination unit reads
    values: Tensor  # [T + 1, B], measures of the label maps


class MetricStopping(FollowUp):
    """Plays the policy to the end of its capacity, and learns which prefix of its masks to keep.

    One episode tells what every decision to stop would have been worth. So the expected measure and its gradient are
    exact, without a sample.
    """

    def __init__(self, config: MetricStoppingConfig, learner: Learner, previous: Algorithm | None = None) -> None:
        super().__init__(learner, previous)
        self.config = config
        self._replay: deque[Prefixes] = deque(maxlen=config.replay_size)
        if not isinstance(previous, MetricStopping):
            # Gradients of the cross-entropy before are ten times as long, and Adam would remember them all through.
            learner.renew_termination_optimizer()

    def train_iteration(self, progress: Progress) -> Losses:
        """Play a batch of episodes, and update the unit on it and on those before."""
        learner = self.learner
        learner.env.reset()
        self._replay.append(self.play(learner.core.state))
        features, values = (torch.cat(parts, dim=1) for parts in zip(*self._replay, strict=True))
        rate = progress.decay(self.config.decay) * self.config.learning_rate
        best, count = values.amax(0).sum(), values.shape[1]
        for _ in range(self.config.updates):
            expected = expected_value(learner.actor.continue_logit(features), values).sum()
            (-expected).backward()
            sums = [{"termination/expected": expected.detach(), "termination/best": best}]
            losses, _ = learner.descend(learner.termination_optimizer, rate, self.config.clip_norm, sums, count)
        return losses

    @torch.no_grad()
    def play(self, state: EnvState) -> Prefixes:
        """Let the policy make as many masks in every scene of `state` as the fullest scene has instances."""
        features, values = [], []
        for visited, out in self.play_out(state):
            features.append(out.termination_features)
            values.append(self.value(visited))
        return Prefixes(torch.stack(features), torch.stack(values))

    def value(self, state: EnvState) -> Tensor:
        """What the label maps so far are worth, `[B]`."""
        label_maps = dynamics.label_prediction(state, self.learner.core.threshold)
        measures = batch_metrics(label_maps, state.label_map, self.capacity, state.areas.shape[1])
        return measures[self.config.metric] - self.config.count_price * measures["abs_dic"]

    def state_dict(self) -> dict[str, Any]:
        """Replay, and the stage before, which chooses the actions."""
        return {**super().state_dict(), "replay": [tuple(x.cpu() for x in prefixes) for prefixes in self._replay]}

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore what the `state_dict` of all processes gave; with another number of them, the replay begins anew."""
        super().load_state_dict(states)
        group, device = self.learner.group, self.learner.core.device
        self._replay.clear()
        if len(states) == group.world_size:
            for features, values in states[group.rank]["replay"]:
                self._replay.append(Prefixes(features.to(device), values.to(device)))


def expected_value(continue_logits: Tensor, values: Tensor) -> Tensor:
    """Mean value of the prefix at which an episode is stopped, `[B]`.

    Args:
        continue_logits: `[T + 1, B]`, logits of going on after 0, 1, ... masks; the last does not matter, since an
            episode ends there.
        values: `[T + 1, B]`, of stopping after so many.
    """
    goes_on = F.logsigmoid(continue_logits[:-1])
    reaches = torch.cat([torch.zeros_like(goes_on[:1]), goes_on.cumsum(0)])  # log-probabilities
    stops = torch.cat([F.logsigmoid(-continue_logits[:-1]), torch.zeros_like(goes_on[:1])])
    return ((reaches + stops).exp() * values).sum(0)
