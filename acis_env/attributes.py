"""Attributes of the slots of a vector environment, looked up and set while it runs."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv
from torch import Tensor

from acis_env.arguments import RULES, change_rule, deal_out
from acis_env.cuda_graph import check_recordable
from acis_env.dynamics import Rules, go_on
from acis_env.observations import Observation
from acis_env.slots import Slots
from acis_env.specs import PortableSpec
from acis_env.surroundings import unaffected


class SlotAttributes(PortableSpec, VectorEnv[Observation, Tensor, Tensor]):
    """The part of `SegmentationVectorEnv` that gives and takes one value per slot.

    Attributes:
        arguments: the keyword arguments it was made with.
        rules: how episodes begin and end, and what steps earn.
    """

    arguments: dict[str, Any]
    rules: Rules
    _slots: Slots

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call the method `name` or look the attribute up: one result per slot.

        Raises:
            ValueError: it is a method that acts on all slots at once.
        """
        if name in ("reset", "step", "close"):
            raise ValueError(f"{name!r} acts on all slots at once: use the method {name} of the vector environment")
        if name in RULES:
            return self.get_attr(name)
        value = getattr(self, name)
        return deal_out(value(*args, **kwargs) if callable(value) else value, self.num_envs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """The attribute or rule `name` of every slot."""
        return deal_out(getattr(self.rules if name in RULES else self, name), self.num_envs)

    @unaffected
    def set_attr(self, name: str, values: Any) -> None:
        """Change a rule while the environment runs, in every slot; what concerns the beginning of an episode
        holds from the next `reset` of a slot on.

        Args:
            name: one of `score`, `reward`, `threshold`, `matching_noise`, `count_penalty`, `sequence_length` and
                `prefill`.
            values: the value, or a list of `num_envs` equal ones.

        Raises:
            AttributeError: `name` is fixed or unknown.
            ValueError: the value is outside of its range, or slots would differ.
        """
        before, after = self.rules, change_rule(self.rules, name, values, self.num_envs)
        check_recordable(self.arguments, after.score)
        self.rules = after
        if self._slots.state is not None:
            self._slots.state = go_on(self._slots.state, before, self.rules)
