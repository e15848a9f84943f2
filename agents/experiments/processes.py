"""Jobs in processes of their own, with one thread each, so that their CPU times and peaks of memory compare."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait

import torch

from acis_env.allocator import keep_freed_memory
from agents.experiments.jobs import Job, run_job

_CHILDREN = threading.Lock()
"""Held while a process is started or joined, since multiprocessing's own list of children is not locked."""


def run_jobs(jobs: Sequence[Job], limit: int) -> list[str]:
    """Run what is not done, `limit` at a time, each in a process of its own; returns the names of those that failed.

    An interruption ends all of them.
    """
    waiting = [job for job in jobs if not job.is_done]
    started = time.monotonic()
    failed: list[str] = []
    is_wanted, want = multiprocessing.Pipe(duplex=False)
    with is_wanted, want, _one_thread(), ThreadPoolExecutor(limit) as pool:
        try:
            futures = {pool.submit(_run_in_process, job, is_wanted): job for job in waiting}
            for done, future in enumerate(as_completed(futures), start=1):
                job, is_successful = futures[future], future.result()
                if not is_successful:
                    failed.append(job.name)
                minutes = (time.monotonic() - started) / 60
                state = "done" if is_successful else f"failed, see {job.folder / 'log.txt'}"
                _report(f"[{done}/{len(waiting)}, {minutes:.0f} min] {job.name}: {state}")
        finally:  # after an interruption some jobs wait and some run
            pool.shutdown(wait=False, cancel_futures=True)
            want.close()
    return failed


def _report(line: str) -> None:
    print(line, flush=True)


def _run_in_process(job: Job, is_wanted: Connection) -> bool:
    """Run `job` in a new process, ended early if the other end of `is_wanted` closes; returns whether it succeeded."""
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(job,), daemon=True)
    with _CHILDREN:
        process.start()
    if process.sentinel not in wait([process.sentinel, is_wanted]):
        process.terminate()
    with _CHILDREN:
        process.join()
    return process.exitcode == 0


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


def _work(job: Job) -> None:
    """Body of a process: run `job`, with all it prints in a file."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel
    # However the parent ends, nothing goes on without it that a second command would start again.
    threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        run_job(job)  # multiprocessing prints an exception, and ends with another status
