"""The environment of a run: a registered id and keyword arguments, all of it JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import tyro

import acis_env  # noqa: F401  (registers the environments)
from acis_env.arguments import OF_NAMED_SCENES
from acis_env.datasets.registry import is_folder
from acis_env.json_files import parse_json
from acis_env.verdict import check_weights

JsonObject = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda arguments: parse_json(arguments[0], repr(arguments[0][:40])),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]
"""A dictionary that is written as a JSON object on the command line."""

TRAINING: dict[str, Any] = {
    "sampler": "shuffle",
    "augmentation": {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1},
}
"""How our own presets show the training scenes."""
EVALUATION: dict[str, Any] = {
    "sampler": "sequential",
    "augmentation": None,
    "sequence_length": None,
    "matching_noise": 0.0,
    "cuda_graph": False,
}
"""What is the same in every evaluation, whatever an agent was trained with: whole scenes as they are."""


@dataclass(frozen=True)
class EnvConfig:
    """Recipe of an environment."""

    id: str = "ACIS/Leaves-v0"
    """Registered id; "package.module:Name-v0" imports the module first, which may register a wrapped environment."""
    kwargs: JsonObject = field(default_factory=lambda: dict(TRAINING))
    """Keyword arguments of the environment as JSON: scenes, weights, score, refine, precision and all others."""
    val_kwargs: JsonObject = field(default_factory=dict)
    """Keyword arguments that differ for validation and evaluation, such as scene_options."""

    def having(self, **kwargs: Any) -> EnvConfig:
        """Copy the recipe with further keyword arguments."""
        return replace(self, kwargs={**self.kwargs, **kwargs})

    @property
    def weights(self) -> object:
        """The networks that the environment has: those of `kwargs`, or else of its registration; None if unknown."""
        registered = gym.registry.get(self.id.rpartition(":")[2])
        return {**(registered.kwargs if registered else {}), **self.kwargs}.get("weights")

    def check_weights(self) -> None:
        """Make sure that the networks are good enough to train an agent on, if they are named.

        Raises:
            FileNotFoundError: there is no such folder, nor bundled weights of that name.
            ValueError: a score on their cards is too low; names the folder, the score and what was expected.
        """
        weights = self.kwargs.get("weights")
        if isinstance(weights, str):
            try:
                check_weights(weights)
            except ValueError as error:
                raise ValueError(
                    f"{error}: an agent finds nothing but what these networks show and draw; train them longer, or "
                    "pass --accept-weak-weights (accept_weak_weights=True)"
                ) from error

    def absolute(self) -> EnvConfig:
        """Copy the recipe with absolute paths of scenes and weights, which hold wherever it is used."""
        return replace(self, kwargs=_absolute(self.kwargs), val_kwargs=_absolute(self.val_kwargs))

    def moved(self, scenes: str | None = None, weights: str | None = None, root: str | None = None) -> EnvConfig:
        """Copy the recipe for scenes, weights and data that are somewhere else now; None leaves them where they are."""
        places = {"scenes": scenes, "weights": weights, "root": root}
        changes = {name: place for name, place in places.items() if place is not None}
        val_changes = {name: place for name, place in changes.items() if name in self.val_kwargs}
        kwargs, val_kwargs = {**self.kwargs, **changes}, {**self.val_kwargs, **val_changes}
        return replace(self, kwargs=kwargs, val_kwargs=val_kwargs).absolute()

    def make(self, num_envs: int, **changes: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
        """Make an environment to train in, whose episodes the caller resets.

        Where a data set is given itself, the recipe's split, options and root are of no use to it.

        Raises:
            ValueError: the id is unknown, or a keyword argument is unknown or outside of its range.
            FileNotFoundError: scenes or weights are missing.
        """
        kwargs = {**self.kwargs, "autoreset_mode": "Disabled", **changes}
        if not isinstance(kwargs.get("scenes", ""), str | Path):
            kwargs = {name: value for name, value in kwargs.items() if name not in OF_NAMED_SCENES}
        try:
            return gym.make_vec(self.id, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)
        except (gym.error.Error, ModuleNotFoundError) as error:
            raise ValueError(f"env.id must be a registered environment, got {self.id!r}: {error}") from error

    def make_evaluation(self, split: str, num_envs: int = 1, **changes: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
        """Make the environment again for the scenes of `split`, which it shows whole and unchanged.

        A data set that is given itself has no splits: `val_kwargs` has the held-out one.
        """
        kwargs = {} if split == "train" else self.val_kwargs
        return self.make(num_envs, **{**kwargs, **EVALUATION, "split": split, **changes})


def _absolute(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an environment, with absolute paths of folders that there are."""
    found = dict(kwargs)
    if isinstance(found.get("scenes"), str) and is_folder(found["scenes"]):
        found["scenes"] = os.path.abspath(found["scenes"])
    if isinstance(found.get("weights"), str) and Path(found["weights"]).is_dir():
        found["weights"] = os.path.abspath(found["weights"])
    if isinstance(found.get("root"), str):
        found["root"] = os.path.abspath(os.path.expanduser(found["root"]))
    options = found.get("scene_options")
    if isinstance(options, dict) and isinstance(options.get("root"), str):
        found["scene_options"] = {**options, "root": os.path.abspath(os.path.expanduser(options["root"]))}
    return found
