"""Where a run stands in its schedule: counted in iterations or, if its time is limited, in shares of that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from agents.algorithms.distributed import SINGLE_PROCESS, ProcessGroup
from agents.training.config import TrainConfig


class Schedule:
    """Goes through the stages of a configuration, one iteration at a time.

    With a time limit the schedule is stretched or compressed to it: a stage gets the share of the time that its
    iterations have of all, and the share of it that is over decides how far warm-up and learning rates are. Every stage
    has at least one iteration.

    Attributes:
        iteration: number of iterations done.
        position: the same in iterations of the configuration, which is another number only with a time limit.
        firsts: the iteration at which each stage began, of those that have begun.
    """

    def __init__(self, config: TrainConfig, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Take the stages and the time limit of `config`, and the processes that train together."""
        self._config, self._group = config, group
        self._ends = list(accumulate(stage.iterations for stage in config.stages))
        self.iteration, self.position = 0, 0
        self.firsts: list[int] = []
        self._spent, self._started = 0.0, 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        is_in_last = self._config.minutes is None or len(self.firsts) == len(self._ends)
        return is_in_last and self.position >= self._ends[-1]

    @property
    def seconds(self) -> float:
        """Time since the first iteration, interruptions left out."""
        return self._spent + (time.monotonic() - self._started if self._started else 0.0)

    @property
    def unit(self) -> str:
        """What `done` and `total` count: iterations, or seconds where the time is limited."""
        return "it" if self._config.minutes is None else "s"

    @property
    def total(self) -> int:
        """How much there is to do."""
        return self._ends[-1] if self._config.minutes is None else max(round(60 * self._config.minutes), 1)

    @property
    def done(self) -> int:
        """How much of it is done."""
        return self.iteration if self._config.minutes is None else min(int(self.seconds), self.total)

    @property
    def progress(self) -> str:
        """How much is done, in words."""
        if self._config.minutes is None:
            return f"iteration {self.iteration} of {self._ends[-1]}"
        return f"iteration {self.iteration}, {self.seconds / 60:.1f} of {self._config.minutes:g} minutes"

    def begin_iteration(self) -> tuple[int, int]:
        """The number of the stage of the next iteration, from 0, and how many iterations into the stage that is.

        Raises:
            ValueError: the schedule is over.
        """
        if self.is_over:
            raise ValueError(f"the schedule is over after {self.progress}: nothing is left to do")
        self._started = self._started or time.monotonic()
        stage = next((n for n, end in enumerate(self._ends) if self.position < end), len(self._ends) - 1)
        stage = min(stage, len(self.firsts))
        if stage == len(self.firsts):
            self.firsts.append(self.iteration)
        first = self._ends[stage] - self._config.stages[stage].iterations
        return stage, min(self.position - first, self._config.stages[stage].iterations - 1)

    def end_iteration(self) -> None:
        """Count an iteration; every process has to."""
        self.iteration += 1
        self._measure()

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on beside the number of iterations: nothing without a time limit."""
        return {} if self._config.minutes is None else {"firsts": list(self.firsts), "seconds": self.seconds}

    def load_state_dict(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Go on after `iteration` iterations, and from what `state_dict` gave then."""
        self.iteration, self._started = iteration, 0.0
        if self._config.minutes is None:
            starts = [0, *self._ends[:-1]]
            self.firsts = [first for first in starts if first < iteration]
        else:
            self.firsts, self._spent = list(state["firsts"]), state["seconds"]
        self._measure()

    def _measure(self) -> None:
        if self._config.minutes is None:
            self.position = self.iteration
        else:
            seconds = self._group.largest(round(1000 * self.seconds)) / 1000  # one clock for all processes
            share = seconds / (60 * self._config.minutes)
            self.position = int(min(share, 1.0) * self._ends[-1])


def extended(config: TrainConfig, iteration: int, state: Mapping[str, Any], more: int, source: str) -> TrainConfig:
    """`config` with `more` iterations of its last stage.

    A time limit gives way to the numbers of iterations that the run has made in it.

    Args:
        config: of a run.
        iteration: number of iterations that the run has made.
        state: what `Schedule.state_dict` gave then.
        more: how many are added.
        source: where the run is, for errors.

    Raises:
        ValueError: none would be added, or the run has time left.
    """
    if more < 1:
        raise ValueError(f"extend must be at least 1, the number of iterations to add, got {more}")
    if config.minutes is not None:
        schedule = Schedule(config)
        schedule.load_state_dict(iteration, state)
        if not schedule.is_over:
            raise ValueError(
                f"{source}: extend needs a run whose time is over, got one after {schedule.progress}: resume it "
                "without --extend (extend=None) first"
            )
        lengths = [end - first for first, end in pairwise([*schedule.firsts, iteration])]
        stages = (replace(stage, iterations=n) for stage, n in zip(config.stages, lengths, strict=True))
        config = replace(config, stages=tuple(stages), minutes=None)
    *others, last = config.stages
    return replace(config, stages=(*others, replace(last, iterations=last.iterations + more)))
