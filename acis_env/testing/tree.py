"""Nested data: dicts, tuples and object arrays of arrays and tensors, taken apart, compared and described.

To `optree` an object array is a leaf; it is opened here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import optree
import torch
from numpy.typing import NDArray
from torch import Tensor

_tree_map = partial(optree.tree_map, none_is_leaf=True)  # here None is a value like others


def blanked(value: Any, mask: NDArray[np.bool_]) -> Any:
    """`value` with zero in the slots outside of `mask` `[num_envs]`."""

    def blank(leaf: Any) -> Any:
        return _choose(mask, leaf, np.zeros((), leaf.dtype)) if isinstance(leaf, np.ndarray) else leaf

    return _tree_map(blank, value)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield everything that is no container, with a name such as `infos['final_obs']['mask']`."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{path}[{key!r}]" if path else str(key))
    elif isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.dtype == object):
        for index, part in enumerate(value):
            yield from leaves(part, f"{path}[{index}]")
    else:
        yield path, value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Copy of `value` with `function(leaf)` in place of every leaf."""

    def visit(leaf: Any) -> Any:
        if not (isinstance(leaf, np.ndarray) and leaf.dtype == object):
            return function(leaf)
        result = np.empty_like(leaf)
        for index in np.ndindex(leaf.shape):
            result[index] = mapped(function, leaf[index])
        return result

    return _tree_map(visit, value)


def to_numpy(leaf: Any) -> Any:
    """A copy in numpy; what is neither array nor tensor stays."""
    if isinstance(leaf, Tensor):
        leaf = leaf.float() if leaf.dtype == torch.bfloat16 else leaf  # numpy has none
        return leaf.numpy(force=True).copy()
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def row(value: Any, slot: int) -> Any:
    """The part of one slot; `final_obs` may be an object array of whole observations."""
    return _tree_map(lambda leaf: leaf[slot], value)


def with_rows(value: Any, other: Any, mask: NDArray[np.bool_]) -> Any:
    """`value` with the slots of `mask` `[num_envs]` from `other`."""
    return _tree_map(partial(_choose, mask), other, value)


def _choose(mask: NDArray[np.bool_], yes: NDArray[Any], no: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.expand_dims(mask, tuple(range(1, yes.ndim))), yes, no)


def difference(expected: Any, value: Any) -> str | None:
    """The first leaf that is not bitwise the same, in words."""
    first, second = dict(leaves(expected)), dict(leaves(value))
    if first.keys() != second.keys():
        return f"{sorted(first.keys() ^ second.keys())} are in one only"
    for name, leaf in first.items():
        if not is_same(leaf, second[name]):
            return f"{name or 'the array'} is {describe_change(leaf, second[name])}"
    return None


def is_same(first: Any, second: Any) -> bool:
    if is_array(first) and is_array(second):
        is_alike = first.dtype == second.dtype and first.shape == second.shape
        return bool(is_alike and first.tobytes() == second.tobytes())
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return False
    return first is second or bool(first == second)  # a number of numpy may be one of Python elsewhere


def describe_change(first: Any, second: Any) -> str:
    if not (is_array(first) and is_array(second)) or first.shape != second.shape or first.dtype != second.dtype:
        return f"{describe(second)}, expected {describe(first)}"
    if first.size <= 8:
        return f"{second.tolist()}, expected {first.tolist()}"
    rows = [index for index in range(len(first)) if not is_same(first[index], second[index])]
    return f"{describe(second)} with other values at [{', '.join(map(str, rows[:8]))}, ...]"


def describe(value: Any) -> str:
    """Kind, dtype and shape, or the value where it has none."""
    if is_array(value):
        return f"{dtype_name(value)} {list(value.shape)}"
    if isinstance(value, dict):
        return f"a {type(value).__name__} of {sorted(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | Tensor)


def dtype_name(array: Any) -> str:
    """Name of the dtype as numpy has it, such as "uint8"."""
    return str(array.dtype).removeprefix("torch.")


def slots_of(mask: NDArray[np.bool_]) -> list[int]:
    return [int(slot) for slot in np.flatnonzero(mask)]


def buffer_of(leaf: Any) -> Any:
    """Where the memory of an array begins that `leaf` is a part of; None for what has no memory of its own."""
    if isinstance(leaf, Tensor):
        storage = leaf.untyped_storage()
        return (str(leaf.device), storage.data_ptr()) if storage.nbytes() else None
    if not isinstance(leaf, np.ndarray) or leaf.nbytes == 0:
        return None
    while isinstance(leaf.base, np.ndarray):
        leaf = leaf.base
    return "cpu", leaf.__array_interface__["data"][0]


def fill_with_garbage(values: Iterable[Any]) -> None:
    """NaN for floats, all bits turned over for the rest: once, also where values share memory."""
    writable = [leaf for leaf in values if _is_writable(leaf)]
    for leaf, garbage in [(leaf, _garbage_for(leaf)) for leaf in writable]:
        with torch.inference_mode():
            leaf[...] = garbage


def _is_writable(leaf: Any) -> bool:
    if isinstance(leaf, Tensor):
        return 0 not in leaf.stride()  # an expanded tensor cannot be written to
    return isinstance(leaf, np.ndarray) and leaf.flags.writeable and leaf.dtype.kind in "fbiu"


def _garbage_for(leaf: Any) -> Any:
    is_float = leaf.is_floating_point() if isinstance(leaf, Tensor) else leaf.dtype.kind == "f"
    return math.nan if is_float else ~leaf
