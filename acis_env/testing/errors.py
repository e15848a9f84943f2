"""Errors that report a broken contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class VectorEnvError(AssertionError):
    """A vector environment breaks a contract; the message says in which call, what it gave and what is right."""


def expect(holds: Any, message: str) -> None:
    if not holds:
        raise VectorEnvError(message)


def attempt(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise VectorEnvError(f"{name} raised {type(error).__name__}: {error}") from error
