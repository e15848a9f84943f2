"""Comparison of an environment in all three autoreset modes, which must give the same episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from acis_env.testing.comparison import outcome, without_blanks
from acis_env.testing.episode_ends import check_final_keys
from acis_env.testing.errors import expect
from acis_env.testing.form import check_attributes
from acis_env.testing.player import Call, Player
from acis_env.testing.tree import blanked, difference, row, slots_of


def check_modes_agree(player: Player, make: Callable[[AutoresetMode], VectorEnv[Any, Any, Any]]) -> None:
    own_mode = player.mode
    players = {mode: player if mode is own_mode else remade(player, mode, make) for mode in AutoresetMode}
    for mode, one in players.items():
        found = one.env.metadata["autoreset_mode"]
        expect(found is mode, f"metadata['autoreset_mode'] must be of the instance: {mode} became {found} by another")
    runs = {mode: one.play() for mode, one in players.items()}
    for one in players.values():
        if one is not player:
            one.env.close()
    for call in runs[AutoresetMode.SAME_STEP]:
        check_final_keys(call, player.env.single_observation_space)
    check_same_step_agrees(runs[AutoresetMode.SAME_STEP], runs[AutoresetMode.DISABLED])
    check_next_step_agrees(runs[AutoresetMode.NEXT_STEP], runs[AutoresetMode.DISABLED])


def remade(player: Player, mode: AutoresetMode, make: Callable[[AutoresetMode], VectorEnv[Any, Any, Any]]) -> Player:
    env = make(mode)
    check_attributes(env)
    found, num_envs = env.metadata["autoreset_mode"], env.num_envs
    expect(found is mode, f"make({mode}) must build an environment in this mode, got {found}")
    expect(
        num_envs == player.env.num_envs,
        f"make({mode}) must build {player.env.num_envs} slots as env has, got {num_envs}",
    )
    return Player(env, player.seed, player.actions, player.device)


def check_same_step_agrees(same_step: Sequence[Call], disabled: Sequence[Call]) -> None:
    steps = iter(same_step)
    for number, reference in enumerate(disabled):
        if reference.reset_mask is not None:
            continue
        call = next(steps)
        is_end = bool(reference.done.any())
        # After an end DISABLED shows the next episodes in the reset that follows.
        shown = disabled[number + 1] if is_end else reference
        expected = {**outcome(reference), "observations": shown.copies["observations"]}
        changed = difference(expected, outcome(call))
        expect(changed is None, f"{call.name} in SAME_STEP must give what DISABLED gives: {changed}")
        if is_end:
            check_final_values(call, reference)


def check_final_values(call: Call, reference: Call) -> None:
    """Check that `final_obs` and `final_info` in SAME_STEP are what the step shows in DISABLED, the `reference`."""
    infos, done = call.copies["infos"], reference.done
    for slot in slots_of(done):
        changed = difference(row(reference.copies["observations"], slot), row(infos["final_obs"], slot))
        expect(
            changed is None,
            f"{call.name} in SAME_STEP: infos['final_obs'] of slot {slot} must be the terminal observation that "
            f"DISABLED gives: {changed}",
        )
    final, plain = without_blanks(infos["final_info"]), without_blanks(reference.copies["infos"])
    common = [key for key in final if key in plain]
    changed = difference(*(blanked({key: part[key] for key in common}, done) for part in (plain, final)))
    expect(
        changed is None,
        f"{call.name} in SAME_STEP: infos['final_info'] must be the infos that DISABLED gives: {changed}",
    )


def check_next_step_agrees(next_step: Sequence[Call], disabled: Sequence[Call]) -> None:
    for call, reference in zip(next_step, disabled, strict=False):
        changed = difference(outcome(reference), outcome(call))
        expect(changed is None, f"{call.name} in NEXT_STEP must give what DISABLED gives: {changed}")
        if reference.done.any():
            return
