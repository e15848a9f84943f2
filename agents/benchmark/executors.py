"""Where the jobs of a benchmark run: processes of this machine, or jobs of Slurm by submitit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from agents.benchmark.extras import require
from agents.experiments.processes import Processes

Place = Literal["local", "slurm", "submitit-local"]
"""Processes; jobs of Slurm; or processes that submitit starts, as a rehearsal of Slurm on one machine."""
MINUTES = 240
"""Time limit of a job of submitit, unless another is given."""


def open_executor(place: Place, limit: int, folder: Path, options: Mapping[str, str]) -> Executor:
    """An executor that runs `limit` jobs at a time.

    Args:
        place: where.
        limit: number of jobs at a time.
        folder: where submitit keeps its scripts, pickles and logs.
        options: arguments of submitit's `SlurmExecutor`: partition, time (minutes), gpus_per_node, account, ...

    Raises:
        ValueError: there is no Slurm here, it has no such option, or submitit is not installed.
    """
    if options and place != "slurm":
        raise ValueError(f"--slurm needs --executor slurm, got {place!r}")
    return Processes(limit) if place == "local" else Submitted(_engine(place, folder, options), limit)


def _engine(place: Place, folder: Path, options: Mapping[str, str]) -> Any:
    """The executor of submitit."""
    require("submitit")
    import submitit

    if place == "submitit-local":
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # That of a program in the background. Its jobs would ignore it, too, and submitit ends them by it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        local = submitit.LocalExecutor(folder)
        local.update_parameters(timeout_min=MINUTES)
        return local
    try:
        engine = submitit.SlurmExecutor(folder)
        values = {name: int(text) if text.isdigit() else text for name, text in options.items()}
        engine.update_parameters(**{"time": MINUTES, "job_name": "acis", **values})
    except RuntimeError as error:  # no srun
        raise ValueError(f"--executor slurm: {error}") from error
    except ValueError as error:
        raise ValueError(f"--slurm: {' '.join(str(error).split())}") from error
    return engine


class Submitted(Executor):
    """Runs every call as a job of submitit, so many at a time; waiting for one costs a thread and no time."""

    def __init__(self, engine: Any, limit: int) -> None:
        """Take an executor of submitit, and the largest number of jobs at a time."""
        self._engine, self._pool = engine, ThreadPoolExecutor(limit)
        self._lock = threading.Lock()  # submitit's executors are not made for several threads
        self._jobs: list[Any] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Call `function` in a job; the future fails with the error of submitit if it does."""
        return self._pool.submit(self._run, function, arguments, options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Submit no more; with `cancel_futures`, end the jobs that were submitted, too."""
        self._pool.shutdown(wait=False, cancel_futures=cancel_futures)
        if cancel_futures:
            with self._lock:
                for job in self._jobs:
                    if not job.done():
                        job.cancel()
        self._pool.shutdown(wait=wait)

    def _run(self, function: Callable[..., Any], arguments: Any, options: Any) -> Any:
        with self._lock:
            job = self._engine.submit(function, *arguments, **options)
            self._jobs.append(job)
        return job.result()
