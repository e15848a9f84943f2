"""Jobs, run by any executor; what is done already is not run again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from typing import Any

from acis_env.meter import in_words
from agents.experiments.jobs import Job, check_recorded, run_alone

POLL_SECONDS = 1.0
"""Time between two looks at which jobs have started."""


class FailedRunsError(ChildProcessError):
    """Some of many runs ended in an error."""


def run_stages(stages: Iterable[Sequence[Job]], executor: Executor) -> list[str]:
    """Run the jobs of one stage after those of the other; returns the names of those that failed.

    A failure ends everything with its stage, since what follows needs it.

    Raises:
        ValueError: a folder holds a result of another configuration.
    """
    for stage in stages:
        check_recorded(stage)
        failed = run_jobs(stage, executor)
        if failed:
            return failed
    return []


def run_jobs(jobs: Sequence[Job], executor: Executor) -> list[str]:
    """Run what is not done, each job in a process with one thread; returns the names of those that failed.

    An interruption ends all of them.
    """
    waiting = [job for job in jobs if not job.is_done]
    started = time.monotonic()
    failed: list[str] = []
    with _one_thread():
        try:
            futures = {executor.submit(run_alone, job): job for job in waiting}
            for done, future in enumerate(_completed(futures), start=1):
                job, is_successful = futures[future], future.exception() is None
                if not is_successful:
                    failed.append(job.name)
                seconds = time.monotonic() - started
                left = f", about {in_words(seconds / done * (len(waiting) - done))} left" if done < len(waiting) else ""
                state = "done" if is_successful else f"failed, see {job.folder / 'log.txt'}"
                _report(f"[{done}/{len(waiting)}, {in_words(seconds)}{left}] {job.name}: {state}")
        except BaseException:  # some jobs wait and some run
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _completed(futures: Mapping[Future[Any], Job]) -> Iterator[Future[Any]]:
    """Yield `futures` as they end; says which jobs have started."""
    pending, announced = set(futures), set()
    while pending:
        for future in futures:  # in the order of the plan
            if future in pending and future not in announced and future.running():
                announced.add(future)
                _report(f"started: {futures[future].name}")
        done, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        yield from done


def _report(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Give one thread to every process that is started in the block."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
