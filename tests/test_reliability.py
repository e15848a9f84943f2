"""The short form of `python -m tests.reliability`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_kills_flipped_bits_and_full_disks_lose_nothing():
    counts = ["--kills", "4", "--flips", "10", "--disks", "2", "--kinds", "baseline", "actor-critic"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability", *counts], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 9
