"""Outcome judging: a critic learns what whole label maps are worth, and the agent then chooses among several of them.

Nothing in the paper, whose critic values the next mask. What an episode comes to is known only at its end.
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
from acis_env.metrics import batch_metrics, best_dice
from agents.algorithms.base import Algorithm, AlgorithmConfig, Learner, Losses, Progress
from agents.algorithms.follow_up import FollowUp
from agents.models.outcome_critic import OutcomeCritic, OutcomeCriticConfig, label_measures
from agents.models.outcomes import OFFSETS, OutcomeChoice, OutcomeChoiceConfig

TOTAL_WEIGHT = 0.3
"""Weight of the error of the estimated number of instances, beside the cross-entropy of its logits."""
QUALITY_WEIGHT = 10.0
"""Weight of the squared error of qualities beside these two, with which they share no network."""


@dataclass(frozen=True)
class OutcomeJudgingConfig(AlgorithmConfig):
    """A critic of whole label maps; the policy and its termination unit stay as they are.

    The policy chooses its actions as it did in the stage before.
    """

    moves_actor: ClassVar[bool] = False
    needs_whole_scenes: ClassVar[bool] = True  # the context shows all instances, and the count is that of the others
    kind: tyro.conf.Suppress[Literal["outcome-judging"]] = "outcome-judging"
    learning_rate: float = 2e-3
    """Learning rate of the critic."""
    hidden: tuple[int, ...] = OutcomeCriticConfig.hidden
    """Widths of the layers between the measures of a label and its quality."""
    widths: tuple[int, ...] = OutcomeCriticConfig.widths
    """Channels of the convolutions that count instances."""
    choice: OutcomeChoiceConfig = OutcomeChoiceConfig()
    """Outcomes that the trained agent chooses from."""
    scene_batches: int = 16
    """Batches of scenes per iteration that the count is learned from; an episode is played in those of the first."""
    updates: int = 48
    """Number of updates per iteration, each on a part of these scenes and of the labels in the replay."""
    update_scenes: int = 64
    """Number of scenes per update, in all processes together."""
    update_labels: int = 512
    """Number of labels per update, in all processes together."""
    replay_size: int = 32
    """Number of batches of episodes, the newest ones, whose labels are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "scene_batches", "updates", "update_scenes", "update_labels", "replay_size")

    def _unused(self) -> dict[str, str]:
        return {"kl_weight": "the policy stays as it is"}

    def make(self, learner: Learner, previous: Algorithm | None = None) -> OutcomeJudging:
        """Outcome judging with these settings."""
        return OutcomeJudging(self, learner, previous)


class Labels(NamedTuple):
    """Labels of many label maps."""

    measures: Tensor  # [n, 12]
    qualities: Tensor  # [n] in [0, 1], Dice with the instance that each fits best


