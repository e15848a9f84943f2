"""Memory of the process, for programs that step many environments on a CPU."""

from __future__ import annotations

import ctypes
import math
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers from malloc.h
LARGEST = 2**30


def keep_freed_memory() -> bool:
    """Let the process keep memory that it has freed, up to 1 GiB, instead of giving it back to the system.

    Every step makes new tensors. Without this, glibc may give their memory back and take it again at each step, page
    by page, which took more than a quarter of a step of 64 scenes at 224x224 (docs/performance.md). It concerns the
    whole process, so programs call it, and this package calls it in none of its functions but the command `acis`.

    Returns:
        Whether the C library has such a setting (that of Linux has).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc, or not even a C library by that name
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, LARGEST)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST))


def peak_memory() -> float:
    """Most memory that the process has had so far, in bytes; NaN where the system does not tell, as Windows."""
    try:
        import resource
    except ImportError:
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
