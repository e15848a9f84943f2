"""Processes forked from one in which torch has used several threads.

OpenMP's threads do not live on in a forked process, and the first large operation there waits for them for ever, as in
the workers of `gymnasium.vector.AsyncVectorEnv` on Linux. One thread waits for nobody.
"""

from __future__ import annotations

import os
import sys


def use_one_thread_in_forks() -> None:
    """Give torch a single thread in every process that this one forks from now on; imports nothing."""
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):  # it may be in the middle of its import
        torch.set_num_threads(1)
