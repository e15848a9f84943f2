"""`acis train` as a module, for torchrun: `torchrun --nproc-per-node=4 -m agents.train bl-score --device cuda`."""

import sys

from agents.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
