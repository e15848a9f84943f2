"""Folders that one process at a time writes into."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
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


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into; takes its place at the end, or is removed after an error.

    Raises:
        ValueError: `folder` is there and not empty.
        OSError: the system refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: expected a folder that is new or empty, found {_content(folder)}")
    unfinished = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.tmp")
    try:
        _change(folder, lambda: unfinished.mkdir(parents=True))
        yield unfinished
        if folder.exists():
            _change(folder, folder.rmdir)
        _change(folder, lambda: unfinished.rename(folder))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _change(folder: Path, change: Callable[[], object]) -> None:
    try:
        change()
    except OSError as error:
        raise cannot_write(folder, "folder", error) from error


def _content(folder: Path) -> str:
    return f"{min(folder.iterdir()).name} in it" if folder.is_dir() else "a file"


def new_folder(parent: Path, name: str) -> Path:
    """Create a folder in `parent` that nobody else has: `name`, or `name-2` and so on."""
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("there are enough numbers")
