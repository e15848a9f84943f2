"""Checks of what users pass to the environments; each error names the argument, the value and what was expected."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from acis_env.configs import is_count, is_number, unknown_name
from acis_env.dynamics import Rules
from acis_env.networks import check_device
from acis_env.weights import Pretrained

MOST_ENVS = 2**20
"""Slots of one environment; each has a generator on the host, and a million of them take minutes."""
OF_NAMED_SCENES: dict[str, Any] = {"split": "train", "scene_options": None, "root": None}
"""Arguments by which scenes are opened that are given by a name or a folder, with their defaults."""
DATASET = ("__len__", "__getitem__", "max_instances")
DECODER = ("size", "latent_size", "condition", "__call__")
WEIGHTS = "None, a bundled name, a folder or the loaded networks"


DEFAULTS: dict[str, Any] = {"preprocessing": "squeeze"}
"""Arguments that are None in a signature, since a data set's protocol comes before these values."""


def settle(
    arguments: Mapping[str, Any], rules: Mapping[str, Any], protocol: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keyword arguments of an environment, and its rules, with those of `protocol` where the caller gives none.

    Args:
        arguments: by name; None stands for what is not given.
        rules: those that are given.
        protocol: of the data set (see `protocol_of`).

    Raises:
        ValueError: the protocol has something else than rules and what is in `DEFAULTS`.
    """
    for name in protocol:
        if name not in (*DEFAULTS, *RULES):
            raise ValueError(f"protocol of the data set: {unknown_name(name, [*DEFAULTS, *RULES])}")
    defaults = {**DEFAULTS, **protocol}
    missing = {name: defaults[name] for name in DEFAULTS if arguments[name] is None}
    return {**arguments, **missing}, {**{name: defaults[name] for name in RULES if name in defaults}, **rules}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check the keyword arguments of `SegmentationVectorEnv` that no other class checks."""
    check_device(arguments["device"])
    limit, scale = (arguments[name] for name in ("max_episode_steps", "action_scale"))
    modes = tuple(mode.value for mode in AutoresetMode)
    choices = {
        "render_mode": (None, "rgb_array"),
        "obs": ("dict", "stacked", "coarse"),
        "obs_dtype": ("uint8", "float32"),
        "sampler": ("random", "shuffle", "sequential"),
        "autoreset_mode": (*modes, *AutoresetMode),
        "precision": ("float32", "bfloat16"),
    }
    checks = [(name, arguments[name] in allowed, f"one of {allowed}") for name, allowed in choices.items()]
    checks += [
        ("num_envs", is_count(arguments["num_envs"], most=MOST_ENVS), f"an int from 1 to {MOST_ENVS}"),
        ("max_episode_steps", limit is None or is_count(limit), "None or an int from 1 on"),
        ("action_scale", is_number(scale) and scale > 0, "a positive number"),
        ("split", isinstance(arguments["split"], str), "the name of a part of the scenes"),
        ("decoder", arguments["decoder"] is None or _has(arguments["decoder"], DECODER), f"None or have {DECODER}"),
        ("weights", isinstance(arguments["weights"], str | Path | Pretrained | None), WEIGHTS),
    ]
    scenes = arguments["scenes"]
    lacks = [] if isinstance(scenes, str | Path) else [name for name in DATASET if not hasattr(scenes, name)]
    if lacks:
        raise ValueError(
            "scenes must be a registered name, a folder or a data set (see acis_env.datasets.SceneDataset), got "
            f"{scenes if isinstance(scenes, int | float | None) else type(scenes).__name__}, which has no "
            f"{', '.join(lacks)}"
        )
    for name in ("scene_options", "augmentation"):
        checks.append((name, isinstance(arguments[name], Mapping | None), "None or a mapping of names to values"))
    if not isinstance(arguments["scenes"], str | Path):
        for name, default in OF_NAMED_SCENES.items():
            checks.append(
                (name, arguments[name] in (default, {}), "left out where scenes is a data set, which has its own")
            )
    for name in ("refine", "compile", "cuda_graph"):
        checks.append((name, isinstance(arguments[name], bool), "True or False"))
    for name, holds, expected in checks:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {arguments[name]!r}")


def _has(value: object, names: Collection[str]) -> bool:
    return all(hasattr(value, name) for name in names)


def build(name: str, kind: type[Any], arguments: Mapping[str, Any], others: Collection[str] = ()) -> Any:
    """`kind(**arguments)`; an unknown keyword is a ValueError that names `name` and the nearest, `others` included."""
    known = [f.name for f in fields(kind)]
    for keyword in arguments:
        if keyword not in known:
            raise ValueError(f"{name}: {unknown_name(keyword, [*known, *others])}")
    try:
        return kind(**arguments)
    except TypeError as error:  # from a comparison with another type
        raise ValueError(f"{name}: a value of another type than expected in {dict(arguments)} ({error})") from error


RULES = tuple(f.name for f in fields(Rules))
CHANGEABLE = tuple(name for name in RULES if name != "stop")
"""Settings that `set_attr` changes: all rules but `stop`, which decides the action space."""


def change_rule(rules: Rules, name: str, values: Any, num_envs: int) -> Rules:
    """`rules` with another value of `name`, given once or as a list of `num_envs` equal ones.

    Raises:
        AttributeError: `name` is fixed or unknown.
        ValueError: the value is outside of its range, or slots would differ.
    """
    if name not in CHANGEABLE:
        raise AttributeError(f"set_attr changes {CHANGEABLE}, got {name!r}")
    if isinstance(values, list | tuple):
        if len(values) != num_envs or any(value != values[0] for value in values):
            raise ValueError(f"{name} must be one value for all {num_envs} slots, got {values!r}")
        values = values[0]
    return replace(rules, **{name: values})


def deal_out(value: Any, num_envs: int) -> tuple[Any, ...]:
    """One value per slot: those of a sequence of `num_envs`, or `value` for each."""
    is_sequence = isinstance(value, list | tuple) or (isinstance(value, Tensor | np.ndarray) and value.ndim > 0)
    is_one_each = is_sequence and len(value) == num_envs
    return tuple(value) if is_one_each else (value,) * num_envs


def parse_env_ids(env_ids: Sequence[int] | None, num_envs: int) -> list[int]:
    """The slots meant; None means all."""
    if env_ids is None:
        return list(range(num_envs))
    given = env_ids.tolist() if isinstance(env_ids, Tensor | np.ndarray) else env_ids
    try:
        slots = [-1 if isinstance(slot, bool) else operator.index(slot) for slot in given]
    except TypeError:  # no numbers, or no list of them
        slots = [-1]
    if not all(0 <= slot < num_envs for slot in slots):
        raise ValueError(f"env_ids must be slots, ints from 0 to {num_envs - 1}, got {env_ids!r}")
    return slots


def parse_seed(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """A seed for each slot, None where it goes on."""
    seeds: list[Any] = list(seed) if isinstance(seed, Sequence) and not isinstance(seed, str) else [seed] * num_envs
    if len(seeds) != num_envs or not all(s is None or (isinstance(s, Integral) and int(s) >= 0) for s in seeds):
        raise ValueError(f"seed must be an int or {num_envs} ints, one per slot and none negative, got {seed!r}")
    offsets = range(num_envs) if isinstance(seed, Integral) else [0] * num_envs
    return [None if s is None else int(s) + offset for s, offset in zip(seeds, offsets, strict=True)]


def parse_options(options: Mapping[str, Any] | None, num_envs: int) -> tuple[list[int] | None, NDArray[np.bool_]]:
    """The scene for each slot, where chosen, and the slots to reset, `[num_envs]` bool."""
    options = options or {}
    if unknown := set(options) - {"scene_index", "reset_mask"}:
        raise ValueError(f"options may hold 'scene_index' and 'reset_mask', got {sorted(unknown)}")
    given = options.get("reset_mask")
    if given is None:
        mask = np.full(num_envs, True)
    else:
        mask = given.numpy(force=True) if isinstance(given, Tensor) else np.asarray(given)
    if mask.shape != (num_envs,) or mask.dtype != bool or not mask.any():
        raise ValueError(
            f"options['reset_mask'] must be bool [num_envs] = [{num_envs}] with at least one True, "
            f"got {mask.dtype} {mask.tolist()}"
        )
    return _parse_scene_index(options.get("scene_index"), num_envs), mask


def _parse_scene_index(value: ArrayLike | None, num_envs: int) -> list[int] | None:
    if value is None:
        return None
    chosen = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (num_envs,)):
        raise ValueError(f"options['scene_index'] must be an int or [num_envs] = [{num_envs}] ints, got {value!r}")
    return [int(index) for index in np.broadcast_to(chosen, num_envs)]
