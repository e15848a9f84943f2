"""The checkpoint of a run and the one before it; and what they hold of an environment: its random numbers, and the
episodes that are under way in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from acis_env.snapshot import Snapshot
from acis_env.vector_env import SegmentationVectorEnv
from agents.algorithms.distributed import ProcessGroup
from agents.models.checkpoints import load_checkpoint, save_checkpoint

logger = logging.getLogger(__name__)

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
"""Names of the last checkpoint and of the one before it."""


def holds_run(folder: Path) -> bool:
    """Whether there is a run in `folder` that can be resumed."""
    return any((folder / name).exists() for name in (NEWEST, PREVIOUS))


def write_run(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, and keep the last one as the one before it."""
    save_checkpoint(content, folder / NEWEST, previous=folder / PREVIOUS)


MEMBERS = ("config", "given", "iteration", "history", "learner", "algorithm", "environment")
"""What a checkpoint has to hold."""


@contextmanager
def fitting(state: Mapping[str, Any], path: Path) -> Iterator[None]:
    """Whatever goes wrong in the block while `state` is put back is told as an error about the file `path`.

    Raises:
        ValueError: it lacks a member, one does not fit the run's configuration, or a weight is not finite.
    """
    missing = [name for name in MEMBERS if name not in state]
    if missing:
        raise ValueError(f"{path}: a checkpoint holds {', '.join(MEMBERS)}, this one lacks {', '.join(missing)}")
    try:
        for name, tensor in state["learner"]["actor"].items():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{path}: {name} of the actor holds NaN or infinity")
        yield
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ValueError(f"{path}: does not fit its configuration ({reason})") from error


def read_run(folder: Path) -> tuple[dict[str, Any], Path]:
    """Read the last checkpoint, or the one before it if that is damaged; returns it and its file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: they are damaged.
    """
    newest, previous = folder / NEWEST, folder / PREVIOUS
    try:
        return load_checkpoint(newest), newest
    except (FileNotFoundError, ValueError) as error:
        if not previous.exists():
            raise
        try:
            state = load_checkpoint(previous)
        except ValueError as other:
            raise ValueError(f"{error}; {other}") from other
        logger.warning("%s; going on from %s", error, previous)
        return state, previous


def pack_environment(core: SegmentationVectorEnv, keeps_episodes: bool) -> dict[str, Any]:
    """Pack an environment into plain containers and tensors on the host, which `torch.load` reads without trust.

    Args:
        core: an environment that has been reset.
        keeps_episodes: whether its episodes go on, or the next iteration begins others anyway.
    """
    packed: dict[str, Any] = {"samplers": [sampler.get_state() for sampler in core.samplers], "episodes": None}
    if keeps_episodes:
        snapshot = core.get_state()
        packed["episodes"] = {
            "state": [tensor.cpu() for tensor in snapshot.state.tensors()],
            "is_over": snapshot.is_over,
            "scene_index": snapshot.scene_index.cpu(),
            "augmentation": snapshot.augmentation.cpu(),
        }
    return packed


def restore_environment(core: SegmentationVectorEnv, packed: Sequence[Mapping[str, Any]], group: ProcessGroup) -> None:
    """Go on as the environments did that were packed, one in each process.

    With another number of processes, slots keep their random numbers but begin new episodes.
    """
    samplers = [state for part in packed for state in part["samplers"]]
    first = group.rank * core.num_envs
    own = samplers[first : first + core.num_envs]
    episodes = packed[group.rank]["episodes"] if len(packed) == group.world_size else None
    if episodes is None:
        for sampler, state in zip(core.samplers, own, strict=True):
            sampler.set_state(state)
        return
    tensors = iter(episodes["state"])
    state = core.state.map(lambda _: next(tensors))
    rest = {name: episodes[name] for name in ("is_over", "scene_index", "augmentation")}
    core.set_state(Snapshot(state=state, samplers=tuple(own), scenes=core.samplers[0].kind, rules=core.rules, **rest))
