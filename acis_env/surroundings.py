"""What a program has set for all of torch, such as another default type: our functions compute as if it had not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

DEVICE_TYPES = tuple(name for name in ("cpu", "cuda", "mps") if torch.amp.is_autocast_available(name))
CPU = torch.device("cpu")

_lock = threading.Lock()
_found: list[torch.dtype] = []  # the program's default type, once for each call under way


def unaffected(function: Callable[P, R]) -> Callable[P, R]:
    """Make `function` compute as in a fresh process, whatever surrounds the call.

    Default type and device, inference mode and autocast are set aside until it returns. The default type is one of all
    threads: others of the program see float32 meanwhile.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if _is_fresh():  # found in some microseconds
            return function(*args, **kwargs)
        with _fresh():
            return function(*args, **kwargs)

    return call


def as_tensor(values: Any, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> Tensor:
    """`torch.as_tensor`, also of arrays that run backwards or have another order of bytes, which torch refuses."""
    if isinstance(values, np.ndarray):
        values = np.asarray(values, dtype=values.dtype.newbyteorder("="))
        if any(stride < 0 for stride in values.strides):
            values = values.copy()
    return torch.as_tensor(values, dtype=dtype, device=device)


def _is_fresh() -> bool:
    return (
        not _found
        and torch.get_default_dtype() is torch.float32
        and not torch.is_inference_mode_enabled()
        and not any(map(torch.is_autocast_enabled, DEVICE_TYPES))
        and torch.empty(0).device == CPU  # torch 2.4 tells of `with torch.device(...)` by nothing else
    )


@contextmanager
def _fresh() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(_float32())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for name in DEVICE_TYPES:
            if torch.is_autocast_enabled(name):
                stack.enter_context(torch.autocast(name, enabled=False))
        stack.enter_context(CPU)
        yield


@contextmanager
def _float32() -> Iterator[None]:
    """The first call that comes sets the default type, and the last one that goes puts it back."""
    with _lock:
        _found.append(_found[0] if _found else torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            torch.set_default_dtype(_found.pop())
            if _found:
                torch.set_default_dtype(torch.float32)
