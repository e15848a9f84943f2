"""`python -m benchmarks` is `acis bench`."""

import sys

from agents.commands.cli import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]])
