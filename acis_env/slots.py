"""The episodes under way in the slots of an environment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from acis_env.augment import NUM_PARAMETERS
from acis_env.autoreset import Autoreset
from acis_env.dynamics import EnvState
from acis_env.observations import Observation, Observer, Planes
from acis_env.sampling import SceneSampler


class Slots:
    """All that an environment holds of its episodes, and changes from call to call.

    Attributes:
        samplers: one per slot; each owns all random numbers of its slot.
        autoreset: which slots are over.
        observer: makes observations.
        state: the episodes, in the order of the slots; None before the first.
        scene_index: `[num_envs]` int64, positions in the data set.
        augmentation: `[num_envs, P]`.
        before_reset: what the last step led to in slots that it has begun anew since, where somebody may draw it.
        device: of all tensors.
    """

    def __init__(
        self, samplers: list[SceneSampler], autoreset: Autoreset, observer: Observer, device: torch.device
    ) -> None:
        self.samplers, self.autoreset, self.observer, self.device = samplers, autoreset, observer, device
        self.state: EnvState | None = None
        self.scene_index = torch.zeros(len(samplers), dtype=torch.int64, device=device)
        self.augmentation = torch.zeros(len(samplers), NUM_PARAMETERS, device=device)
        self.before_reset: dict[int, EnvState] = {}
        self._view: Planes | None = None  # what observations hold of each context

    def __len__(self) -> int:
        return len(self.samplers)

    def put(self, slots: Sequence[int], state: EnvState, scene_index: Tensor, augmentation: Tensor) -> None:
        """Replace the episodes of `slots`, which are all where there is none yet, by the `K` of `state`."""
        self.before_reset = {}
        index = self.index(slots)
        view = self.observer.condition(state.context)
        if self.state is None or self._view is None or len(slots) == len(self):
            self.state, self._view = state, view
            if list(slots) != list(range(len(self))):
                order = index.argsort()
                self.state, self._view = state.select(order), (view[0][order], view[1][order], view[2][order])
        else:
            self.state.write(index, state)
            for mine, theirs in zip(self._view, view, strict=True):
                mine.index_copy_(0, index, theirs)
        self.scene_index.index_copy_(0, index, scene_index.to(self.device))
        self.augmentation.index_copy_(0, index, augmentation.to(self.device))
        left = torch.minimum(state.num_instances, state.step_limit) - state.step_count
        self.autoreset.begin(slots, left.numpy(force=True))

    def advance(self, state: EnvState) -> None:
        """Take a step's new state of all episodes."""
        self.state, self.before_reset = state, {}

    def index(self, slots: Sequence[int]) -> Tensor:
        """`slots` on the device, `[K]` int64, without waiting for it."""
        index = torch.tensor(slots, dtype=torch.int64, pin_memory=self.device.type == "cuda")
        return index.to(self.device, non_blocking=True)

    def mask(self, slots: Sequence[int]) -> Tensor | None:
        """`[num_envs]` bool, True in `slots`; None where there are none."""
        if not slots:
            return None
        return torch.zeros(len(self), dtype=torch.bool, device=self.device).index_fill_(0, self.index(slots), True)

    def episode(self, slot: int) -> EnvState:
        """The episode in `slot`, in the memory of all."""
        return self.begun().select(slice(slot, slot + 1))

    def begun(self) -> EnvState:
        """The episodes under way.

        Raises:
            RuntimeError: there are none.
        """
        if self.state is None:
            raise RuntimeError("call reset() before anything that needs an episode")
        return self.state

    def observe(self) -> Observation:
        """Observations of all slots, in memory of their own."""
        assert self._view is not None
        return self.observer.observe(self._view, self.begun().accumulated_mask)

    def forget(self) -> None:
        """Let go of all episodes."""
        self.state, self._view, self.before_reset = None, None, {}
