"""Files that are whole at every moment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from acis_env.checksums import with_checksum


@contextmanager
def replacing(path: str | os.PathLike[str], what: str = "file", previous: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write to; takes the place of `path` at the end, or is removed after an error.

    The folder is created. Whatever interrupts the writing, `path` holds the old content or all of the new; with
    `previous`, the old content is at one of the two places at every moment.

    Args:
        path: file to write.
        what: what it holds, for errors.
        previous: where the old file is kept; None: it goes.

    Raises:
        OSError: the system refuses; names the file, what was being written, and why.
    """
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        if previous is not None and target.exists():
            target.replace(previous)
        unfinished.replace(target)
    except OSError as error:
        raise cannot_write(target, what, error) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def cannot_write(path: Path, what: str, error: OSError) -> OSError:
    """`error`, of the same kind, in one line that names the file and what was being written."""
    named = type(error)(f"{path}: cannot write the {what}: {error.strerror or error}")
    named.errno = error.errno
    return named


def one_line(error: Exception) -> str:
    """What an error says, in one line; of one that the system has raised, the file and why."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).splitlines())


def remove_unfinished(folder: Path) -> None:
    """Remove the files that writers which were killed left in `folder`; nobody may be writing there.

    Folders stay: one that is to appear in `folder` may be in the making.
    """
    for path in folder.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any], checksum: bool = False) -> None:
    """Write `content` to `path`, indented; with a checksum, `read_json` notices damage to it."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(with_checksum(content) if checksum else content, indent=2) + "\n")
