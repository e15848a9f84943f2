"""Contexts that are the same whenever a scene is shown, kept as long as the process has memory for them."""

from __future__ import annotations

import weakref

from torch import Tensor

KEPT_BYTES = 2**29
"""Memory for the contexts of all environments of a process together."""


class ContextCache:
    """Contexts `[12, H, W]` by scene; copies and pickles begin empty."""

    held_by_all: int = 0
    """Bytes that the caches of this process hold. Without a lock: a race of threads miscounts by a context."""

    def __init__(self) -> None:
        self._contexts: dict[int, Tensor] = {}
        weakref.finalize(self, _give_back, self._contexts)

    def __reduce__(self) -> tuple[type[ContextCache], tuple[()]]:
        return ContextCache, ()

    def __contains__(self, scene: int) -> bool:
        return scene in self._contexts

    def __getitem__(self, scene: int) -> Tensor:
        """The context of a scene that is kept."""
        return self._contexts[scene]

    def keep(self, scene: int, context: Tensor) -> None:
        """Keep a context if there is memory for it."""
        if scene not in self._contexts and ContextCache.held_by_all + context.nbytes <= KEPT_BYTES:
            ContextCache.held_by_all += context.nbytes
            self._contexts[scene] = context


def _give_back(contexts: dict[int, Tensor]) -> None:
    ContextCache.held_by_all -= sum(context.nbytes for context in contexts.values())
