"""The specification with which Gymnasium makes an environment again, here or in another process."""

from __future__ import annotations

from copy import copy
from pathlib import PurePath
from typing import Any

from gymnasium.envs.registration import EnvSpec


class PortableSpec:
    """An environment whose `spec` can be written as JSON: Gymnasium sets it, and its paths become strings."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """What Gymnasium made this environment by; None if it did not."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec if spec is None else _portable(spec)


def _portable(spec: EnvSpec) -> EnvSpec:
    changed = copy(spec)
    changed.kwargs = {name: _plain(value) for name, value in spec.kwargs.items()}
    return changed


def _plain(value: Any) -> Any:
    """`value` with strings for the paths in it."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
