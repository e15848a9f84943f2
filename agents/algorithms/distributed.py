"""Training in several processes: which one this is, and how they add up what each of them has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others, e.g. for the main one while it evaluates, before it gives up."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one agent together; by default there is only this one."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def share(self, total: int, name: str) -> int:
        """This process's share of `total`, the same in every process.

        Raises:
            ValueError: `total`, which `name` holds, cannot be shared out evenly.
        """
        if total % self.world_size:
            raise ValueError(f"{name} must be a multiple of the {self.world_size} processes, got {total}")
        return total // self.world_size

    def share_rows(self, kept: Sequence[Sequence[Sequence[Tensor]]]) -> Iterator[tuple[Tensor, ...]]:
        """What this process keeps of the batches that all processes kept.

        Args:
            kept: for each process its batches, as many as the others', each of several tensors `[n, ...]`.

        Yields:
            Its own batches; with another number of processes, a share of the rows of all.
        """
        if len(kept) == self.world_size:
            yield from map(tuple, kept[self.rank])
            return
        for parts in zip(*kept, strict=True):
            yield tuple(torch.cat(tensors)[self.rank :: self.world_size] for tensors in zip(*parts, strict=True))

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace `tensors`, of one dtype, by their sums over all processes, which get the same bits."""
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def largest(self, number: int) -> int:
        """The largest `number` of all processes."""
        if self.world_size == 1:
            return number
        tensor = torch.tensor(number)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; an empty list in all but the main one.

        Tensors in dictionaries, lists and tuples come from other processes on the host, or the main one would hold
        memory of every GPU.
        """
        if self.world_size == 1:
            return [value]
        values: list[T] | None = [value] * self.world_size if self.is_main else None
        dist.gather_object(on_host(value), values)
        return values or []


SINGLE_PROCESS = ProcessGroup()


def on_host(value: Any) -> Any:
    """`value` with the tensors in its dictionaries, lists and tuples moved to the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, Mapping):
        return {key: on_host(member) for key, member in value.items()}
    return type(value)(map(on_host, value)) if type(value) in (list, tuple) else value


@contextmanager
def join_group(device: str) -> Iterator[ProcessGroup]:
    """The group that torchrun has started this process in, until the end of the block; without torchrun, only it.

    On the device "cuda" each process gets a GPU of its own.

    Raises:
        ValueError: there are more processes than GPUs, `device` names one GPU for all of them, or the variables that
            torchrun sets are not whole.
    """
    if _world_size() == 1:
        yield SINGLE_PROCESS
        return
    has_gpus = torch.cuda.is_available()
    if device.startswith("cuda"):
        _require("LOCAL_WORLD_SIZE", "LOCAL_RANK")
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        if device != "cuda" or local > torch.cuda.device_count():
            raise ValueError(
                f'device must be "cuda" with as many GPUs as processes, got {device!r}, {local} processes and '
                f"{torch.cuda.device_count()} GPUs"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    _require("RANK", "MASTER_ADDR", "MASTER_PORT")
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo", timeout=TIMEOUT)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _world_size() -> int:
    """The number of processes, by the variable that torchrun sets."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"environment variable WORLD_SIZE must be a number of processes, got {text!r}: unset it")
    return int(text)


def _require(*names: str) -> None:
    """Make sure that the other variables which torchrun sets are there."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"environment variable WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} not set: start "
            "with torchrun, which sets all of them, or unset it"
        )
