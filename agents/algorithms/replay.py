"""Experience for a critic: the steps of finished episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from acis_env.ops.planes import to_uint8
from agents.algorithms.rollout import Episodes, discounted_returns


@dataclass(frozen=True)
class Transitions:
    """`S` steps of `E` episodes. Contexts and masks are kept as uint8 in [0, 255], as observations are."""

    context: Tensor  # [E, 12, H, W] uint8, once per episode
    label_map: Tensor  # [E, H, W] integers, -1 = ignored
    scene: Tensor  # [S] int64 on the host, the step's row in `context`
    step: Tensor  # [S] int64 on the host, t from 0 on
    mask: Tensor  # [S, 1, H, W] uint8, M_t
    predicted_mask: Tensor  # [S, 1, H, W] uint8, m_t
    remaining: Tensor  # [S] int64, instances missing before this mask
    reward: Tensor  # [S], r_t
    returns: Tensor  # [S], sum of gamma^(i-t) r_i

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.scene)

    def select(self, rows: Tensor) -> Transitions:
        """The steps `rows` `[S']` int64 on the host, with the contexts that they need."""
        used, scene = self.scene[rows].unique(return_inverse=True)
        rows_there, used_there = rows.to(self.context.device), used.to(self.context.device)
        picked = {name: getattr(self, name)[rows_there] for name in STEP_COLUMNS}
        contexts, label_maps = self.context[used_there], self.label_map[used_there]
        return replace(self, context=contexts, label_map=label_maps, scene=scene, step=self.step[rows], **picked)

    def split(self, parts: int) -> list[Transitions]:
        """Micro-batches of nearly equal size."""
        return [self] if parts == 1 else [self.select(rows) for rows in torch.arange(len(self)).tensor_split(parts)]

    def to(self, device: torch.device | str) -> Transitions:
        """A copy with everything that networks read on `device`."""
        return replace(
            self, **{name: getattr(self, name).to(device) for name in ("context", "label_map", *STEP_COLUMNS)}
        )

    def tensors(self) -> dict[str, Tensor]:
        """All columns by name, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


STEP_COLUMNS = ("mask", "predicted_mask", "remaining", "reward", "returns")
"""What `Transitions` hold of each step on the device of the networks."""


def transitions(episodes: Episodes, gamma: float) -> Transitions:
    """The steps of `episodes` with their Monte-Carlo returns, discounted by `gamma` per step."""
    steps = episodes.steps
    counts = [len(step.reward) for step in steps]
    return Transitions(
        context=to_uint8(episodes.context),
        label_map=episodes.label_map,
        scene=torch.cat([torch.arange(count) for count in counts]),
        step=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
        mask=torch.cat([to_uint8(step.mask) for step in steps]),
        predicted_mask=torch.cat([to_uint8(step.predicted_mask) for step in steps]),
        remaining=torch.cat([step.remaining for step in steps]),
        reward=torch.cat([step.reward for step in steps]),
        returns=torch.cat(discounted_returns(episodes, gamma)),
    )


def join(parts: Sequence[Transitions]) -> Transitions:
    """The steps of all `parts`, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    offsets = [sum(len(part.context) for part in parts[:i]) for i in range(len(parts))]
    columns = {f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Transitions)}
    columns["scene"] = torch.cat([part.scene + offset for part, offset in zip(parts, offsets, strict=True)])
    return Transitions(**columns)


class ReplayBuffer:
    """The last `capacity` collections of experience of this process."""

    def __init__(self, capacity: int) -> None:
        self._collections: deque[Transitions] = deque(maxlen=capacity)

    def add(self, collected: Transitions) -> None:
        """Append a collection; the oldest one leaves when the buffer is full."""
        self._collections.append(collected)

    def sample(self, size: int, generator: torch.Generator) -> Transitions:
        """Draw `size` steps uniformly (all of them if there are fewer), with the contexts that they need.

        Raises:
            ValueError: the buffer is empty.
        """
        if not self._collections:
            raise ValueError("the replay buffer is empty: add episodes before sampling")
        lengths = [len(collected) for collected in self._collections]
        chosen = torch.randperm(sum(lengths), generator=generator)[:size].sort().values
        ends = torch.tensor(lengths).cumsum(0)
        parts = []
        for collected, length, end in zip(self._collections, lengths, ends.tolist(), strict=True):
            rows = chosen[(chosen >= end - length) & (chosen < end)] - (end - length)
            if len(rows):
                parts.append(collected.select(rows))
        return join(parts)

    def state_dict(self) -> list[dict[str, Tensor]]:
        """All collections, on the host."""
        return [collected.to("cpu").tensors() for collected in self._collections]

    def load_state_dict(self, state: Sequence[dict[str, Any]], device: torch.device | str = "cpu") -> None:
        """Replace the content by that of a checkpoint, on `device`."""
        self._collections.clear()
        self._collections.extend(Transitions(**values).to(device) for values in state)

    def load_share(
        self,
        states: Sequence[Sequence[dict[str, Any]]],
        rank: int,
        world_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take a share of what several processes had: every `world_size`-th episode, from `rank` on."""
        self._collections.clear()
        for parts in zip(*states, strict=True):
            whole = join([Transitions(**values) for values in parts])
            rows = (whole.scene % world_size == rank).nonzero()[:, 0]
            self._collections.append(whole.select(rows).to(device))
