"""What a program of one's own may follow a run with: functions that are called after every iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Callback = Callable[[int, Mapping[str, float]], bool | None]
"""Is called with the number of iterations done, and the metrics of the last one by their tags in TensorBoard: losses,
and validation measures (`val/sbd`) where the agent has just been measured. Returns True to stop the run."""


def checked(callbacks: Sequence[Callback]) -> list[Callback]:
    """`callbacks` as a list.

    Raises:
        ValueError: it is none of functions.
    """
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise ValueError(
            f"callbacks must be a list of functions of an iteration and its metrics, got {callbacks!r}; a single one "
            "is a list of one"
        )
    return list(callbacks)


def ask_to_stop(callbacks: Sequence[Callback], iteration: int, metrics: Mapping[str, float]) -> bool:
    """Tell all `callbacks` of an iteration; returns whether one of them wants no more.

    Raises:
        ValueError: one returned what is no answer to that.
    """
    wishes = [_wish(callback, iteration, dict(metrics)) for callback in callbacks]
    return any(wishes)


def _wish(callback: Callback, iteration: int, metrics: Mapping[str, float]) -> bool:
    wish = callback(iteration, metrics)
    if wish not in (True, False, None):
        raise ValueError(f"a callback must return True to stop the run, or False or None, got {wish!r} of {callback!r}")
    return bool(wish)
