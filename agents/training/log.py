"""What a run tells while it trains: TensorBoard events, its progress, and a warning about an exploited critic."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

from acis_env.files import cannot_write
from acis_env.meter import Meter
from agents.algorithms.base import Losses

logger = logging.getLogger(__name__)

COSINES = 5
"""Number of comparisons of the critic's gradient with the score's that the warning looks back on."""
LOW_COSINE = 0.1
"""Mean cosine below which the critic's gradient has lost the score's direction."""
SCORE_LOSS = 0.05
"""Loss of score per instance, since the best stretch of comparisons, from which on the log warns: without one a low
cosine may just be the end of learning."""


class TrainingLog:
    """Writes the scalars of a run and shows its progress; use it as a context manager."""

    def __init__(self, folder: Path, iteration: int, total: int, done: int | None = None, unit: str = "it") -> None:
        """Go on at `iteration`; events of later iterations are those of an interrupted run and go.

        Args:
            folder: of the run.
            iteration: number of iterations done.
            total: how much there is to do, in units.
            done: how much is done, in units; None: `iteration`.
            unit: what progress is counted in.
        """
        self.folder = folder
        self.watch = CriticWatch()
        self._hook = threading.excepthook
        threading.excepthook = self._without_disk  # TensorBoard writes in a thread, and raises its errors here as well
        try:
            with self._writing():
                self.writer = SummaryWriter(str(folder), purge_step=iteration + 1)
        except OSError:
            threading.excepthook = self._hook
            raise
        self.meter = Meter("training", total, iteration if done is None else done, unit)

    def __enter__(self) -> TrainingLog:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.meter.close()
        try:
            with self._writing():
                self.writer.close()
        except OSError:
            if error is None:  # else what has ended the run is told already
                raise
        finally:
            threading.excepthook = self._hook

    def write(
        self,
        iteration: int,
        stage: str,
        losses: Losses,
        history: Sequence[Mapping[str, float]],
        done: int | None = None,
    ) -> dict[str, float]:
        """Write the losses of the `iteration`-th iteration, counted from 1, for which the host waits once.

        Args:
            iteration: number of iterations done.
            stage: name of the stage.
            losses: by tag.
            history: of validation scores.
            done: how much is done, in units; None: `iteration`.

        Returns:
            What was written, by tag.
        """
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        with self._writing():
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, iteration)
        if "critic/gradient_cosine" in values:
            self.watch(iteration, values["critic/gradient_cosine"], values["rollout/score_per_instance"])
        shown = (
            {"score": f"{values['rollout/score_per_instance']:.3f}"} if "rollout/score_per_instance" in values else {}
        )
        if history:
            shown |= {f"val_{key}": f"{history[-1][key]:.3f}" for key in ("sbd", "abs_dic")}
        self.meter.advance(iteration if done is None else done, stage, **shown)
        return values

    def write_evaluation(
        self, iteration: int, scores: Mapping[str, float], per_step: Mapping[str, Sequence[float]], picture: Any
    ) -> dict[str, float]:
        """Write scores on validation scenes, curves over the steps of an episode, and a picture `[h, w, 3]`.

        Returns:
            The numbers that were written, by tag.
        """
        values = {f"val/{name}": value for name, value in scores.items()}
        for name, curve in per_step.items():
            values |= {f"val_{name}/{t:02d}": value for t, value in enumerate(curve, start=1)}
        with self._writing():
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, iteration)
            self.writer.add_image("val/scenes", picture, iteration, dataformats="HWC")
        return values

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Name the folder in errors of the system."""
        try:
            yield
        except OSError as error:
            raise cannot_write(self.folder, "TensorBoard events", error) from error

    def _without_disk(self, thrown: threading.ExceptHookArgs) -> None:
        if not (isinstance(thrown.exc_value, OSError) and isinstance(thrown.thread, _AsyncWriterThread)):
            self._hook(thrown)


class CriticWatch:
    """Warns, once each time, when the actor has found what the critic misjudges."""

    def __init__(self) -> None:
        self._watched: deque[tuple[float, float]] = deque(maxlen=COSINES)
        self._best_score = 0.0

    def __call__(self, iteration: int, cosine: float, score: float) -> None:
        """Take a comparison of gradients, and the score per instance of the same iteration."""
        was_exploited = self._is_exploited()
        self._watched.append((cosine, score))
        if len(self._watched) == COSINES:
            self._best_score = max(self._best_score, float(np.mean(self._watched, axis=0)[1]))
        if self._is_exploited() and not was_exploited:
            mean_cosine, mean_score = np.mean(self._watched, axis=0)
            logger.warning(
                "iteration %d: the actor seems to exploit the critic. Over the last %d comparisons the cosine of the "
                "critic's gradient with the score's is %.2f, below %.2f, and the score per instance has fallen from "
                "%.3f to %.3f: lower the learning rate, raise the KL weight or update the critic more often",
                iteration,
                COSINES,
                mean_cosine,
                LOW_COSINE,
                self._best_score,
                mean_score,
            )

    def _is_exploited(self) -> bool:
        if len(self._watched) < COSINES:
            return False
        cosine, score = np.mean(self._watched, axis=0)
        return bool(cosine < LOW_COSINE and score < self._best_score - SCORE_LOSS)
