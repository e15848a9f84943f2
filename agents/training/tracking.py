"""A run in an experiment tracker, Weights & Biases or MLflow, beside its TensorBoard events."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from acis_env.checksums import read_json
from acis_env.files import one_line, write_json
from agents.training.trainer import Trainer

logger = logging.getLogger(__name__)

TrackerName = Literal["wandb", "mlflow"]
"""Libraries that can follow a run; `agents.training.NAME_run` speaks to each, and an extra of its name brings it."""
RECORD = "tracking.json"
"""File in the folder of a run that says where it is tracked, so that a resumed one goes on there."""


class TrackedRun(Protocol):
    """What `agents.training.wandb_run` and `mlflow_run` have as `Run`; all their errors are their `Error`.

    Attributes:
        id: by which the tracker finds it again.
        last_step: the last iteration that the tracker knows, 0 at first.
    """

    id: str
    last_step: int

    def __init__(self, folder: Path, config: dict[str, Any], run_id: str | None) -> None:
        """Go on with the run `run_id`; None: begin one, with its configuration, for the run in `folder`."""

    def write(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Record metrics after so many iterations."""

    def close(self, agent: Path, outcome: Literal["finished", "failed", "killed"]) -> None:
        """Record where the agent is, and how the run has ended."""


@contextmanager
def tracked(trainer: Trainer, name: TrackerName | None = None) -> Iterator[None]:
    """While the block lasts, a tracker follows `trainer`: its configuration, its metrics, and the agent in the end.

    Metrics have the tags that they have in TensorBoard. Where the tracker is, the variables of its library say. What it
    does not take later on, it loses: a warning says so, and training goes on.

    Args:
        trainer: a trainer that has not begun to run.
        name: the tracker; None: that of the run so far, if it has one.

    Raises:
        ValueError: the library is not installed, or the record of the run is damaged.
        OSError: the tracker could not be reached, or no longer knows the run.
    """
    name = check_tracker(trainer.folder if trainer.iteration else None, name)
    if name is None or not trainer.group.is_main:
        yield
        return
    module = importlib.import_module(f"agents.training.{name}_run")
    path = trainer.folder / RECORD
    record = read_json(path) if trainer.iteration and path.exists() else {}
    run_id = record.get("run") if record.get("tracker") == name else None
    try:
        run: TrackedRun = module.Run(trainer.folder.resolve(), asdict(trainer.config), run_id)
    except module.Error as error:
        whose = f"the run {run_id} of {path}" if run_id else "a run"
        raise OSError(f"{name} could not follow {whose}: {one_line(error)}") from error
    write_json(path, {"tracker": name, "run": run.id}, checksum=True)
    is_followed = True

    def follow(iteration: int, metrics: Mapping[str, float]) -> None:
        nonlocal is_followed
        if not is_followed or iteration <= run.last_step:  # a resumed run repeats what came after its checkpoint
            return
        try:
            run.write(iteration, metrics)
        except module.Error as error:
            is_followed = False
            logger.warning("%s no longer follows the run, which goes on: %s", name, one_line(error))

    trainer.callbacks.append(follow)
    outcome: Literal["finished", "failed", "killed"] = "failed"
    try:
        yield
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "killed"
        raise
    finally:
        trainer.callbacks.remove(follow)
        try:
            run.close(trainer.folder.resolve() / "agent.pt", outcome)
        except module.Error as error:
            logger.warning("%s was not told the end of the run: %s", name, one_line(error))


def check_tracker(folder: Path | None, name: TrackerName | None = None) -> TrackerName | None:
    """The tracker of the run in `folder`, whose library is installed; None if it has none.

    Args:
        folder: of the run; None: it has none yet.
        name: the tracker that is asked for; None: that of the run so far.

    Raises:
        ValueError: the library is not installed, or the record of the run is damaged.
    """
    path = None if folder is None else folder / RECORD
    found, whose = name, "--track"
    if found is None and path is not None and path.exists():
        found, whose = read_json(path).get("tracker"), str(path)
        if found not in get_args(TrackerName):
            raise ValueError(f"{path}: tracker must be one of {', '.join(get_args(TrackerName))}, got {found!r}")
    if found is not None and not _is_installed(found):
        way_out = "" if found == name else f", or delete {path} to go on without"
        raise ValueError(f"{whose}: {found} is not installed: pip install 'acis-env[{found}]'{way_out}")
    return found


def _is_installed(library: str) -> bool:
    """Whether there is such a package, and not only a folder called so, such as wandb leaves beside programs."""
    spec = importlib.util.find_spec(library)
    return spec is not None and spec.origin is not None
