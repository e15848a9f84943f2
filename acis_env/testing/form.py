"""What the attributes of a vector environment and the results of one call must look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from acis_env.testing.errors import expect
from acis_env.testing.tree import describe, dtype_name, is_array, leaves, mapped, to_numpy


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


def check_in_space(value: Any, space: gym.Space[Any], where: str) -> None:
    """Check structure, dtype, shape and range; a space that is neither Dict, Tuple nor Box is asked itself."""
    if isinstance(space, gym.spaces.Dict):
        is_fit = isinstance(value, dict) and set(value) == set(space.spaces)
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


def check_numbers(parts: Mapping[str, Any], num_envs: int, where: str) -> None:
    """Check rewards and flags."""
    for name, kind in (("rewards", "float"), ("terminated", "bool"), ("truncated", "bool")):
        value = parts[name]
        is_fit = is_array(value) and dtype_name(value).rstrip("0123456789") == kind and value.shape == (num_envs,)
        expect(is_fit, f"{where}: {name} must be {kind} [num_envs] = [{num_envs}], got {describe(value)}")
    rewards = to_numpy(parts["rewards"])
    expect(np.isfinite(rewards).all(), f"{where}: rewards must be finite, got {rewards}")


def check_infos(infos: Mapping[str, Any], num_envs: int, where: str) -> None:
    """Check that every key has a mask, and every array one row per slot."""
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
