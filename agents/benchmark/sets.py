"""Sets of scenes of a benchmark: those of `acis reproduce`, any registered data set, and any folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from acis_env.configs import nearest_first
from acis_env.datasets.registry import DATASETS, PREFIX
from agents.experiments.methods import SceneSet, scene_sets
from agents.models.composition import Composition

NUCLEI = {"bbbc038": "nuclei-64", "bbbc038-224": "nuclei-224"}
"""The sets whose scenes are in a folder that `roots` names, and bundled networks trained on their training scenes."""


def find_set(
    name: str,
    roots: Mapping[str, str],
    weights: Mapping[str, str],
    splits: Mapping[str, str],
    fill: Mapping[str, str] | None = None,
) -> SceneSet:
    """The set of scenes that `name` stands for.

    Args:
        name: a set of `acis reproduce`, a registered data set, or a folder, which may have a name before it, as in
            "mine=data/one".
        roots: folders of data sets by the name of the set.
        weights: names or folders of networks by the name of the set; without them, networks are pre-trained.
        splits: evaluated splits by the name of the set.
        fill: distances of filling, in pixels of the networks, by the name of the set.

    Raises:
        ValueError: there is no such set, its folder is not named, or a distance is none.
    """
    found = _find(name, roots)
    own_weights, split, distance = (_of_set(name, found.name, values) for values in (weights, splits, fill or {}))
    if own_weights is not None:
        found = replace(found, weights={"standard": own_weights})
    return replace(
        found,
        split=found.split if split is None else split,
        fill=found.fill if distance is None else _distance(found.name, distance),
    )


def check_named(sets: Mapping[str, str], option: str, values: Mapping[str, str]) -> None:
    """Make sure that `values` of an option are for sets that are compared.

    Args:
        sets: their names, by what stands for them.
        option: name of the option, for the error.
        values: by the name of the set, or by what stands for it.

    Raises:
        ValueError: one is for another set; names the nearest.
    """
    known = {*sets, *sets.values()}
    for name in values:
        if name not in known:
            raise ValueError(
                f"--{option} {name}=... must be for one of the sets {', '.join(nearest_first(name, known))}: it would "
                "have no effect"
            )


def _of_set(given: str, name: str, values: Mapping[str, str]) -> str | None:
    """The value for a set, by its name or by what was given for it."""
    return values.get(name, values.get(given))


def _distance(name: str, text: str) -> float:
    """The distance of filling of the set `name`."""
    try:
        return Composition(fill=float(text)).fill
    except ValueError as error:
        raise ValueError(f"--fill {name} must be a number of pixels, at least 0, got {text!r}") from error


def _check_no_root(given: str, name: str, roots: Mapping[str, str]) -> None:
    """Make sure that there is no folder for a set that is drawn, or is one."""
    if (root := _of_set(given, name, roots)) is not None:
        raise ValueError(f"--roots {name}={root} would have no effect: the set is drawn, or is a folder itself")


def _find(name: str, roots: Mapping[str, str]) -> SceneSet:
    root = roots.get(name)
    if name in NUCLEI:
        if root is None:
            raise ValueError(f"set {name!r}: expected its folder, with subfolders train and val: --roots {name}=FOLDER")
        return replace(scene_sets(Path(root))[name], weights={"standard": NUCLEI[name]})
    if name in scene_sets():
        _check_no_root(name, name, roots)
        return scene_sets()[name]
    if name in DATASETS:
        options = {} if root is None else {"root": root}
        environment = dict(DATASETS[name].protocol)
        return SceneSet(name, PREFIX + name, options, options, env=environment)
    own_name, _, place = ("", "", name) if Path(name).is_dir() else name.rpartition("=")
    if Path(place).is_dir():
        folder = Path(place).resolve()
        if Path(own_name).name != own_name:
            raise ValueError(f"set {name!r}: {own_name!r} must be a name without slashes, as in mine={place}")
        _check_no_root(name, own_name or folder.name, roots)
        return SceneSet(own_name or folder.name, str(folder))
    known = nearest_first(name, {*scene_sets(), *NUCLEI, *DATASETS})
    raise ValueError(f"set {name!r}: expected a folder or one of {', '.join(known)}")


def named_values(option: str, values: Sequence[str]) -> dict[str, str]:
    """Values by name, of arguments like "cvppp=data/cvppp".

    Raises:
        ValueError: one has no name or no value; names the option.
    """
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--{option} must be NAME=VALUE, got {text!r}")
        found[name] = value
    return found
