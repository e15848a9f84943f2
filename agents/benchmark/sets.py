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
        name: a set of `acis reproduce`, a registered data set, or a folder.
        roots: folders of data sets by the name of the set.
        weights: names or folders of networks by the name of the set; without them, networks are pre-trained.
        splits: evaluated splits by the name of the set.
        fill: distances of filling, in pixels of the networks, by the name of the set.

    Raises:
        ValueError: there is no such set, its folder is not named, or a distance is none.
    """
    found = _find(name, roots)
    if found.name in weights:
        found = replace(found, weights={"standard": weights[found.name]})
    return replace(found, split=splits.get(found.name, found.split), fill=_distance(found.name, fill or {}, found.fill))


def _distance(name: str, fill: Mapping[str, str], default: float) -> float:
    """The distance of filling of the set `name`."""
    if name not in fill:
        return default
    try:
        return Composition(fill=float(fill[name])).fill
    except ValueError as error:
        raise ValueError(f"--fill {name} must be a number of pixels, at least 0, got {fill[name]!r}") from error


def _find(name: str, roots: Mapping[str, str]) -> SceneSet:
    root = roots.get(name)
    if name in NUCLEI:
        if root is None:
            raise ValueError(f"set {name!r}: expected its folder, with subfolders train and val: --roots {name}=FOLDER")
        return replace(scene_sets(Path(root))[name], weights={"standard": NUCLEI[name]})
    if name in scene_sets():
        return scene_sets()[name]
    if name in DATASETS:
        options = {} if root is None else {"root": root}
        environment = dict(DATASETS[name].protocol)
        return SceneSet(name, PREFIX + name, options, options, env=environment)
    if Path(name).is_dir():
        return SceneSet(Path(name).resolve().name, str(Path(name).resolve()))
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
