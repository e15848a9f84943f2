"""An executor whose calls run in processes of their own, so that their CPU times and peaks of memory compare."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import Any

_CHILDREN = threading.Lock()
"""Held while a process is started or joined, since multiprocessing's own list of children is not locked."""


class Processes(Executor):
    """Runs every call in a new process, so many at a time; what a call returns is lost.

    The processes end with the program, whatever ends it, and with `shutdown(cancel_futures=True)`.
    """

    def __init__(self, limit: int) -> None:
        """Take the largest number of processes at a time."""
        self._pool = ThreadPoolExecutor(limit)
        self._is_wanted, self._want = multiprocessing.Pipe(duplex=False)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Call `function`, which can be pickled, in a process; the future fails with `ChildProcessError` if it does."""
        return self._pool.submit(self._run, function, arguments, options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Start no more; with `cancel_futures`, end those that run, too."""
        if cancel_futures:
            self._want.close()
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _run(self, function: Callable[..., Any], arguments: Any, options: Any) -> None:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_work, args=(function, arguments, options), daemon=True)
        with _CHILDREN:
            process.start()
        if process.sentinel not in wait([process.sentinel, self._is_wanted]):
            process.terminate()
        with _CHILDREN:
            process.join()
        if process.exitcode != 0:
            raise ChildProcessError(f"a process ended with status {process.exitcode}")


def _work(function: Callable[..., Any], arguments: Any, options: Any) -> None:
    """Body of a process, in a group of its own: Ctrl-C reaches the parent alone, which ends its processes by SIGTERM.

    Of two signals, the second would end a training at once, without a checkpoint.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel
    # However the parent ends, nothing goes on without it that a second command would start again.
    threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
    function(*arguments, **options)  # multiprocessing prints an exception, and ends with another status
