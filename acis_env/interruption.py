"""Ctrl-C and SIGTERM end a training between two iterations, with a checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal has ended what can be resumed; the message says where and how.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Signals:
    """Notes the first signal; the second has its usual effect, at once."""

    def __init__(self) -> None:
        self.number = 0  # of the signal that came; 0 is none
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take the place of the usual handlers."""
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def restore(self) -> None:
        """Put the usual handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.restore()
        self.number = number
        logger.warning("%s: finishing the iteration to write a checkpoint; once more to stop at once", name_of(number))


@contextmanager
def deferred_signals() -> Iterator[Signals]:
    """In the block Ctrl-C and SIGTERM are noted and nothing else; only the main thread can do so, others go on."""
    signals = Signals()
    if threading.current_thread() is threading.main_thread():
        signals.listen()
    try:
        yield signals
    finally:
        signals.restore()


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """An interruption of the block says that the same command goes on with what is in `folder`."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as error:
        message = f"interrupted: {folder} keeps what is done, and the same command goes on from there"
        raise Interrupted(signal.SIGINT, message) from error


def name_of(number: int) -> str:
    """Name of a signal."""
    return signal.Signals(number).name
