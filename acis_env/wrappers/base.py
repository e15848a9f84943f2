"""What the wrappers of vector environments share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorWrapper
from numpy.typing import NDArray

from acis_env.surroundings import as_tensor

if TYPE_CHECKING:
    VectorWrapperBase = VectorWrapper[Any, Any, Any, Any, Any]
else:
    VectorWrapperBase = VectorWrapper  # takes no parameters in older releases

FORWARDED = ("device", "autoreset_mode", "call", "get_attr", "set_attr", "get_state", "set_state")


class Wrapper(VectorWrapperBase):
    """A `VectorWrapper` that also shows these attributes, where the wrapped environment has them.

    Attributes:
        device: where the tensors inside are.
        autoreset_mode: what follows the end of an episode.
        call, get_attr, set_attr, get_state, set_state: methods of `SegmentationVectorEnv`.
    """

    env: Any
    device: torch.device
    autoreset_mode: AutoresetMode
    call: Callable[..., tuple[Any, ...]]
    get_attr: Callable[..., tuple[Any, ...]]
    set_attr: Callable[..., None]

    def __getattr__(self, name: str) -> Any:
        if name in FORWARDED:
            return getattr(self.env, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; the environment inside is `unwrapped`")

    def render(self, *args: Any, **kwargs: Any) -> tuple[NDArray[np.uint8], ...] | None:
        """Frames, with the arguments of the wrapped environment."""
        frames: tuple[NDArray[np.uint8], ...] | None = self.env.render(*args, **kwargs)
        return frames


def reset_slots(options: dict[str, Any] | None, num_envs: int) -> list[int]:
    """The slots that `reset(options=options)` begins; to be asked before, as some environments take the mask out."""
    mask = (options or {}).get("reset_mask")
    return list(range(num_envs)) if mask is None else as_tensor(mask).nonzero().flatten().tolist()
