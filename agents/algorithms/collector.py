"""Episode execution (Algorithm 1): the actor acts in the environment, and what happened is kept, episode by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import optree
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.observations import unpack
from acis_env.ops.planes import to_uint8
from acis_env.precision import autocast
from agents.algorithms.base import VectorEnv, core_of
from agents.algorithms.replay import Transitions, join
from agents.models.actor import Actor


@dataclass(frozen=True)
class Record:
    """One step of all `B` slots."""

    mask: Tensor  # [B, 1, H, W] uint8, M_t
    predicted_mask: Tensor  # [B, 1, H, W] uint8, m_t
    remaining: Tensor  # [B] int64, instances still missing
    reward: Tensor  # [B], the environment's
    added_mask: Tensor  # [B] bool; False where the agent ended its episode instead


class Collector:
    """Steps an environment, whose slots go on from one collection to the next, and hands out finished episodes.

    Actions are samples of the policy, in some slots with noise of the prior in addition, whose level is drawn for
    every episode. Where the agent ends its episodes (`stop="agent"`), whether it does is drawn from its termination
    unit.
    """

    def __init__(self, env: VectorEnv, actor: Actor, gamma: float, exploration: Sequence[float] = (0.0,)) -> None:
        """Take the environment and the policy; the first collection begins the episodes.

        Args:
            env: a `SegmentationVectorEnv`, wrapped or not, without automatic resets.
            actor: the policy.
            gamma: discount per step.
            exploration: standard deviations of the noise added to actions, in units of the prior's.
        """
        self.env, self.core, self.actor = env, core_of(env), actor
        self.gamma, self.levels = gamma, torch.tensor(exploration)
        self._observation: Any = None
        self._memory = actor.initial_memory(self.core.num_envs)
        self._level = torch.zeros(self.core.num_envs, 1)
        self._records: list[Record] = []  # since the first step of the oldest episode under way
        self._lengths = [0] * self.core.num_envs  # steps of the episodes under way

    @torch.no_grad()
    def collect(self, num_episodes: int, generator: torch.Generator) -> Transitions:
        """Step all slots until `num_episodes` episodes are over, or a few more that end in the same step."""
        if self._observation is None:
            self._begin(None, generator)
        context, _ = unpack(self._observation, self.core.device)
        conditioning = self._condition(context)
        finished: list[Transitions] = []
        while sum(len(part.context) for part in finished) < num_episodes:
            context, mask = unpack(self._observation, self.core.device)
            self._step(conditioning, mask, generator)
            over = self.core.is_over.copy()
            if over.any():
                slots = torch.from_numpy(over.nonzero()[0])
                finished += self._finish(context, slots.tolist())
                self._begin(over, generator)
                context, _ = unpack(self._observation, self.core.device)
                there = slots.to(self.core.device)
                for kept, new in zip(conditioning, self._condition(context[there]), strict=True):
                    kept[there] = new
        return join(finished)

    def state_dict(self) -> dict[str, Any]:
        """Episodes under way, beside their state in the environment."""
        if self._observation is None:
            return {}
        return {
            "observation": optree.tree_map(lambda x: torch.as_tensor(x).cpu(), self._observation),
            "memory": self._memory.cpu(),
            "level": self._level,
            "lengths": self._lengths,
            "records": [{f.name: getattr(r, f.name).cpu() for f in fields(Record)} for r in self._records],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the episodes of `state`, which the environment has been given back already."""
        if not state:
            return
        device = self.core.device
        self._observation = optree.tree_map(lambda x: x.to(device), state["observation"])
        self._memory, self._level = state["memory"].to(device), state["level"]
        self._lengths = list(state["lengths"])
        self._records = [Record(**{name: x.to(device) for name, x in r.items()}) for r in state["records"]]

    def _condition(self, context: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.core.device, self.core.precision):
            share, foreground = self.actor.condition(context)
        return share.clone(), foreground.clone()

    def _begin(self, over: NDArray[np.bool_] | None, generator: torch.Generator) -> None:
        """Begin an episode in the slots `over` `[B]`; in all slots if None."""
        self._observation, _ = self.env.reset(options=None if over is None else {"reset_mask": over})
        drawn = self.levels[torch.randint(len(self.levels), (self.core.num_envs, 1), generator=generator)]
        begun = torch.ones(self.core.num_envs, dtype=torch.bool) if over is None else torch.from_numpy(over)
        self._level = torch.where(begun[:, None], drawn, self._level)
        self._memory = self._memory.masked_fill(begun.to(self.core.device).view(-1, 1, 1), 0)

    def _step(self, conditioning: tuple[Tensor, Tensor], mask: Tensor, generator: torch.Generator) -> None:
        """Act in every slot and record what came of it."""
        core = self.core
        with autocast(core.device, core.precision):
            out = self.actor(conditioning, mask, self._memory)
        shape = (core.num_envs, core.decoder.latent_size)
        policy, prior = (torch.randn(shape, generator=generator) for _ in range(2))
        latent = out.mean + torch.exp(0.5 * out.log_variance) * policy.to(mask.device)
        actions = (latent + (self._level * prior).to(mask.device)) / core.action_scale
        added_mask = torch.ones(core.num_envs, dtype=torch.bool, device=mask.device)
        if core.rules.stop == "agent":
            chance = torch.rand(core.num_envs, generator=generator).to(mask.device)
            added_mask = chance < torch.sigmoid(out.continue_logit)
            actions = torch.cat([actions, torch.where(added_mask, -1.0, 1.0)[:, None]], dim=1)
        remaining = (core.state.num_instances - core.state.step_count).clamp_min(0)
        self._observation, rewards, *_ = self.env.step(actions)
        self._memory = out.memory
        reward = torch.as_tensor(rewards, dtype=torch.float32, device=mask.device)
        predicted_mask = to_uint8(core.state.predicted_mask)
        self._records.append(Record(to_uint8(mask), predicted_mask, remaining, reward, added_mask))
        self._lengths = [length + 1 for length in self._lengths]

    def _finish(self, context: Tensor, slots: Sequence[int]) -> list[Transitions]:
        """The episodes of `slots`, which have ended; nothing of one that ended before its first mask."""
        episodes = [self._episode(context, slot) for slot in slots]
        for slot in slots:
            self._lengths[slot] = 0
        self._records = self._records[len(self._records) - max(self._lengths) :]
        return [episode for episode in episodes if len(episode)]

    def _episode(self, context: Tensor, slot: int) -> Transitions:
        records = self._records[len(self._records) - self._lengths[slot] :]
        rewards = torch.stack([record.reward[slot] for record in records])
        returns = list(rewards)
        for t in range(len(records) - 2, -1, -1):
            returns[t] = rewards[t] + self.gamma * returns[t + 1]
        count = sum(bool(record.added_mask[slot]) for record in records)  # only the last may have added none
        kept = records[:count]
        index = slice(slot, slot + 1)

        def column(name: str) -> Tensor:
            return torch.cat([getattr(record, name)[index] for record in kept] or [getattr(records[0], name)[:0]])

        return Transitions(
            context=to_uint8(context[index]),
            label_map=self.core.state.label_map[index].clone(),
            scene=torch.zeros(count, dtype=torch.int64),
            step=torch.arange(count),
            mask=column("mask"),
            predicted_mask=column("predicted_mask"),
            remaining=column("remaining"),
            reward=rewards[:count],
            returns=torch.stack(returns)[:count],
        )
