"""Episodes as values: taken from an environment, and put back into it or into another of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acis_env import tree
from acis_env.decoder import Decoder
from acis_env.dynamics import EnvState, Rules, go_on
from acis_env.slots import Slots


@dataclass(frozen=True)
class Snapshot:
    """The episodes of `K` slots, and all that decides how they go on."""

    state: EnvState
    is_over: Tensor  # [K] bool, the slot waits for its reset
    scene_index: Tensor  # [K] int64
    augmentation: Tensor  # [K, P]
    samplers: tuple[dict[str, Any], ...]
    scenes: tuple[int, str]  # how many there are, and in which order they are shown
    rules: Rules  # by which the steps so far were paid


def take(slots: Slots, chosen: Sequence[int], rules: Rules) -> Snapshot:
    """Copy the episodes of the slots `chosen`, which are under way by `rules`; one may stand twice."""
    index = slots.index(chosen)
    return Snapshot(
        state=slots.begun().select(index),
        is_over=torch.from_numpy(slots.autoreset.is_over[list(chosen)]),
        scene_index=slots.scene_index[index],
        augmentation=slots.augmentation[index],
        samplers=tuple(slots.samplers[slot].get_state() for slot in chosen),
        scenes=slots.samplers[0].kind,
        rules=rules,
    )


def put_back(
    slots: Slots,
    chosen: Sequence[int],
    snapshot: Snapshot,
    sizes: tuple[int, int, int, int],
    decoder: Decoder,
    rules: Rules,
) -> None:
    """Go on from `snapshot` in the slots `chosen`.

    Args:
        slots: of the environment.
        chosen: as many different ones as the snapshot has; all where none has an episode yet.
        snapshot: is not changed, nor written to later.
        sizes: `(T, N, H, W)` of the environment.
        decoder: of the environment.
        rules: of the environment.

    Raises:
        ValueError: the snapshot does not fit the slots, the sizes, the scenes or the decoder.
        RuntimeError: a slot would stay without an episode.
    """
    if len(chosen) != len(snapshot.samplers):
        raise ValueError(f"env_ids must name {len(snapshot.samplers)} slots as the snapshot does, got {len(chosen)}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"env_ids must be different slots, got {list(chosen)}")
    if slots.state is None and len(chosen) < len(slots):
        raise RuntimeError(f"the first set_state must fill all {len(slots)} slots, got {list(chosen)}")
    theirs = (*snapshot.state.scores.shape[1:], *snapshot.state.context.shape[2:])
    if sizes != theirs:
        raise ValueError(f"snapshot must be of (steps, instances, height, width) = {sizes}, got {theirs}")
    if snapshot.scenes != (own := slots.samplers[0].kind):
        raise ValueError("snapshot must be of {} scenes in {} order, got {} in {} order".format(*own, *snapshot.scenes))
    state = snapshot.state.map(lambda x: x.to(slots.device, copy=True))  # the next reset writes into it
    _check_conditioning(state, slots.state, decoder)
    state = go_on(state, snapshot.rules, rules)
    slots.put(chosen, state, snapshot.scene_index, snapshot.augmentation)
    slots.autoreset.is_over[list(chosen)] = snapshot.is_over.numpy(force=True)
    for slot, sampler_state in zip(chosen, snapshot.samplers, strict=True):
        slots.samplers[slot].set_state(sampler_state)


@torch.no_grad()
def _check_conditioning(state: EnvState, own: EnvState | None, decoder: Decoder) -> None:
    """Make sure that episodes to be put back were begun by a decoder like this one, which began our `own`."""
    expected = tree.signature(decoder.condition(state.context[:1]) if own is None else own.conditioning)
    theirs = tree.signature(state.conditioning)
    if theirs != expected:
        raise ValueError(
            "snapshot must be of an environment with the same decoder, refined or not: its conditioning has "
            f"tensors {theirs[1]}, expected {expected[1]}"
        )
