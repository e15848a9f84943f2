"""Training in several processes: which one this is, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others, e.g. for the main one while it evaluates, before it gives up."""


@dataclass(frozen=True)
class Group:
    """The processes that train one agent together; by default there is only this one."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace `tensors`, of one dtype, by their sums over all processes, which get the same bits."""
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; an empty list in all but the main one. Tensors lie on the host."""
        if self.world_size == 1:
            return [value]
        values: list[T] | None = [value] * self.world_size if self.is_main else None
        dist.gather_object(value, values)
        return values or []


SINGLE = Group()


@contextmanager
def join_group() -> Iterator[Group]:
    """The group that torchrun has started this process in, until the end of the block; without torchrun, `SINGLE`.

    The device "cuda" then is a GPU of this process's own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE
        return
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo", timeout=TIMEOUT)
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def check_share(group: Group, device: str, batch_size: int, accumulate: int) -> None:
    """Make sure that every process has a device, and every micro-batch a scene.

    Raises:
        ValueError: they have not.
    """
    parts = group.world_size * accumulate
    if batch_size < parts:
        raise ValueError(
            f"batch_size must be at least processes * accumulate = {group.world_size} * {accumulate} = {parts}, "
            f"got {batch_size}"
        )
    if group.world_size > 1 and device.startswith("cuda"):
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        if device != "cuda" or local > torch.cuda.device_count():
            raise ValueError(
                f'device must be "cuda" with as many GPUs as processes, got {device!r}, {local} processes and '
                f"{torch.cuda.device_count()} GPUs"
            )
