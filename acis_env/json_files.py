"""JSON from files and from the command line, which may hold anything: one line says what is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MAX_BYTES = 2**28
"""Largest file that is read as JSON. The results of `acis reproduce` take some megabytes."""
MAX_DEPTH = 64
"""Most brackets inside of each other. Configurations have less than ten, and copying recurses as deeply as they go."""


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON object in `path`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming `path`, as `parse_json` does, or the file is too large.
    """
    file = Path(path)
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{file}: expected JSON of at most {MAX_BYTES} bytes, got {size}")
    return parse_json(file.read_bytes(), str(file))


def parse_json(text: str | bytes, source: str) -> dict[str, Any]:
    """The JSON object that `text` holds.

    Raises:
        ValueError: naming `source`: it is not JSON, is nested too deeply to be read, or is no object.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{source}: expected a JSON object, got brackets that are nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{source}: expected a JSON object, got what is not JSON ({error})") from error
    if _is_deep(value):
        raise ValueError(f"{source}: expected a JSON object, got brackets that are nested too deeply")
    if not isinstance(value, dict):
        found = type(value).__name__ if isinstance(value, list) else repr(value)[:80]
        raise ValueError(f"{source}: expected a JSON object, got {found}")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [
            item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
        ]
        if not containers:
            return False
        level = [item for container in containers for item in container]
    return True
