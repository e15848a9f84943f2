"""Tiny runs of every algorithm, each in a process of its own that can be killed."""

import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from acis_env.weights import save_weights
from agents.algorithms import BaselineConfig
from agents.commands.main import main
from agents.training.checkpoint import holds_run
from agents.training.config import Stage
from agents.training.trainer import Trainer
from tests.agents.conftest import CONFIG, random_networks
from tests.agents.training.conftest import ALGORITHMS


def make_configs(folder):
    """Configurations by the kind of the main stage; every iteration writes a checkpoint, every third evaluates."""
    networks, weights = random_networks(), folder / "weights"
    for network in (networks.context_network, networks.autoencoder):
        save_weights(weights, network)
    first = Stage("init", BaselineConfig(learning_rate=1e-2), 2, sequence_length=1)
    env = CONFIG.env.having(weights=str(weights))
    return {
        kind: replace(
            CONFIG,
            env=env,
            stages=(first, Stage("main", algorithm, 5)),
            checkpoint_every=1,
            eval_every=3,
            eval_scenes=1,
        )
        for kind, algorithm in ALGORITHMS.items()
    }


def train(config, folder):
    """Begin the run in `folder`, or go on with it; as the body of a process."""
    if holds_run(folder):
        main(["train", "--resume", str(folder)])
    else:
        Trainer(config, folder).run()


class Child:
    """A process that calls `function`, forked from this one, which has imported everything already.

    Nothing may have been trained in this process before, whose threads a fork would lose.
    """

    def __init__(self, function, *arguments, printed=Path(os.devnull)):
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            with printed.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            torch.set_num_threads(1)
            function(*arguments)
            status = 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def wait(self):
        """The exit status, negative for a signal; and the seconds that it took."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), time.monotonic() - self.started

    def kill_after(self, seconds):
        """Kill it, if it has not ended by then; returns its exit status."""
        while (left := self.started + seconds - time.monotonic()) > 0:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(min(left, 0.005))
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()[0]
