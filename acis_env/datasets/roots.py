"""Where data sets that are not in the package lie, by `root` or an environment variable, and where caches are kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path

CACHE_VARIABLE = "ACIS_CACHE"
"""Environment variable that holds the folder of all caches."""


class MissingSplit(FileNotFoundError):
    """A data set has no such split."""


def root_variable(name: str) -> str:
    """Environment variable that holds the folder of the data set `name`, such as ACIS_CVPPP_ROOT for "cvppp"."""
    return f"ACIS_{name.upper()}_ROOT"


def find_root(name: str, root: str | Path | None, expected: str, source: str) -> Path:
    """The folder of a data set.

    Args:
        name: the data set's.
        root: the folder; None for that of the environment variable.
        expected: what is looked for in it, for the error.
        source: where the data come from, for the error.

    Raises:
        FileNotFoundError: no folder is named, or there is none.
    """
    variable = root_variable(name)
    place = root if root is not None else os.environ.get(variable)
    if not place:
        raise FileNotFoundError(
            f"{name}: the data are not in the package; pass root=, or set {variable}, to the folder with {expected}. "
            f"Get them from {source}"
        )
    folder = Path(place).expanduser()
    if not folder.is_dir():
        named = "root" if root is not None else variable
        raise FileNotFoundError(
            f"{name}: {named} must be a folder with {expected}, got {folder.absolute()}, which is none. "
            f"Get the data from {source}"
        )
    return folder


def names_in(folder: Path, expected: str) -> list[str]:
    """Names of what is in `folder`, sorted, without hidden files such as the `.DS_Store` of a Mac.

    Args:
        folder: to look into.
        expected: what is looked for in it, for the error.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: it cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise type(error)(f"{folder} cannot be read ({error.strerror}); expected a folder with {expected}") from error


def named(names: Collection[str], most: int = 6) -> str:
    """The first of `names`, for an error."""
    shown = ", ".join(list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "nothing"


def cache_root() -> Path:
    """The folder of all caches, which may be removed at any time: that of `ACIS_CACHE`, or the platform's.

    Raises:
        RuntimeError: the system knows of no home for this user, and no folder is named.
    """
    if place := os.environ.get(CACHE_VARIABLE):
        return Path(place).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "acis-env"
