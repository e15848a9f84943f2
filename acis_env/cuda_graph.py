"""A step in one launch: what it computes on a GPU is recorded once, as a CUDA graph, and replayed from then on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acis_env import tree

WARM_UP = 3
"""Calls before a recording, in which libraries choose their algorithms and take their memory."""


def check_recordable(arguments: Mapping[str, Any], score: object) -> None:
    """Make sure that the steps of an environment can be recorded, if its arguments ask for that.

    Args:
        arguments: of `SegmentationVectorEnv`.
        score: the rule.

    Raises:
        ValueError: they cannot.
    """
    if not arguments["cuda_graph"]:
        return
    if torch.device(arguments["device"]).type != "cuda":
        raise ValueError(f'cuda_graph=True needs device="cuda", got {str(arguments["device"])!r}')
    for name, is_own in (("decoder", arguments["decoder"] is not None), ("score", callable(score))):
        if is_own:
            raise ValueError(
                f"cuda_graph=True cannot go with a {name} of one's own, of whose Python code nothing is run again "
                "when a recording is replayed: leave one of them out"
            )


class CudaGraph:
    """Records a function of trees of tensors when it is first called, and replays it afterwards.

    The host then launches one graph in place of hundreds of kernels. Results are those of the function, in memory of
    their own; what the function passes through unchanged is the caller's tensor. It keeps a copy of the inputs.

    The function must compute on one GPU, never wait for it, do nothing else that counts, and read only what stays in
    its place, such as frozen weights.
    """

    def __init__(self) -> None:
        """Begin without recordings."""
        self._settings: Hashable = None
        self._recordings: dict[Hashable, _Recording] = {}
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, function: Callable[..., Any], settings: Hashable, *inputs: Any) -> Any:
        """`function(*inputs)`.

        Args:
            function: what is to be recorded; the same one in every call. It is not kept.
            settings: all else that the function depends on; a change means a new recording.
            inputs: trees of tensors, or None; other shapes and types mean one more recording.
        """
        if settings != self._settings:
            self.forget()
            self._settings = settings
        (structure, _), given = tree.signature(inputs), tree.tensors(inputs)
        key = structure, tuple((tensor.shape, tensor.dtype) for tensor in given)
        if key not in self._recordings:
            memory = tree.map_tensors(torch.clone, inputs)
            self._recordings[key] = _Recording(tree.tensors(memory), *self._record(function, memory))
        return self._recordings[key](given)

    def forget(self) -> None:
        """Let go of all recordings and their memory."""
        self._recordings = {}

    def _record(self, function: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
        """What computes `function(*inputs)` again from the same memory, and the outputs, into which that writes."""
        with torch.cuda.device(tree.tensors(inputs)[0].device):
            if self._stream is None:
                self._stream = torch.cuda.Stream()  # one for all recordings: libraries keep memory for each stream
            caller, stream = torch.cuda.current_stream(), self._stream
            stream.wait_stream(caller)
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    function(*inputs)
            caller.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Threads that stream scenes may go on meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                outputs = function(*inputs)
        return graph.replay, outputs


@dataclass(frozen=True)
class _Recording:
    """One graph, with the memory that it reads from and writes to."""

    places: list[Tensor]
    replay: Callable[[], None]
    outputs: Any

    def __call__(self, given: list[Tensor]) -> Any:
        for place, tensor in zip(self.places, given, strict=True):
            place.copy_(tensor)
        self.replay()
        passed_through = {id(place): tensor for place, tensor in zip(self.places, given, strict=True)}
        return tree.map_tensors(lambda x: passed_through[id(x)] if id(x) in passed_through else x.clone(), self.outputs)
