"""Packed scenes of a data set that is larger than memory: made ahead of need, and few at a time in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from acis_env.datasets.cache import SceneCache
from acis_env.datasets.kept import host_indices
from acis_env.datasets.packing import ScenePacker
from acis_env.datasets.scene import PackedScene
from acis_env.threads import num_threads

AHEAD_BYTES = 2**27
"""Memory of the host for scenes that were made or read lately, or soon will be needed."""
AHEAD_SCENES = 32
"""Scenes that are held in any case, however large they are."""


class StreamedScenes:
    """Scenes that are read from a cache on disk, or packed, when they are asked for, and better before.

    Whoever knows what comes next says so by `expect`, and `gather` then finds it in memory; it waits for what is
    missing. Either way it gives the same scenes.
    """

    def __init__(self, packer: ScenePacker, device: torch.device, cache: SceneCache | None) -> None:
        """Begin with an empty memory, and without a thread.

        Args:
            packer: makes the scenes; by several threads, if its data set stands that, and by the caller of `gather`
                otherwise.
            device: where batches go.
            cache: where scenes are read and written; None for nowhere.
        """
        self._packer, self._device, self._cache = packer, device, cache
        self._most = max(AHEAD_SCENES, AHEAD_BYTES // packer.scene_bytes)
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles take over: neither threads nor scenes."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_threads", "_lock", "_scenes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def names(self) -> tuple[str, ...]:
        """Names of all scenes; reads or packs every scene."""
        found: list[str] = []
        for first in range(0, self._packer.num_scenes, AHEAD_SCENES):
            part = range(first, min(first + AHEAD_SCENES, self._packer.num_scenes))
            found += [scene.result().name for scene in [self._ask(index) for index in part]]
        return tuple(found)

    def expect(self, indices: Iterable[int]) -> None:
        """Have threads make the scenes `indices`, which will be asked for next, as many as there is memory for."""
        if self._packer.is_thread_safe:
            for index in islice(indices, self._most):
                self._ask(index)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images `[B, 3, H, W]` and label maps `[B, H, W]` of the scenes `indices` `[B]`, on the device.

        A GPU fetches them from pinned memory, and nobody waits until it has.
        """
        wanted = host_indices(indices, self._packer.num_scenes)
        is_pinned = self._device.type == "cuda"
        options: dict[str, Any] = {"device": "cpu", "pin_memory": is_pinned}
        images = torch.empty(len(wanted), 3, *self._packer.size, dtype=torch.uint8, **options)
        label_maps = torch.empty(len(wanted), *self._packer.size, dtype=self._packer.label_dtype, **options)
        for place, scene in enumerate([self._ask(index) for index in wanted]):
            images.numpy()[place], label_maps.numpy()[place], _ = scene.result()
        return images.to(self._device, non_blocking=is_pinned), label_maps.to(self._device, non_blocking=is_pinned)

    def close(self) -> None:
        """End all threads; others begin when they are needed."""
        if self._threads is not None and self._process == os.getpid():
            self._threads.shutdown(cancel_futures=True)
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._scenes: OrderedDict[int, Future[PackedScene]] = OrderedDict()  # the one asked for last at the end

    def _ask(self, index: int) -> Future[PackedScene]:
        """Scene `index`, which is in memory or under way from now on; one that failed is tried again."""
        if self._process != os.getpid():  # forked: its threads have stayed behind, maybe with the lock
            self._begin()
        with self._lock:
            scene = self._scenes.pop(index, None)
            if scene is None or (scene.done() and scene.exception() is not None):
                scene = self._start(index)
            self._scenes[index] = scene
            if len(self._scenes) > self._most:
                self._scenes.popitem(last=False)
        return scene

    def _start(self, index: int) -> Future[PackedScene]:
        if self._packer.is_thread_safe:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(num_threads(), "acis-scenes")
            return self._threads.submit(self._make, index)
        scene: Future[PackedScene] = Future()
        try:
            scene.set_result(self._make(index))
        except Exception as error:
            scene.set_exception(error)
        return scene

    def _make(self, index: int) -> PackedScene:
        scene = None if self._cache is None else self._cache.get(index)
        if scene is None:
            scene = self._packer.pack(index)
            if self._cache is not None:
                self._cache.put(index, scene)
        return scene
