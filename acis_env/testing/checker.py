"""A checker of vector environments, since Gymnasium's `check_env` takes single ones alone."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from acis_env.testing.tree import (
    blanked,
    buffer_of,
    describe,
    difference,
    dtype_name,
    fill_with_garbage,
    is_array,
    leaves,
    mapped,
    row,
    slots_of,
    to_numpy,
    with_rows,
)

__all__ = ["VectorEnvError", "check_vector_env"]

FINAL_KEYS = ("final_obs", "final_info")
RESET_PARTS = ("observations", "infos")
STEP_PARTS = ("observations", "rewards", "terminated", "truncated", "infos")


class VectorEnvError(AssertionError):
    """A vector environment breaks a contract; the message says in which call, what it gave and what is right."""


def check_vector_env(
    env: VectorEnv[Any, Any, Any],
    *,
    seed: int = 0,
    num_steps: int = 40,
    make: Callable[[AutoresetMode], VectorEnv[Any, Any, Any]] | None = None,
) -> None:
    """Check that a vector environment does what Gymnasium and the libraries built on it expect.

    Plays the same random actions several times, so `num_steps` should be long enough for some episodes to end.
    Data may be numpy arrays or torch tensors. Checked are:

    - attributes: `num_envs`, `metadata` with `render_modes` and the autoreset mode as an enum, of this instance and
      not of its class; batched spaces of `num_envs` times the single ones;
    - every call: observations with the structure, dtype, shape and range of `observation_space`; finite rewards
      `[num_envs]` of a float dtype; flags `[num_envs]` bool (both may be set); a bool mask `_key` `[num_envs]` for
      every key of the infos (a nested dict may do without); all tensors on `env.device`;
    - arguments: `actions` and `options` are left as they were;
    - seeds: the same seed and actions give bitwise the same run; where lists are taken, `[s, s + 1, ...]` is `s`;
      a run that does not depend on the seed is a warning;
    - memory: no later call changes what one returned, no two share memory, and overwriting it changes nothing later;
    - SAME_STEP: infos have `final_obs` and `final_info` exactly when an episode ends, masked by the slots that are
      done, and the former is no observation of the next episode;
    - NEXT_STEP: the step after an end ignores its action, pays 0 and sets no flag;
    - DISABLED: a finished slot is not stepped, and `options={"reset_mask": ...}`, numpy bool or, in an
      environment of tensors, torch bool, begins these slots and no other;
    - `render()` in mode "rgb_array": a list or tuple of `num_envs` frames `[h, w, 3]` uint8; it disturbs no episode;
    - `close()` can be called twice. The environment is closed afterwards.

    Args:
        env: to be checked, in its own autoreset mode.
        seed: of episodes and actions.
        num_steps: of one run, at least 2; two runs of observations are held in memory.
        make: builds the same environment in another mode. Then all three must give the same rewards, flags and
            observations: `final_obs` in SAME_STEP and the last observation in NEXT_STEP are what DISABLED ends with,
            `final_info` agrees with its infos, and a reset of some slots leaves the others bitwise alone. NEXT_STEP
            is compared up to the first end, where its steps fall behind.

    Raises:
        VectorEnvError: a contract is broken.
        ValueError: `num_steps` is less than 2.
    """
    if num_steps < 2:
        raise ValueError(f"num_steps must be at least 2, got {num_steps}")
    check_attributes(env)
    check_spaces(env)
    player = Player.of(env, seed, num_steps)
    run = player.play()
    check_seeds(player, run)
    check_memory(run)
    check_overwriting(player, run)
    if not any(call.done.any() for call in run):
        warnings.warn(f"no episode ended in {num_steps} steps: what happens then was not checked", stacklevel=2)
    check_episode_ends(player, run)
    if env.render_mode == "rgb_array":
        check_render(player, run)
    if make is not None:
        check_modes_agree(player, make)
    check_close(env)


# What an environment is played with


@dataclass(frozen=True)
class Call:
    """What one call of `reset` or `step` returned."""

    name: str
    returned: dict[str, Any]  # the very objects, by the names of STEP_PARTS
    copies: dict[str, Any]  # the same as it was when the call returned, in numpy
    reset_mask: NDArray[np.bool_] | None = None  # [num_envs], of a partial reset

    @property
    def is_step(self) -> bool:
        return "rewards" in self.copies

    @property
    def done(self) -> NDArray[np.bool_]:
        """`[num_envs]` bool: episodes that ended in this call; `[1]` False for a reset."""
        if not self.is_step:
            return np.zeros(1, dtype=np.bool_)
        done: NDArray[np.bool_] = self.copies["terminated"] | self.copies["truncated"]
        return done


@dataclass(frozen=True)
class Player:
    """Plays an environment with fixed actions, and checks the form of all it returns."""

    env: VectorEnv[Any, Any, Any]
    seed: int
    actions: Sequence[Any]
    device: torch.device | None  # of the environment's tensors; None where it returns arrays

    @staticmethod
    def of(env: VectorEnv[Any, Any, Any], seed: int, num_steps: int) -> Player:
        """Draw the actions, and see whether the environment speaks numpy or torch."""
        space = copy.deepcopy(env.action_space)
        space.seed(seed)
        actions = [space.sample() for _ in range(num_steps)]
        first = Player(env, seed, actions, None).reset("first reset", seed=seed)
        tensors = [leaf for _, leaf in leaves(first.returned["observations"]) if isinstance(leaf, Tensor)]
        return Player(env, seed, actions, tensors[0].device if tensors else None)

    @property
    def mode(self) -> AutoresetMode:
        mode: AutoresetMode = self.env.metadata["autoreset_mode"]
        return mode

    def play(
        self,
        *,
        actions: Sequence[Any] | None = None,
        seed: int | list[int] | None = None,
        after_call: Callable[[Call], None] | None = None,
        tensor_masks: bool = False,
    ) -> list[Call]:
        """Reset and step; with automatic resets disabled, every end is followed by a reset of the slots concerned."""
        calls: list[Call] = []

        def note(call: Call) -> None:
            calls.append(call)
            if after_call is not None:
                after_call(call)

        seed = self.seed if seed is None else seed
        note(self.reset(f"reset(seed={seed})", seed=seed))
        for number, action in enumerate(self.actions if actions is None else actions, start=1):
            note(self.step(f"step {number}", action))
            done = calls[-1].done
            if self.mode is AutoresetMode.DISABLED and done.any():
                note(self.reset_slots(f"reset after step {number}", done, tensor_masks))
        return calls

    def reset(self, name: str, **arguments: Any) -> Call:
        options: dict[str, Any] = arguments.pop("options", {})
        before = dict(options)
        mask = mapped(to_numpy, options.get("reset_mask"))
        returned = attempt(name, self.env.reset, options=options, **arguments)
        expect(
            isinstance(returned, tuple) and len(returned) == 2,
            f"{name} must return (observations, infos), got {describe(returned)}",
        )
        is_gymnasiums = isinstance(self.env.unwrapped, SyncVectorEnv | AsyncVectorEnv)
        if is_gymnasiums and mask is not None and not options:
            warnings.warn("Gymnasium's environments take 'reset_mask' out of the options of their caller", stacklevel=2)
        else:
            changed = difference({**before, "reset_mask": mask}, {"reset_mask": None, **mapped(to_numpy, options)})
            expect(changed is None, f"{name} must leave the options it is given as they were: {changed}")
        return self._checked(name, dict(zip(RESET_PARTS, returned, strict=True)), mask)

    def reset_slots(self, name: str, mask: NDArray[np.bool_], as_tensor: bool = False) -> Call:
        """Reset the slots of `mask` `[num_envs]`."""
        given = torch.tensor(mask, device=self.device) if as_tensor else mask.copy()
        return self.reset(name, options={"reset_mask": given})

    def step(self, name: str, actions: Any) -> Call:
        given = mapped(self.own_kind, actions)
        returned = attempt(name, self.env.step, given)
        expect(
            isinstance(returned, tuple) and len(returned) == 5,
            f"{name} must return ({', '.join(STEP_PARTS)}), got {describe(returned)}",
        )
        changed = difference({"actions": actions}, {"actions": mapped(to_numpy, given)})
        expect(changed is None, f"{name} must leave the actions it is given as they were: {changed}")
        return self._checked(name, dict(zip(STEP_PARTS, returned, strict=True)))

    def own_kind(self, actions: NDArray[Any]) -> Any:
        """A copy as the environment's own data are, array or tensor."""
        return np.array(actions) if self.device is None else torch.tensor(actions, device=self.device)

    def _checked(self, name: str, parts: dict[str, Any], mask: NDArray[np.bool_] | None = None) -> Call:
        check_devices(parts, getattr(self.env, "device", None), name)
        call = Call(name, parts, mapped(to_numpy, parts), mask)
        check_in_space(parts["observations"], self.env.observation_space, f"{name}: observations")
        if call.is_step:
            check_numbers(call, self.env.num_envs)
        expect(isinstance(parts["infos"], dict), f"{name}: infos must be a dict, got {describe(parts['infos'])}")
        check_infos(parts["infos"], self.env.num_envs, f"{name}: infos")
        return call


