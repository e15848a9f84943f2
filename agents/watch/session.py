"""An episode that a person watches and steers: what may be accepted next, undone, changed or asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env import dynamics
from acis_env.dynamics import EnvState
from acis_env.networks import FOREGROUND
from acis_env.surroundings import unaffected
from agents.models.agent import Agent
from agents.models.composition import PictureMasks
from agents.models.segmentation import as_channels_first
from agents.models.selection import propose
from agents.watch.steering import code_at, principal_directions

Kind = Literal["choice", "mean", "near", "asked for", "nudged"]
"""Where a candidate comes from: what the agent would take, the policy's mean, near that, a click, or sliders."""

NUM_NEAR = 7
"""Draws from the policy beside its mean, where no critic has candidates of its own."""
NUM_DIRECTIONS = 4
"""Directions in which a mask can be nudged."""
FARTHEST = 3.0
"""Largest amount of a nudge along one of them, in standard deviations of the prior."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask that may be accepted."""

    kind: Kind
    latent: Tensor  # [1, l]
    after: EnvState  # the episode once it is accepted
    value: float | None  # by the critic; None: the agent has none
    reward: float | None  # what it earns; None: the truth is not known

    @property
    def mask(self) -> NDArray[np.float32]:
        """`[H, W]` in [0, 1], at the size of the networks."""
        mask: NDArray[np.float32] = self.after.predicted_mask[0, 0].numpy(force=True)
        return mask


@dataclass(frozen=True, eq=False)
class Moment:
    """The episode after some masks, and what the agent says there."""

    state: EnvState  # of one scene
    memory: Tensor  # [1, 2 * layers, memory_size], of the actor, for the next step
    continue_probability: float  # by the termination unit; below 0.5 the agent would stop here
    candidates: tuple[Candidate, ...]  # the agent's choice is the first; none where the cap on steps is reached
    reward: float | None  # of the last mask; None: there is none, or the truth is not known


