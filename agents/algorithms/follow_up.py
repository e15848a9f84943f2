"""What stages share that leave the policy as it is and learn from the episodes that it plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from acis_env.dynamics import EnvState
from agents.algorithms.base import Algorithm, Learner
from agents.models.outcomes import OutcomeChoice
from agents.models.selection import ActionSelection
from agents.models.visits import Visit, visits


class FollowUp(Algorithm):
    """Plays the policy as the stage before left it, with its critics, to the end of its capacity.

    Attributes:
        previous: the algorithm of the last stage before of another kind.
    """

    def __init__(self, learner: Learner, previous: Algorithm | None) -> None:
        super().__init__(learner)
        self.previous: Algorithm | None = previous.previous if isinstance(previous, type(self)) else previous

    @property
    def capacity(self) -> int:
        """Number of instances of the fullest scene."""
        return self.learner.core.source.own_scenes.max_instances

    def play_out(self, state: EnvState, offsets: Tensor | None = None) -> Iterator[Visit]:
        """The state after each of `capacity` masks in every scene of `state`, and before the first one; no gradients.

        Args:
            state: fresh episodes.
            offsets: `[T, L]`, added to the policy's means, cyclically.
        """
        core = self.learner.core
        policy = visits(self.learner.actor, core.decoder, state, self.selection, core.precision, offsets)
        return islice(policy, self.capacity + 1)

    @property
    def selection(self) -> ActionSelection | None:
        """That of the stage before."""
        return None if self.previous is None else self.previous.selection

    @property
    def outcomes(self) -> OutcomeChoice | None:
        """That of the stage before."""
        return None if self.previous is None else self.previous.outcomes

    def state_dict(self) -> dict[str, Any]:
        """The whole stage before, which chooses the actions."""
        return {"previous": {} if self.previous is None else self.previous.state_dict()}

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore what the `state_dict` of all processes gave."""
        if self.previous is not None:
            self.previous.load_state_dict([state["previous"] for state in states])