# Attributes


def check_attributes(env: VectorEnv[Any, Any, Any]) -> None:
    expect(isinstance(env, VectorEnv), f"env must be a gymnasium.vector.VectorEnv, got {type(env).__name__}")
    expect(
        isinstance(env.num_envs, int) and env.num_envs >= 1, f"num_envs must be an int of 1 or more, got {env.num_envs}"
    )
    mode = env.metadata.get("autoreset_mode")
    expect(
        isinstance(mode, AutoresetMode),
        f"metadata['autoreset_mode'] must be an instance of gymnasium.vector.AutoresetMode, got {mode!r}",
    )
    base = env.unwrapped
    own_mode = getattr(base, "autoreset_mode", mode)
    expect(own_mode is mode, f"metadata['autoreset_mode'] is {mode}, but the attribute autoreset_mode is {own_mode}")
    # A class with one mode may well say so itself; one that lets its instances choose may not.
    is_shared = hasattr(base, "autoreset_mode") and base.metadata is type(base).metadata
    expect(not is_shared, f"metadata must be of the instance, but is shared by all of {type(base).__name__}")
    modes = env.metadata.get("render_modes", [])
    expect(
        env.render_mode is None or env.render_mode in modes,
        f"render_mode must be None or one of metadata['render_modes'] = {modes}, got {env.render_mode!r}",
    )