class Session:
    """One episode of an agent in one picture. Whatever is done to it can be undone.

    Attributes:
        agent: whose episode it is.
        image: `[3, h, w]` uint8, the picture.
        truth: `[h, w]`, labels 1..N, 0 = background, -1 = ignored; None: not known.
        max_steps: largest number of masks.
        history: the moments from the beginning on, of which the last is now.
    """

    @unaffected
    @torch.no_grad()
    def __init__(
        self,
        agent: Agent,
        image: NDArray[np.uint8],
        truth: NDArray[np.int32] | None = None,
        max_steps: int | None = None,
    ) -> None:
        """Begin an episode.

        Args:
            agent: proposes masks.
            image: RGB, uint8 `[h, w, 3]` or `[3, h, w]`.
            truth: `[h, w]`, by which masks earn rewards; None: not known.
            max_steps: largest number of masks; None takes the agent's.

        Raises:
            ValueError: the image is not uint8 RGB, or the agent would cut it into several windows.
        """
        self.agent, self.image, self.truth = agent, as_channels_first(image), truth
        self.max_steps = agent.max_steps if max_steps is None else max_steps
        way, (height, width) = agent.preprocessing, self.size
        number = len(way.windows(self.size))
        if number != 1:
            raise ValueError(
                f"the agent would cut this picture of {height}x{width} (height x width) into {number} windows, and an "
                f"episode is in one: choose a part of at most {way.size[0]}x{way.size[1]} pixels of its scale"
            )
        labels = np.zeros(way.size, np.int32) if truth is None else way.label_map(truth)
        label_map = torch.from_numpy(labels.astype(np.int64))[None].to(agent.device)
        context = agent.source.make_context(torch.from_numpy(way.image(self.image))[None].to(agent.device), label_map)
        capacity = max(1, int(labels.max()))
        state = dynamics.reset(context, label_map, agent.decoder, capacity, self.max_steps, step_limit=self.max_steps)
        self._for_actor = agent.actor.condition(context)
        self._for_critic = None if agent.selection is None else agent.selection.critic.condition(context)
        self._directions: tuple[Candidate, Tensor] | None = None  # those asked for last
        self.history = [self._look(state, agent.actor.initial_memory(1), None)]

    @property
    def size(self) -> tuple[int, int]:
        """`(h, w)` of the picture."""
        return self.image.shape[1], self.image.shape[2]

    @property
    def now(self) -> Moment:
        """The moment that the episode is in."""
        return self.history[-1]

    @property
    def step(self) -> int:
        """Number of masks so far."""
        return len(self.history) - 1

    @property
    def agent_stops(self) -> bool:
        """Whether the agent would stop here by itself, or has to."""
        return self.now.continue_probability < 0.5 or self.step == self.max_steps

    @property
    def potential(self) -> float | None:
        """Potential of the masks so far, `phi_t`; None: the truth is not known."""
        return None if self.truth is None else float(self.now.state.potential)

    @property
    def num_instances(self) -> int | None:
        """Number of instances at the size of the networks; None: the truth is not known."""
        return None if self.truth is None else int(self.now.state.num_instances)

    def label_map(self) -> NDArray[np.int32]:
        """Label map `[h, w]` of the masks so far, by the agent's own rule; label `t` is the `t`-th mask."""
        masks = [moment.state.predicted_mask[0, 0].numpy(force=True) for moment in self.history[1:]]
        found = np.stack(masks) if masks else np.zeros((0, *self.agent.preprocessing.size), np.float32)
        foreground = self.now.state.context[0, FOREGROUND].numpy(force=True)
        rule = self.agent.composition
        parts = PictureMasks.joined([found], self.size, self.agent.preprocessing, rule)
        return parts.label_map(rule, [foreground])

    @unaffected
    @torch.no_grad()
    def accept(self, index: int = 0) -> None:
        """Add the mask of a candidate; 0 is the agent's own choice.

        Raises:
            ValueError: the cap on steps is reached, or there is no such candidate.
        """
        candidate = self._checked(index)
        self.history.append(self._look(candidate.after, self.now.memory, candidate.reward))

    def undo(self) -> None:
        """Take the last mask back: the episode is what it was before.

        Raises:
            ValueError: there is none.
        """
        if self.step == 0:
            raise ValueError("there is no mask to take back")
        self.history.pop()

    def finish(self) -> None:
        """Accept what the agent would take until it stops."""
        while not self.agent_stops:
            self.accept()

    @unaffected
    @torch.no_grad()
    def nudge(self, index: int, amounts: Sequence[float]) -> None:
        """Make a candidate of another one, changed along its `principal_directions`, in place of one nudged before.

        Args:
            index: of the other candidate.
            amounts: `NUM_DIRECTIONS` numbers from -`FARTHEST` to `FARTHEST`, in standard deviations of the prior.

        Raises:
            ValueError: the cap on steps is reached, there is no such candidate, or the amounts are none.
        """
        base = self._checked(index)
        directions = self._directions_of(base)
        if len(amounts) != len(directions) or not all(abs(a) <= FARTHEST for a in amounts):
            raise ValueError(
                f"amounts must be {len(directions)} numbers from {-FARTHEST:g} to {FARTHEST:g}, got {list(amounts)}"
            )
        along = torch.tensor([list(amounts)], dtype=torch.float32, device=base.latent.device)
        self._add(self._candidate("nudged", self.now.state, base.latent + along @ directions))

    @unaffected
    @torch.no_grad()
    def ask(self, y: int, x: int) -> None:
        """Make a candidate of the instance at pixel `(y, x)` of the picture, in place of one asked for before.

        Raises:
            ValueError: the cap on steps is reached, the pixel is not in the picture, or outside of the part of it that
                the networks see, or no mask was found that holds it.
        """
        self._check_room()
        row, column = self._in_window(y, x)
        encoder = self.agent.pretrained.autoencoder.encoder
        code = code_at(encoder, self.agent.decoder, self.now.state, row, column)
        candidate = self._candidate("asked for", self.now.state, code)
        if candidate.mask[row, column] < self.agent.composition.threshold:
            raise ValueError(f"no instance was found at row {y}, column {x}: click nearer to the middle of one")
        self._add(candidate)

    def _look(self, state: EnvState, memory: Tensor, reward: float | None) -> Moment:
        """What the agent says in `state`."""
        out = self.agent.actor(self._for_actor, state.accumulated_mask, memory)
        probability = float(out.continue_logit.sigmoid())
        if int(state.step_count) == self.max_steps:
            return Moment(state, out.memory, probability, (), reward)
        selection = self.agent.selection
        if selection is None or self._for_critic is None:
            noise = torch.randn(NUM_NEAR, 1, out.mean.shape[1], generator=torch.Generator().manual_seed(0))
            offsets, choice = torch.exp(0.5 * out.log_variance) * noise.to(out.mean.device), out.mean
        else:
            offsets = selection.offsets[0].to(out.mean.device)
            choice = selection(self._for_critic, state.conditioning, state.accumulated_mask, out.mean)
        mean, *near = propose(out.mean, offsets)
        named: list[tuple[Kind, Tensor]] = [("mean", mean), *(("near", latent) for latent in near)]
        others = [(kind, latent) for kind, latent in named if not torch.equal(latent, choice)]
        found = [("choice", choice), *others]
        candidates = tuple(self._candidate(kind, state, latent) for kind, latent in found)
        return Moment(state, out.memory, probability, candidates, reward)

    def _candidate(self, kind: Kind, state: EnvState, latent: Tensor) -> Candidate:
        after, reward = dynamics.step(state, latent, self.agent.decoder)
        value = None
        if self.agent.selection is not None and self._for_critic is not None:
            value = float(self.agent.selection.critic(self._for_critic, state.accumulated_mask, after.predicted_mask))
        return Candidate(kind, latent, after, value, None if self.truth is None else float(reward))

    def _add(self, candidate: Candidate) -> None:
        """Put a candidate in place of the one of its kind, behind all others, of which a nudged one is the last."""
        others = [other for other in self.now.candidates if other.kind != candidate.kind]
        candidates = sorted([*others, candidate], key=lambda one: one.kind == "nudged")
        self.history[-1] = replace(self.now, candidates=tuple(candidates))

    def _checked(self, index: int) -> Candidate:
        self._check_room()
        if not 0 <= index < len(self.now.candidates):
            raise ValueError(f"candidate must be from 0 to {len(self.now.candidates) - 1}, got {index}")
        return self.now.candidates[index]

    def _check_room(self) -> None:
        if self.step == self.max_steps:
            raise ValueError(f"there are {self.max_steps} masks, the most that an episode has here: take one back")

    def _directions_of(self, candidate: Candidate) -> Tensor:
        """`principal_directions` `[n, l]`, found anew only when another candidate is asked about."""
        if self._directions is None or self._directions[0] is not candidate:
            number = min(NUM_DIRECTIONS, candidate.latent.shape[1])
            conditioning = candidate.after.conditioning
            found = principal_directions(self.agent.decoder, conditioning, candidate.latent, number)
            self._directions = candidate, found
        return self._directions[1]

    def _in_window(self, y: int, x: int) -> tuple[int, int]:
        """Row and column, as the networks see it, of a pixel of the picture."""
        if not (0 <= y < self.size[0] and 0 <= x < self.size[1]):
            raise ValueError(f"row and column must be in the picture of {self.size[0]}x{self.size[1]}, got {y} and {x}")
        way = self.agent.preprocessing
        window, scaled = way.windows(self.size)[0], way.scaled_size(self.size)
        row = math.floor((y + 0.5) * scaled[0] / self.size[0]) - window.y
        column = math.floor((x + 0.5) * scaled[1] / self.size[1]) - window.x
        if not (0 <= row < way.size[0] and 0 <= column < way.size[1]):
            raise ValueError(f"row {y}, column {x} lies outside of the part of the picture that the agent sees")
        return row, column
