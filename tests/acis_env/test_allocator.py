"""Memory that is freed and taken again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from acis_env.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for _ in range(2):  # the first pass has to take the memory from the system
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


def count_faults(keep):
    run = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_is_kept_is_not_paged_in_again():
    assert count_faults(keep=True) < count_faults(keep=False) / 4