class OutcomeJudging(FollowUp):
    """Plays the policy, as it is and disturbed, to the end of its capacity; the critic learns from all prefixes.

    How many instances there are it learns from many more scenes, whose contexts alone are looked at.
    """

    def __init__(self, config: OutcomeJudgingConfig, learner: Learner, previous: Algorithm | None = None) -> None:
        super().__init__(learner, previous)
        if learner.core.rules.sequence_length is not None:
            raise ValueError(
                "sequence_length must be None where outcomes are judged, which are those of whole scenes, got "
                f"{learner.core.rules.sequence_length}"
            )
        self.config = config
        self._update_scenes, self._update_labels = (
            learner.group.share(getattr(config, name), name) for name in ("update_scenes", "update_labels")
        )
        sizes = OutcomeCriticConfig(self.capacity, config.widths, hidden=config.hidden)
        self.critic = OutcomeCritic(sizes).to(learner.core.device)
        self.optimizer = learner.adam(list(self.critic.parameters()))
        self._replay: deque[Labels] = deque(maxlen=config.replay_size)
        if isinstance(previous, OutcomeJudging) and previous.critic.config == sizes:
            self._load_learnt([previous.state_dict()] * learner.group.world_size)  # that of this process is its own

    def train_iteration(self, progress: Progress) -> Losses:
        """Play a batch of episodes, look at further scenes, and update the critic on both."""
        learner, config, generator = self.learner, self.config, progress.generator
        planes, counts = [], []
        for number in range(config.scene_batches):
            learner.env.reset()
            state = learner.core.state
            planes.append(self.critic.counting_planes(state.context))
            counts.append(state.num_instances)
            if number == 0:
                is_plain = progress.done % 2 == 0
                labels, measured = self.play(state, None if is_plain else self._disturb(generator))
                self._replay.append(labels)
        scenes = torch.cat(planes), torch.cat(counts).clamp_max(self.capacity)
        kept = Labels(*(torch.cat(parts) for parts in zip(*self._replay, strict=True)))
        rate = progress.decay(config.decay) * config.learning_rate
        for _ in range(config.updates):
            some = _draw(len(scenes[0]), self._update_scenes, generator, scenes[0].device)
            rows = _draw(len(kept.qualities), self._update_labels, generator, kept.qualities.device)
            shown = turned(scenes[0][some], generator)
            losses = self.update(shown, scenes[1][some], Labels(*(x[rows] for x in kept)), rate)
        return losses | measured

    def update(self, planes: Tensor, counts: Tensor, labels: Labels, rate: float) -> Losses:
        """One step towards the numbers of instances `counts` `[n]` in `planes`, and the qualities of `labels`."""
        logits, total = self.critic.count_logits(planes)
        count_loss = F.cross_entropy(logits, counts, reduction="sum")
        total_loss = F.smooth_l1_loss(total, counts.to(total), reduction="sum")
        errors = self.critic.qualities(labels.measures) - labels.qualities
        quality_loss = errors.square().sum() * (len(counts) / max(len(labels.qualities), 1))
        (count_loss + TOTAL_WEIGHT * total_loss + QUALITY_WEIGHT * quality_loss).backward()
        median = (logits.detach().softmax(1).cumsum(1) < 0.5).sum(1)
        sums = {
            "outcomes/count_loss": count_loss.detach(),
            "outcomes/count_error": (median - counts).abs().sum().to(total),
            "outcomes/quality_error": quality_loss.detach(),
        }
        losses, _ = self.learner.descend(self.optimizer, rate, self.config.clip_norm, [sums], len(counts))
        return losses

    @torch.no_grad()
    def play(self, state: EnvState, offsets: Tensor | None = None) -> tuple[Labels, Losses]:
        """Let the policy make as many masks in every scene of `state` as the fullest scene has instances.

        Returns:
            The labels of all prefixes, and the mean SBD of the prefixes that the critic chooses, and of the best ones.
        """
        core, most = self.learner.core, state.areas.shape[1]
        known = self.critic.condition(state.context)
        masks = state.context[:, :0].float()
        measures, qualities, values, true = [], [], [], []
        for t, (visited, _) in enumerate(self.play_out(state, offsets)):
            label_maps = dynamics.label_prediction(visited, core.threshold)
            true.append(batch_metrics(label_maps, state.label_map, self.capacity, most)["sbd"])
            if t > 0:
                masks = torch.cat([masks, visited.predicted_mask], dim=1)
            found, present = label_measures(known, masks, core.threshold)
            values.append(self.critic.value(known, found, present))
            fits, areas = best_dice(label_maps, state.label_map, self.capacity, most)
            counts = present & (areas[:, :t] > 0)  # a label on ignored pixels alone has no quality
            measures.append(found[counts])
            qualities.append(fits[:, :t][counts])
        scores = torch.stack(true)
        chosen = scores.gather(0, torch.stack(values).argmax(0, keepdim=True))
        measured = {"outcomes/chosen": chosen.mean(), "outcomes/best": scores.amax(0).mean()}
        return Labels(torch.cat(measures), torch.cat(qualities)), measured

    def _disturb(self, generator: torch.Generator) -> Tensor:
        """What an episode adds to the policy's means, `[T, L]`."""
        noise = torch.randn(OFFSETS, self.learner.core.decoder.latent_size, generator=generator)
        return self.config.choice.spread * noise

    @property
    def outcomes(self) -> OutcomeChoice | None:
        """The critic's choice, once it has begun to learn."""
        return OutcomeChoice(self.critic, self.learner.core.decoder, self.config.choice) if self._replay else None

    def state_dict(self) -> dict[str, Any]:
        """Critic and replay, and the stage before, which chooses the actions."""
        return {
            **super().state_dict(),
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "replay": [tuple(x.cpu() for x in labels) for labels in self._replay],
        }

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore what the `state_dict` of all processes gave; another number of them shares out the labels."""
        super().load_state_dict(states)
        self._load_learnt(states)

    def _load_learnt(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore critic, optimiser and labels alone."""
        group, device = self.learner.group, self.learner.core.device
        self.critic.load_state_dict(states[0]["critic"])
        self.optimizer.load_state_dict(states[0]["optimizer"])
        self._replay.clear()
        for rows in group.share_rows([state["replay"] for state in states]):
            self._replay.append(Labels(*(x.to(device) for x in rows)))


def turned(planes: Tensor, generator: torch.Generator) -> Tensor:
    """`planes` from `OutcomeCritic.counting_planes`, flipped and transposed at random: all of a batch in the same way.

    A picture with the sides exchanged has as many instances, and so has its mirror image. Vectors turn with it.
    """
    flip_rows, flip_columns, transpose = (torch.rand(3, generator=generator) < 0.5).tolist()
    image, down, right = planes[:, :4], planes[:, 4:5], planes[:, 5:6]
    if flip_rows:
        image, down, right = image.flip(2), -down.flip(2), right.flip(2)
    if flip_columns:
        image, down, right = image.flip(3), down.flip(3), -right.flip(3)
    if transpose:
        image, down, right = image.mT, right.mT, down.mT
    return torch.cat([image, down, right], dim=1)


def _draw(total: int, number: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """At most `number` of `total` rows, at random."""
    return torch.randperm(total, generator=generator)[:number].to(device)
