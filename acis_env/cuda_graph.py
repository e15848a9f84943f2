"""A step in one launch: what it computes on a GPU is recorded once, as a CUDA graph, and replayed from then on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch

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
    """A function of trees of tensors that is recorded when it is first called, and replayed afterwards.

    The host then launches one graph in place of hundreds of kernels. Results are the function's own bits, in memory of
    their own; what the function passes through unchanged is the caller's tensor. It keeps a copy of its inputs.

    The function must compute on one GPU, never wait for it, and do nothing else that counts.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Take what is to be recorded."""
        self._function = function
        self._settings: Hashable = None
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, settings: Hashable, *inputs: Any) -> Any:
        """`function(*inputs)`.

        Args:
            settings: all else that the function depends on; a change means a new recording.
            inputs: trees of tensors, or None; other shapes and types mean one more recording.
        """
        if settings != self._settings:
            self._settings, self._recordings = settings, {}
        structure, _ = tree.signature(inputs)
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in tree.tensors(inputs))
        if key not in self._recordings:
            self._recordings[key] = _Recording(self._function, inputs)
        return self._recordings[key](inputs)


class _Recording:
    """One graph, with the memory that it reads from and writes to."""

    def __init__(self, function: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
        self._inputs = tree.map_tensors(torch.clone, inputs)
        self._replay, self._outputs = record(function, self._inputs)

    def __call__(self, inputs: tuple[Any, ...]) -> Any:
        places, given = tree.tensors(self._inputs), tree.tensors(inputs)
        for place, tensor in zip(places, given, strict=True):
            place.copy_(tensor)
        self._replay()
        passed_through = {id(place): tensor for place, tensor in zip(places, given, strict=True)}
        return tree.map_tensors(
            lambda x: passed_through[id(x)] if id(x) in passed_through else x.clone(), self._outputs
        )


def record(function: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
    """Record `function(*inputs)` on the GPU where its inputs are.

    Returns:
        What computes it again from the same memory, and the outputs `[...]`, into which that writes.
    """
    device = tree.tensors(inputs)[0].device
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Threads that stream scenes may go on meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = function(*inputs)
    return graph.replay, outputs