def check_spaces(env: VectorEnv[Any, Any, Any]) -> None:
    for name in ("observation_space", "action_space"):
        single, batched = getattr(env, f"single_{name}"), getattr(env, name)
        expect(
            is_batch_of(batched, single, env.num_envs),
            f"{name} must hold num_envs = {env.num_envs} times single_{name} = {single}, got {batched}",
        )


def is_batch_of(batched: gym.Space[Any], single: gym.Space[Any], num_envs: int) -> bool:
    """Whether structure, shapes and dtypes are right; the ranges of slots may differ."""
    if isinstance(single, gym.spaces.Dict):
        return (
            isinstance(batched, gym.spaces.Dict)
            and set(batched.spaces) == set(single.spaces)
            and all(is_batch_of(batched[key], single[key], num_envs) for key in single.spaces)
        )
    if isinstance(single, gym.spaces.Box):
        is_alike = isinstance(batched, gym.spaces.Box) and batched.dtype == single.dtype
        return is_alike and batched.shape == (num_envs, *single.shape)
    return bool(batched == batch_space(single, num_envs))


# The form of what a call returns


def check_in_space(value: Any, space: gym.Space[Any], where: str) -> None:
    """Structure, dtype, shape and range; a space that is neither Dict, Tuple nor Box is asked itself."""
    if isinstance(space, gym.spaces.Dict):
        is_fit = isinstance(value, Mapping) and set(value) == set(space.spaces)
        expect(is_fit, f"{where} must have the keys {sorted(space.spaces)}, got {describe(value)}")
        for key, part in space.spaces.items():
            check_in_space(value[key], part, f"{where}[{key!r}]")
    elif isinstance(space, gym.spaces.Tuple):
        is_fit = isinstance(value, tuple | list) and len(value) == len(space.spaces)
        expect(is_fit, f"{where} must be a tuple of {len(space.spaces)}, got {describe(value)}")
        for index, part in enumerate(space.spaces):
            check_in_space(value[index], part, f"{where}[{index}]")
    elif isinstance(space, gym.spaces.Box):
        is_fit = is_array(value) and dtype_name(value) == space.dtype.name and tuple(value.shape) == space.shape
        expect(is_fit, f"{where} must be {space.dtype.name} {list(space.shape)}, got {describe(value)}")
        array = to_numpy(value)
        is_inside = (array >= space.low) & (array <= space.high)  # False for NaN
        expect(bool(is_inside.all()), f"{where} must lie within its space, got {array[~is_inside][:1]}")
    else:
        expect(space.contains(mapped(to_numpy, value)), f"{where} must lie in {space}, got {describe(value)}")


def check_numbers(call: Call, num_envs: int) -> None:
    """Rewards and flags."""
    for name, kind in (("rewards", "float"), ("terminated", "bool"), ("truncated", "bool")):
        value = call.returned[name]
        is_fit = is_array(value) and dtype_name(value).rstrip("0123456789") == kind and value.shape == (num_envs,)
        expect(is_fit, f"{call.name}: {name} must be {kind} [num_envs] = [{num_envs}], got {describe(value)}")
    rewards = call.copies["rewards"]
    expect(np.isfinite(rewards).all(), f"{call.name}: rewards must be finite, got {rewards}")


