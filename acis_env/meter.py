"""What long work shows of its progress: a bar on a terminal, and where nobody watches a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

INTERVAL = 10.0
"""Seconds between two lines, where there is no terminal."""


class Meter:
    """Shows on the error stream how much of `total` is done."""

    def __init__(self, what: str, total: int, done: int = 0, unit: str = "it") -> None:
        """Begin at `done` of `total`.

        Args:
            what: name of the work; `advance` may give another.
            total: when it is over.
            done: what need not be done again.
            unit: what is counted, as tqdm writes it.
        """
        self.what, self.total, self.done, self._unit = what, total, done, unit
        self._bar = tqdm(total=total, initial=done, desc=what, unit=unit) if sys.stderr.isatty() else None
        self._first, self._started = done, time.monotonic()
        self._shown, self._due = done, self._started + INTERVAL
        self._values: dict[str, str] = {}

    def advance(self, done: int, what: str | None = None, **values: str) -> None:
        """Say that `done` of the total is done, what is being worked on, and how it stands."""
        self.what = what or self.what
        if self._bar is not None:
            self._bar.set_description(self.what, refresh=False)
            self._bar.set_postfix(values, refresh=False)
            self._bar.update(done - self.done)
        self.done, self._values = done, values
        if self._bar is None and time.monotonic() >= self._due:
            self._print()

    def __enter__(self) -> Meter:
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        self.close()

    def close(self) -> None:
        """End; the last state is shown, where the work has lasted longer than a line takes to come."""
        if self._bar is not None:
            self._bar.close()
        elif self.done != self._shown and time.monotonic() - self._started >= INTERVAL:
            self._print()

    def __str__(self) -> str:
        seconds = time.monotonic() - self._started
        parts = [f"{self.what}: {self.done} of {self.total} {self._unit}, {in_words(seconds)}"]
        if self._first < self.done < self.total:
            left = seconds * (self.total - self.done) / (self.done - self._first)
            parts.append(f"about {in_words(left)} left")
        return ", ".join([*parts, *(f"{name} {value}" for name, value in self._values.items())])

    def _print(self) -> None:
        print(self, file=sys.stderr, flush=True)
        self._shown, self._due = self.done, time.monotonic() + INTERVAL


def metered(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass on `items`, `total` of them, and show how many have been done."""
    with Meter(what, total) as meter:
        for done, item in enumerate(items, start=1):
            yield item
            meter.advance(done)


def in_words(seconds: float) -> str:
    """A time that a reader can grasp."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
