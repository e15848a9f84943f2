"""What must happen when an episode ends, in each autoreset mode."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from acis_env.testing.comparison import expect_same, observations_of
from acis_env.testing.errors import expect
from acis_env.testing.form import check_in_space
from acis_env.testing.player import STEP_PARTS, Call, Player
from acis_env.testing.tree import difference, mapped, row, slots_of, to_numpy, with_rows

FINAL_KEYS = ("final_obs", "final_info")


def check_episode_ends(player: Player, run: Sequence[Call]) -> None:
    ends: list[tuple[Any, Any]] = []  # last observation of an episode, first of the next, of one slot
    if player.mode is AutoresetMode.SAME_STEP:
        for call in run:
            check_final_keys(call, player.env.single_observation_space)
            final, begun = call.copies["infos"].get("final_obs"), call.copies["observations"]
            ends += [(row(final, slot), row(begun, slot)) for slot in slots_of(call.done)]
    else:
        for call, following in pairwise(run):
            last, begun = (each.copies["observations"] for each in (call, following))
            ends += [(row(last, slot), row(begun, slot)) for slot in slots_of(call.done)]
    check_beginnings(player.mode, ends, run)
    if player.mode is AutoresetMode.NEXT_STEP:
        check_ignored_steps(player, run)
    if player.mode is AutoresetMode.DISABLED:
        check_partial_resets(player, run)
        check_refusal(player)


def check_final_keys(call: Call, single_space: gym.Space[Any]) -> None:
    """Check that SAME_STEP gives last observation and info where an episode ended, and only there."""
    infos, done = call.copies["infos"], call.done
    for key in FINAL_KEYS:
        if not done.any():
            expect(key not in infos, f"{call.name}: infos[{key!r}] must be absent, since no episode ended")
            continue
        expect(key in infos, f"{call.name}: infos[{key!r}] is missing, though slots {slots_of(done)} are done")
        mask = infos[f"_{key}"]
        expect(
            np.array_equal(mask, done),
            f"{call.name}: infos['_{key}'] must be the slots that are done, {done.tolist()}, got {mask.tolist()}",
        )
    for slot in slots_of(done):
        check_in_space(row(infos["final_obs"], slot), single_space, f"{call.name}: infos['final_obs'] of slot {slot}")


def check_beginnings(mode: AutoresetMode, ends: Sequence[tuple[Any, Any]], run: Sequence[Call]) -> None:
    """Check that last observations are not those of the next episode: one may look like it, but not all."""
    is_moving = len(set(observations_of(run))) > 1
    is_mixed_up = is_moving and bool(ends) and all(difference(last, begun) is None for last, begun in ends)
    name = "infos['final_obs']" if mode is AutoresetMode.SAME_STEP else "the last observation of an episode"
    expect(
        not is_mixed_up,
        f"{name} must be the observation before the reset, but equals the one after it in all {len(ends)} ends",
    )


def check_ignored_steps(player: Player, run: Sequence[Call]) -> None:
    """Check that in NEXT_STEP the step after an end only resets."""
    space = copy.deepcopy(player.env.action_space)
    space.seed(player.seed + 1)
    actions = list(player.actions)
    for number, (call, following) in enumerate(pairwise(run)):
        if not call.done.any():
            continue
        rewards, slots = following.copies["rewards"][call.done], slots_of(call.done)
        expect(not rewards.any(), f"{following.name}: slots {slots} are being reset and must earn 0, got {rewards}")
        flags = following.done[call.done]
        expect(not flags.any(), f"{following.name}: slots {slots} are being reset and must set no flag, got {flags}")
        actions[number] = with_rows(actions[number], space.sample(), call.done)
    expect_same(run, player.play(actions=actions), "the step after the end of an episode must ignore its action")


def check_partial_resets(player: Player, run: Sequence[Call]) -> None:
    """Check that in DISABLED the slots outside of a reset mask stay as they were."""
    for call, following in pairwise(run):
        check_bystanders(call, following)
    if player.device is not None:
        expect_same(run, player.play(tensor_masks=True), "a torch reset_mask must do what a numpy one does")
    first = player.play(actions=player.actions[:1])[-1]
    mask = np.arange(player.env.num_envs) == 0
    check_bystanders(first, player.reset_slots(f"reset of slots [0] after {first.name}", mask))


def check_bystanders(call: Call, following: Call) -> None:
    mask = following.reset_mask
    for slot in [] if mask is None else slots_of(~mask):
        changed = difference(row(call.copies["observations"], slot), row(following.copies["observations"], slot))
        expect(
            changed is None,
            f"{following.name}: slot {slot} is not in the reset_mask and must stay as it was, "
            f"but its observation changed: {changed}",
        )


def check_refusal(player: Player) -> None:
    """Check that in DISABLED a step of a finished slot raises, or leaves it as it is and pays nothing."""
    call = player.reset("reset", seed=player.seed)
    for number, action in enumerate(player.actions, start=1):
        call = player.step(f"step {number}", action)
        if call.done.any():
            break
    else:
        return
    try:
        # not the first action: a new episode in the same scene would look as the old one did after it
        returned = player.env.step(mapped(player.own_kind, player.actions[-1]))
    except Exception:  # whatever it raises: that is the refusal
        return
    after = mapped(to_numpy, dict(zip(STEP_PARTS, returned, strict=True)))
    for slot in slots_of(call.done):
        changed = difference(row(call.copies["observations"], slot), row(after["observations"], slot))
        reward = after["rewards"][slot]
        expect(
            changed is None and reward == 0,
            f"the step after {call.name} must refuse slot {slot}, which is done and was not reset, but it went on: "
            f"reward {reward}, observation {'changed' if changed else 'as before'}",
        )
