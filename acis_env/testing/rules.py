"""Rules that hold in every autoreset mode: about seeds, memory, pictures and the end."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from acis_env.testing.comparison import expect_same, observations_of
from acis_env.testing.errors import VectorEnvError, attempt, expect
from acis_env.testing.player import Call, Player
from acis_env.testing.tree import buffer_of, describe, difference, fill_with_garbage, leaves, mapped, to_numpy


def check_seeds(player: Player, run: Sequence[Call]) -> None:
    expect_same(run, player.play(), "the same seed and actions must give bitwise the same run")
    num_envs = player.env.num_envs
    other = player.play(seed=player.seed + num_envs)
    if observations_of(run) == observations_of(other):
        warnings.warn(f"seeds {player.seed} and {player.seed + num_envs} give the same observations", stacklevel=3)
    seeds = [player.seed + slot for slot in range(num_envs)]
    try:
        player.env.reset(seed=seeds)  # type: ignore[arg-type]
    except Exception:  # whatever it raises: lists of seeds are optional
        return
    expect_same(run, player.play(seed=seeds), f"seed={seeds} must be as seed={player.seed}")


def check_memory(run: Sequence[Call]) -> None:
    """Check that nothing that was returned has changed since, or lies where another call's data lie."""
    owners: dict[Any, tuple[int, str]] = {}
    for number, call in enumerate(run):
        changed = difference(call.copies, mapped(to_numpy, call.returned))
        expect(changed is None, f"{call.name} returned what a later call has changed: {changed}")
        for name, leaf in leaves(call.returned):
            if (place := buffer_of(leaf)) is None:
                continue
            owner, where = owners.setdefault(place, (number, f"{name} of {call.name}"))
            expect(owner == number, f"{call.name}: {name} must be new in every call, but shares memory with {where}")


def check_overwriting(player: Player, run: Sequence[Call]) -> None:
    """Check that the environment holds no part of what it returned."""

    def overwrite(call: Call) -> None:
        fill_with_garbage(leaf for _, leaf in leaves(call.returned))

    rule = "overwriting what earlier calls returned must change nothing"
    try:
        spoiled = player.play(after_call=overwrite)
    except VectorEnvError as error:
        raise VectorEnvError(f"{rule}, but then {error}") from error
    expect_same(run, spoiled, rule)


def check_render(player: Player, run: Sequence[Call]) -> None:
    def render(call: Call) -> None:
        check_frames(attempt(f"render() after {call.name}", player.env.render), player.env.num_envs, call.name)

    expect_same(run, player.play(actions=player.actions[:2], after_call=render), "render() must disturb no episode")


def check_frames(frames: Any, num_envs: int, name: str) -> None:
    is_fit = isinstance(frames, list | tuple) and len(frames) == num_envs
    expect(is_fit, f"render() after {name} must return a list or tuple of {num_envs} frames, got {describe(frames)}")
    for slot, frame in enumerate(frames):
        is_picture = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
        expect(
            is_picture and frame.shape[2] == 3,
            f"render() after {name} must give uint8 arrays [h, w, 3], got {describe(frame)} in slot {slot}",
        )


def check_close(env: VectorEnv[Any, Any, Any]) -> None:
    attempt("close()", env.close)
    attempt("close() of a closed environment", env.close)
