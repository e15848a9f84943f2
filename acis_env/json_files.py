"""JSON from files and from the command line, which may hold anything: one line says what is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MAX_BYTES = 2**28
"""Largest file that is read as JSON. The results of `acis reproduce` take some megabytes."""


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
        problem = str(error).splitlines()[0]
        raise ValueError(f"{source}: expected a JSON object, got something else ({problem})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{source}: expected a JSON object, got {_shortened(value)}")
    return value


def _shortened(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}..."
