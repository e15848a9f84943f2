"""Training of one agent by several processes, which torchrun starts: `python -m agents.benchmark.together FOLDER`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from acis_env.checksums import read_json
from acis_env.files import write_json
from agents.algorithms.distributed import join_group
from agents.experiments.timing import TimedTrainer
from agents.training.checkpoint import holds_run
from agents.training.config import TrainConfig, train_config_from_dict

PLAN = "together.json"
"""File in the folder of a run that tells the processes its configuration."""


def train_together(config: TrainConfig, folder: Path, processes: int) -> None:
    """Train in so many processes to the end, from the last checkpoint if there is one.

    Raises:
        ChildProcessError: it failed; what the processes printed says why.
    """
    write_json(folder / PLAN, asdict(config))
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    command = [sys.executable, *launcher, "-m", "agents.benchmark.together", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as group:  # which closes when this process ends
        status = group.wait()
    if status != 0:
        raise ChildProcessError(f"{' '.join(command)}: ended with status {status}")


def main(folder: Path) -> None:
    """One of the processes."""
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    config = train_config_from_dict(read_json(folder / PLAN), str(folder / PLAN))
    with join_group(config.device) as group:
        if holds_run(folder):
            TimedTrainer.resume(folder, None, None, group).run()
        else:
            TimedTrainer(config, folder, group=group).run()


def _end_with_launcher() -> None:
    """Wait until the process that began the training is gone, and go, too."""
    os.read(sys.stdin.fileno(), 1)  # not through a buffer, whose lock would be held when the program ends
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
