"""Work for several threads: reading and decoding files, in which Python lets other threads run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 8
"""More of them wait for Python's lock rather than for files."""
MOST_TOGETHER = 32
"""Items that a thread takes at a time, since handing one over takes some microseconds."""


def num_threads() -> int:
    """Threads that are worth while: one for each core that this process may use, as far as there are not many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_THREADS)


def map_in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[function(item) for item in items]` by several threads, which have ended when it returns.

    Of several errors, that of the first item is raised.
    """
    threads = min(num_threads(), len(items))
    if threads <= 1:
        return [function(item) for item in items]
    together = min(MOST_TOGETHER, -(-len(items) // (4 * threads)))
    parts = [items[first : first + together] for first in range(0, len(items), together)]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(lambda part: [function(item) for item in part], part) for part in parts]
        try:
            return [result for future in futures for result in future.result()]
        finally:
            for future in futures:  # after an error, nobody wants the others
                future.cancel()
