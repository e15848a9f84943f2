"""The way of a trained policy through episodes, for whoever asks how it goes on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import count
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from acis_env import dynamics, tree
from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState
from acis_env.precision import Precision, autocast
from agents.models.actor import Actor, ActorOutput
from agents.models.prediction import Prediction
from agents.models.selection import ActionSelection


class Visit(NamedTuple):
    """A state of the episodes in `B` scenes, and what the actor says there."""

    state: EnvState
    out: ActorOutput


Ends = Callable[[int, Visit, Tensor], Tensor]
"""Says which of the episodes left are over after `t` masks, `[K]` bool; the last argument has their indices."""


def says_stop(t: int, visit: Visit, left: Tensor) -> Tensor:
    """Whether the termination unit says stop, `[K]`."""
    return visit.out.continue_logit < 0


@torch.no_grad()
def visits(
    actor: Actor,
    decoder: Decoder,
    state: EnvState,
    selection: ActionSelection | None = None,
    precision: Precision = "float32",
    offsets: Tensor | None = None,
) -> Generator[Visit, Tensor | None, None]:
    """Let the deterministic policy act from `state` on, in all scenes and without end; the truth is not looked at.

    Indices `[K]` int64 that are sent name the scenes to go on with, of those that are left.

    Args:
        actor: the policy.
        decoder: that with which the episodes of `state` began.
        state: fresh episodes in `B` scenes.
        selection: chooses the actions; None takes the policy's mean.
        precision: precision of the networks.
        offsets: added to the means of the steps, cyclically: `[T, L]`, or `[T, B, L]` where every scene has its own.

    Yields:
        The first state, and then the one after each mask.
    """
    context = state.context
    with autocast(context.device, precision):
        conditioning = actor.condition(context)
        for_critic = None if selection is None else selection.critic.condition(context)
    memory = actor.initial_memory(len(state))
    for t in count():
        with autocast(context.device, precision):
            out = actor(conditioning, state.accumulated_mask, memory)
        keep = yield Visit(state, out)
        latent, memory = out.mean, out.memory
        if offsets is not None:
            latent = latent + offsets[t % len(offsets)].to(latent)
        if keep is not None:
            shares = (latent, memory, conditioning, for_critic)
            latent, memory, conditioning, for_critic = tree.map_tensors(itemgetter(keep), shares)
            if offsets is not None and offsets.dim() == 3:
                offsets = offsets[:, keep]
            state = state.select(keep)
        with autocast(context.device, precision):
            if selection is not None and for_critic is not None:
                latent = selection(for_critic, state.conditioning, state.accumulated_mask, latent)
            state = dynamics.transition(state, latent, decoder)


@torch.no_grad()
def predict(
    actor: Actor,
    decoder: Decoder,
    state: EnvState,
    selection: ActionSelection | None,
    cap: int,
    min_steps: int = 0,
    ends: Ends = says_stop,
    offsets: Tensor | None = None,
) -> Prediction:
    """Let the deterministic policy act until all episodes are over; see `Agent.predict_masks`.

    Once half of the scenes are done the others go on without them. `ends` says which are, at the latest at the cap, and
    `offsets` is that of `visits`.
    """
    context, size = state.context, len(state)
    num_masks = torch.full((size,), cap, device=context.device)
    stopped = torch.zeros(size, dtype=torch.bool, device=context.device)
    left = torch.arange(size, device=context.device)
    masks: list[Tensor] = []
    steps = visits(actor, decoder, state, selection, offsets=offsets)
    visit = next(steps)
    for t in count():
        if t > 0:
            nothing = context.new_zeros(size, *context.shape[2:])
            masks.append(nothing.index_copy_(0, left, visit.state.predicted_mask[:, 0]))
        stops = ends(t, visit, left) & ~stopped[left] & (t <= cap)
        num_masks[left] = torch.where(stops, t, num_masks[left])
        stopped[left] |= stops
        keep = None
        if t >= min_steps:
            going_on = size - int(stopped.sum())  # the one number a step that the host waits for
            if t >= cap or going_on == 0:
                break
            if 2 * going_on <= len(left):
                keep = (~stopped[left]).nonzero()[:, 0]
                left = left[keep]
        visit = steps.send(keep)
    found = torch.stack(masks, dim=1) if masks else context.new_zeros(size, 0, *context.shape[2:])
    return Prediction(found, num_masks, stopped)
