"""Folders that one process at a time writes into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from acis_env.files import cannot_write, remove_unfinished

LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep `folder` to this process until the end of the block, and clear away what a killed one left unfinished.

    The folder is created, and removed in the end if it is empty. The system releases the lock of a process
    that dies. A process may claim what it has claimed already.

    Raises:
        ValueError: another process is writing there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"{folder}: another process is writing there: wait for it, or choose another folder"
        ) from error
    except OSError as error:
        raise cannot_write(folder / LOCK, "lock", error) from error
    is_outermost = lock.lock_counter == 1
    try:
        if is_outermost:
            remove_unfinished(folder)
        yield
    finally:
        if is_outermost:  # still locked: whoever waits for a lock file that was removed makes another one
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()  # fails if it holds anything
        lock.release()


def new_folder(parent: Path, name: str) -> Path:
    """Create a folder in `parent` that nobody else has: `name`, or `name-2` and so on."""
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("there are enough numbers")
