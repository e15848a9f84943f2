"""`python -m benchmarks`, in a checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from acis_env.allocator import keep_freed_memory
from acis_env.networks import check_device
from benchmarks.arguments import Arguments
from benchmarks.suites import run_suites


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure; a mistake of the user ends the program with one line that says what was wrong."""
    keep_freed_memory()
    args = tyro.cli(Arguments, prog="python -m benchmarks", args=arguments)
    try:
        check_device(args.device)
        run_suites(args)
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks: {error}")


if __name__ == "__main__":
    main()
