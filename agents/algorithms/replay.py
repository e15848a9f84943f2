"""Experience for the critic: the steps of the last batches of episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from acis_env.ops.planes import to_uint8
from agents.algorithms.distributed import SINGLE, Group
from agents.algorithms.rollout import Episodes, discounted_returns
from agents.algorithms.search import Candidates


@dataclass(frozen=True)
class Transitions:
    """`S` of the `total` steps of a batch; the others belong to other micro-batches or processes.

    Contexts and masks are kept as uint8 in [0, 255], as observations are.
    """

    context: Tensor  # [B, 12, H, W] uint8, once per scene
    scene: Tensor  # [S] int64 on the host, the step's row in `context`
    mask: Tensor  # [S, 1, H, W] uint8, M_t
    predicted_mask: Tensor  # [S, K, H, W] uint8, m_t; several where candidates are compared
    remaining: Tensor  # [S] int64, steps left including this one
    reward: Tensor  # [S], r_t
    returns: Tensor  # [S], sum of gamma^(i-t) r_i; [S, K] of candidates
    number: Tensor  # [S] int64 on the host, of the step among all steps of the batch
    total: int

    def __len__(self) -> int:
        return len(self.scene)

    def select(self, rows: Tensor) -> Transitions:
        """The steps `rows` `[S']` int64 on the host, with the contexts they need."""
        used, scene = self.scene[rows].unique(return_inverse=True)
        rows_there, used_there = rows.to(self.context.device), used.to(self.context.device)
        picked = {name: getattr(self, name)[rows_there] for name in DEVICE_COLUMNS}
        return replace(self, context=self.context[used_there], scene=scene, number=self.number[rows], **picked)

    def split(self, parts: int) -> list[Transitions]:
        """Micro-batches of nearly equal size."""
        return [self] if parts == 1 else [self.select(rows) for rows in torch.arange(len(self)).tensor_split(parts)]

    def to(self, device: torch.device | str) -> Transitions:
        """A copy whose contexts, masks and numbers to learn from are on `device`."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("context", *DEVICE_COLUMNS)})


DEVICE_COLUMNS = ("mask", "predicted_mask", "remaining", "reward", "returns")
"""What `Transitions` hold of each step on the device of the networks."""


def transitions(
    episodes: Episodes, gamma: float, number: Tensor | None = None, total: int | None = None
) -> Transitions:
    """Flatten finished episodes, with their Monte-Carlo returns.

    Args:
        episodes: of the scenes of a micro-batch.
        gamma: discount per step.
        number: `[S]` int64 on the host, of each step in the batch; None if these are all its steps.
        total: steps of the batch; None likewise.
    """
    steps = episodes.steps
    scene = torch.cat([torch.arange(len(step.reward)) for step in steps])
    return Transitions(
        context=to_uint8(episodes.context),
        scene=scene,
        mask=torch.cat([to_uint8(step.mask) for step in steps]),
        predicted_mask=torch.cat([to_uint8(step.predicted_mask) for step in steps]),
        remaining=torch.cat([step.remaining for step in steps]),
        reward=torch.cat([step.reward for step in steps]),
        returns=torch.cat(discounted_returns(episodes, gamma)),
        number=torch.arange(len(scene)) if number is None else number,
        total=len(scene) if total is None else total,
    )


def comparisons(
    episodes: Episodes, tried: Sequence[Candidates], number: Tensor | None = None, total: int | None = None
) -> Transitions:
    """The states of finished episodes, each with all candidates that were tried in it and with what these are worth.

    Args:
        episodes: of the scenes of a micro-batch.
        tried: at every step.
        number: `[S]` int64 on the host, of each state in the batch; None if these are all its states.
        total: states of the batch; None likewise.
    """
    masks = torch.cat([to_uint8(candidates.masks[:, :, 0]).transpose(0, 1) for candidates in tried])
    values = torch.cat([candidates.values.T for candidates in tried])
    return replace(transitions(episodes, 0.0, number, total), predicted_mask=masks, returns=values)


def join(parts: Sequence[Transitions]) -> Transitions:
    """The steps of all `parts` of one batch, in the order of their numbers."""
    if len(parts) == 1:
        return parts[0]
    offsets = [sum(len(part.context) for part in parts[:i]) for i in range(len(parts))]
    columns = {f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Transitions)[:-1]}
    columns["scene"] = torch.cat([part.scene + offset for part, offset in zip(parts, offsets, strict=True)])
    joined = Transitions(**columns, total=parts[0].total)
    order = joined.number.argsort()
    return joined if torch.equal(order, torch.arange(len(order))) else joined.select(order)


class ReplayBuffer:
    """The last `capacity` batches of episodes, of which each process keeps the steps of its own scenes."""

    def __init__(self, capacity: int, group: Group = SINGLE) -> None:
        self._batches: deque[Transitions] = deque(maxlen=capacity)
        self._group = group

    def add(self, batch: Transitions) -> None:
        """Append a batch; the oldest one leaves when the buffer is full."""
        self._batches.append(batch)

    def sample(self, size: int, generator: torch.Generator) -> Transitions:
        """Draw `size` steps uniformly (all of them if there are fewer), with the contexts they need.

        With equal generators all processes draw the same steps, and each gets those it keeps.

        Raises:
            ValueError: the buffer is empty.
        """
        if not self._batches:
            raise ValueError("the replay buffer is empty: add episodes before sampling")
        lengths = [batch.total for batch in self._batches]
        chosen = torch.randperm(sum(lengths), generator=generator)[:size].sort().values
        parts: list[Transitions] = []
        start = 0
        for batch, length in zip(self._batches, lengths, strict=True):
            number = batch.number + start
            part = batch.select(torch.isin(number, chosen, assume_unique=True).nonzero()[:, 0])
            parts.append(replace(part, number=torch.searchsorted(chosen, part.number + start), total=len(chosen)))
            start += length
        return join(parts)

    def state_dict(self) -> list[dict[str, Tensor]]:
        """All steps of all batches, for a checkpoint; every process has to ask, and the main one gets them."""
        shares = self._group.gather([batch.to("cpu") for batch in self._batches])
        batches = [join(parts) for parts in zip(*shares, strict=True)]
        return [{name: getattr(batch, name) for name in ("context", "scene", *DEVICE_COLUMNS)} for batch in batches]

    def load_state_dict(self, state: list[dict[str, Tensor]], device: torch.device | str = "cpu") -> None:
        """Replace the content by that of a checkpoint, or rather by this process's share, on `device`."""
        self._batches.clear()
        for values in state:
            count = len(values["scene"])
            whole = Transitions(**values, number=torch.arange(count), total=count)
            is_own = whole.scene % self._group.world_size == self._group.rank
            self._batches.append(whole.select(is_own.nonzero()[:, 0]).to(device))