def check_infos(infos: Mapping[str, Any], num_envs: int, where: str) -> None:
    """A mask for every key, and one row per slot in every array."""
    for key, value in infos.items():
        if is_mask(key) and key[1:] in infos:
            is_fit = is_array(value) and dtype_name(value) == "bool" and value.shape == (num_envs,)
            expect(is_fit, f"{where}[{key!r}] must be bool [num_envs] = [{num_envs}], got {describe(value)}")
            continue
        expect(f"_{key}" in infos, f"{where}[{key!r}] must have a mask '_{key}' beside it, got only {sorted(infos)}")
        check_info_value(value, num_envs, f"{where}[{key!r}]")


def check_info_value(value: Any, num_envs: int, where: str) -> None:
    if isinstance(value, Mapping):
        # The mask of a nested dict holds for all of its keys, unless they have masks of their own.
        if any(map(is_mask, value)):
            check_infos(value, num_envs, where)
        else:
            for key, part in value.items():
                check_info_value(part, num_envs, f"{where}[{key!r}]")
    elif is_array(value):
        is_fit = value.ndim >= 1 and len(value) == num_envs
        expect(is_fit, f"{where} must be [num_envs, ...] = [{num_envs}, ...], got {describe(value)}")


def is_mask(key: Any) -> bool:
    return isinstance(key, str) and key.startswith("_")


def check_devices(parts: Mapping[str, Any], device: Any, where: str) -> None:
    expected = torch.device(device) if isinstance(device, str | torch.device) else None
    for name, leaf in leaves(parts):
        if not isinstance(leaf, Tensor):
            continue
        expected = expected or leaf.device
        is_same = leaf.device.type == expected.type and (
            None in (leaf.device.index, expected.index) or leaf.device.index == expected.index
        )
        expect(is_same, f"{where}: {name} must be on {expected} as the environment is, got {leaf.device}")


# Seeds and memory


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
    """Nothing that was returned has changed since, or lies where another call's data lie."""
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
    """The environment holds no part of what it returned."""

    def overwrite(call: Call) -> None:
        fill_with_garbage(leaf for _, leaf in leaves(call.returned))

    rule = "overwriting what earlier calls returned must change nothing"
    try:
        spoiled = player.play(after_call=overwrite)
    except VectorEnvError as error:
        raise VectorEnvError(f"{rule}, but then {error}") from error
    expect_same(run, spoiled, rule)


# Ends of episodes


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
    """SAME_STEP: where an episode ended, and only there, its last observation and info."""
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
    """A single end may look like the beginning that follows, all of them in an environment that moves do not."""
    is_moving = len(set(observations_of(run))) > 1
    is_mixed_up = is_moving and bool(ends) and all(difference(last, begun) is None for last, begun in ends)
    name = "infos['final_obs']" if mode is AutoresetMode.SAME_STEP else "the last observation of an episode"
    expect(
        not is_mixed_up,
        f"{name} must be the observation before the reset, but equals the one after it in all {len(ends)} ends",
    )


def check_ignored_steps(player: Player, run: Sequence[Call]) -> None:
    """NEXT_STEP: the step after an end only resets."""
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
    """DISABLED: the slots outside of a reset mask stay as they were."""
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
    """DISABLED: a step of a finished slot raises, or leaves it as it is and pays nothing."""
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


# The same environment in all modes


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
    """`final_obs` and `final_info` in SAME_STEP are what a step shows in DISABLED, the `reference`."""
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


# Pictures and the end


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


# Errors


def expect(holds: Any, message: str) -> None:
    if not holds:
        raise VectorEnvError(message)


def expect_same(expected: Sequence[Call], calls: Sequence[Call], rule: str) -> None:
    """Compare two runs up to the end of the shorter one."""
    for first, second in zip(expected, calls, strict=False):
        changed = difference(meaningful(first), meaningful(second))
        expect(changed is None, f"{rule}, but {first.name} differs: {changed}")


def attempt(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise VectorEnvError(f"{name} raised {type(error).__name__}: {error}") from error


# What of a call is compared


def outcome(call: Call) -> dict[str, Any]:
    """All but the infos."""
    return {name: value for name, value in call.copies.items() if name != "infos"}


def observations_of(run: Sequence[Call]) -> list[bytes]:
    return [b"".join(leaf.tobytes() for _, leaf in leaves(call.copies["observations"])) for call in run]


def meaningful(call: Call) -> dict[str, Any]:
    """What two equal runs share: infos only in the slots of their masks, and not the time of day."""
    return {**call.copies, "infos": without_blanks(call.copies["infos"])}


def without_blanks(infos: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in infos.items():
        kept = without_blanks(value) if isinstance(value, Mapping) else value
        if key == "episode" and isinstance(kept, dict):
            kept.pop("t", None)  # seconds, as RecordEpisodeStatistics measures them
        mask = infos.get(f"_{key}")
        found[key] = kept if mask is None else blanked(kept, mask)
    return found
