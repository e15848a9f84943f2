"""Experience for the critic: the steps of the last batches of episodes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from acis_env.observations import to_uint8
from agents.episodes import Episodes, discounted_returns


@dataclass(frozen=True)
class Transitions:
    """`S` steps. Contexts and masks are kept as uint8 in [0, 255], as observations are."""

    context: Tensor  # [B, 12, H, W] uint8, once per scene
    scene: Tensor  # [S] int64, the step's row in `context`
    mask: Tensor  # [S, 1, H, W] uint8, M_t
    predicted_mask: Tensor  # [S, 1, H, W] uint8, m_t
    remaining: Tensor  # [S] int64, steps left including this one
    reward: Tensor  # [S], r_t
    returns: Tensor  # [S], sum of gamma^(i-t) r_i

    def __len__(self) -> int:
        return len(self.reward)


def transitions(episodes: Episodes, gamma: float) -> Transitions:
    """Flatten finished episodes, with their Monte-Carlo returns."""
    steps = episodes.steps
    counts = [len(step.reward) for step in steps]
    return Transitions(
        context=to_uint8(episodes.context),
        scene=torch.cat([torch.arange(k, device=episodes.context.device) for k in counts]),
        mask=to_uint8(torch.cat([step.mask for step in steps])),
        predicted_mask=to_uint8(torch.cat([step.predicted_mask for step in steps])),
        remaining=torch.cat([step.remaining for step in steps]),
        reward=torch.cat([step.reward for step in steps]),
        returns=torch.cat(discounted_returns(episodes, gamma)),
    )


class ReplayBuffer:
    """The last `capacity` batches of episodes."""

    def __init__(self, capacity: int) -> None:
        self._batches: deque[Transitions] = deque(maxlen=capacity)

    def add(self, batch: Transitions) -> None:
        """Append a batch; the oldest one leaves when the buffer is full."""
        self._batches.append(batch)

    def sample(self, size: int, generator: torch.Generator) -> Transitions:
        """Draw `size` steps uniformly (all of them if there are fewer), with the contexts they need.

        Raises:
            ValueError: the buffer is empty.
        """
        if not self._batches:
            raise ValueError("the replay buffer is empty: add episodes before sampling")
        lengths = [len(batch) for batch in self._batches]
        chosen = torch.randperm(sum(lengths), generator=generator)[:size].sort().values
        parts: list[Transitions] = []
        scenes = start = 0
        for batch, length in zip(self._batches, lengths, strict=True):
            rows = (chosen[(chosen >= start) & (chosen < start + length)] - start).to(batch.reward.device)
            start += length
            used, scene = batch.scene[rows].unique(return_inverse=True)
            picked = {f.name: getattr(batch, f.name)[rows] for f in fields(batch) if f.name not in ("context", "scene")}
            parts.append(Transitions(context=batch.context[used], scene=scene + scenes, **picked))
            scenes += len(used)
        return Transitions(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Transitions)))

    def state_dict(self) -> list[dict[str, Tensor]]:
        """All batches, for a checkpoint."""
        return [{f.name: getattr(batch, f.name) for f in fields(batch)} for batch in self._batches]

    def load_state_dict(self, state: list[dict[str, Tensor]]) -> None:
        """Replace the content by that of a checkpoint."""
        self._batches.clear()
        self._batches.extend(Transitions(**batch) for batch in state)
