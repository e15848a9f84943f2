"""The way of a trained policy through episodes, for whoever asks how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from acis_env import dynamics
from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState
from acis_env.precision import Precision, autocast
from agents.models.actor import Actor, ActorOutput
from agents.models.selection import ActionSelection


class Visit(NamedTuple):
    """A state of the episodes in `B` scenes, and what the actor says there."""

    state: EnvState
    out: ActorOutput


@torch.no_grad()
def visits(
    actor: Actor,
    decoder: Decoder,
    state: EnvState,
    selection: ActionSelection | None = None,
    precision: Precision = "float32",
) -> Iterator[Visit]:
    """Let the deterministic policy act from `state` on, in all scenes and without end; the truth is not looked at.

    Args:
        actor: the policy.
        decoder: that with which the episodes of `state` began.
        state: fresh episodes in `B` scenes.
        selection: chooses the actions; None takes the policy's mean.
        precision: precision of the networks.

    Yields:
        The first state, and then the one after each mask.
    """
    context = state.context
    with autocast(context.device, precision):
        conditioning = actor.condition(context)
        for_critic = None if selection is None else selection.critic.condition(context)
    memory = actor.initial_memory(len(state))
    while True:
        with autocast(context.device, precision):
            out = actor(conditioning, state.accumulated_mask, memory)
        yield Visit(state, out)
        latent = out.mean
        with autocast(context.device, precision):
            if selection is not None and for_critic is not None:
                latent = selection(for_critic, state.conditioning, state.accumulated_mask, latent)
            state, memory = dynamics.transition(state, latent, decoder), out.memory
