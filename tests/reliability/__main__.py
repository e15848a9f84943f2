"""Print the table of docs/reliability.md."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from random import Random

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: bits are compared, and processes forked

from tests.reliability.runs import make_configs
from tests.reliability.trials import fall_back, fill_disks, flip_bits, kill_runs, run_whole


def measure(folder, kills, flips, disks, seed, kinds):
    """All rows of the table, for the algorithms of these kinds or all of them."""
    random, configs = Random(seed), make_configs(folder)
    configs = {kind: config for kind, config in configs.items() if not kinds or kind in kinds}
    whole = run_whole(configs, folder / "whole")
    return [
        *kill_runs(configs, whole, folder, kills, random),
        *flip_bits(whole, folder / "weights", folder, flips, random),
        *fall_back(configs, whole, folder, max(flips // 10, 1), random),
        *fill_disks(configs, whole, folder, disks, random),
    ]


def main():
    """Measure, and end with 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    for name, number in {"kills": 100, "flips": 100, "disks": 20, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--kinds", nargs="*", help="algorithms; by default all")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), **vars(parser.parse_args()))
    print("| what was done | times | how it ended |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {row.what} | {row.times} | {row.outcome} |")
    sys.exit(not all(row.holds for row in rows))


if __name__ == "__main__":
    main()
