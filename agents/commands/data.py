"""`acis data`: what a folder of scenes holds and what is wrong with it, and any data set as pairs."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from acis_env.configs import check_at_least, check_keywords, unknown_name
from acis_env.datasets.choice import SceneChoice
from acis_env.datasets.conversion import convert
from acis_env.datasets.folder import FolderScenes
from acis_env.datasets.inspection import (
    Inspection,
    Readable,
    describe_inspection,
    inspect_scenes,
    readable_pictures,
    readable_scenes,
)
from acis_env.datasets.preprocessing import parse_preprocessing
from acis_env.datasets.registry import DATASETS, PREFIX, open_scenes, recognise_datasets
from acis_env.datasets.roots import MissingSplit
from acis_env.datasets.scene import SceneDataset
from acis_env.files import one_line
from acis_env.folders import appearing
from acis_env.meter import metered
from acis_env.networks import parse_size
from acis_env.rendering import Picture, draw_overview, write_png
from acis_env.testing.trees import WRITERS
from agents.environment import JsonObject

SHOWN = 6
"""Scenes on the picture."""
ANY_SIZE = (64, 64)
"""Given to loaders; scenes of files keep their own."""


@dataclass(frozen=True)
class Check:
    """Say what a folder of scenes is, how many scenes and instances it has, and every problem with its file.

    Ends with status 2 if there are problems.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""
    dataset: str | None = None
    """Name of the data set, where the folder may be several; by default that whose layout it has."""
    split: str | None = None
    """Split to look at; by default all that there are."""
    size: tuple[int, int] = (64, 64)
    """Height and width of the networks, multiples of 32, at which instances that vanish are counted."""
    preprocessing: str | None = None
    """How pictures get to that size: "squeeze", "shorter-side", "halve-crop" or "tile"; by default that of the data
    set's published figures, or "squeeze"."""
    scene_options: JsonObject = field(default_factory=dict)
    """Options that say how files are read, such as '{"ignore": 255}' (see `acis data describe NAME`); with
    '{"min_instances": 0}', scenes without instances are no problem."""
    num_scenes: int | None = None
    """Number of scenes of each split to look at, from the first; by default all."""
    out: Path | None = None
    """PNG file with histograms of sizes and counts, and some scenes; by default NAME-check.png, after the folder."""

    def run(self) -> None:
        """Look at every scene, print what there is, write the picture.

        Raises:
            FileNotFoundError: there is no such folder or split.
            ValueError: an argument is out of range, the folder has no known layout, or there are problems.
        """
        check_at_least(1, self, "num_scenes")
        size = parse_size(self.size)
        name, layout = identify(self.path, self.dataset)
        published = DATASETS[name].protocol.get("preprocessing", "squeeze")
        preprocessing = parse_preprocessing(self.preprocessing or published, size)
        print(f"{self.path}: {name}{f', {layout}' if layout else ''}")
        scenes, problems = self._find(name)
        found = []
        for split, readable in scenes.items():
            inspection = Inspection(split)
            inspection.facts += metered(inspect_scenes(readable, preprocessing), split, len(readable))
            print("\n".join(describe_inspection(inspection, preprocessing)))
            problems += inspection.problems
            found.append(inspection)
        if any(inspection.read for inspection in found):
            out = self.out or Path(f"{self.path.resolve().name}-check.png")
            write_png(out, _picture(found, scenes))
            print(f"picture: {out}")
        print("problems:" if problems else "no problems")
        for problem in problems:
            print(f"  {problem}")
        if problems:
            raise ValueError(f"{self.path} has {len(problems)} problem{'' if len(problems) == 1 else 's'}, see above")

    def _find(self, name: str) -> tuple[dict[str, list[Readable]], list[str]]:
        """Scenes of each split that there is, and what keeps others from being opened.

        Raises:
            FileNotFoundError: there is no split, or not the one that is asked for.
        """
        listing = DATASETS[name].listing
        if listing is not None:
            options = [option for option in self.scene_options if option != "min_instances"]
            check_keywords(f"scene options of {name!r}", listing, options)
        scenes: dict[str, list[Readable]] = {}
        problems, missing = [], []
        for split in (self.split,) if self.split is not None else DATASETS[name].splits:
            try:
                scenes[split] = self._open(name, split)[: self.num_scenes]
            except MissingSplit as error:
                missing.append(error)
            except (OSError, ValueError) as error:
                problems.append(f"{split}: {one_line(error)}")
        if not scenes and not problems:
            raise missing[0]
        return scenes, problems

    def _open(self, name: str, split: str) -> list[Readable]:
        listing, options = DATASETS[name].listing, dict(self.scene_options)
        if listing is None:
            return readable_scenes(_open(name, split, self.path, options))
        least = options.pop("min_instances", 1)
        pictures = listing(split, root=self.path, **options)
        return readable_pictures(pictures if least else [replace(p, may_be_empty=True) for p in pictures])


@dataclass(frozen=True)
class Describe:
    """Say what a data set is: licence, citation, source, layouts, options, splits."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Name of the data set; without one, all are listed."""

    def run(self) -> None:
        """Print it.

        Raises:
            ValueError: there is no such data set.
        """
        if self.name is None:
            width = max(map(len, DATASETS))
            print("\n".join(f"{name:{width}}  {dataset.about}" for name, dataset in DATASETS.items()))
            return
        _check_name(self.name)
        dataset = DATASETS[self.name]
        facts = {
            "licence": dataset.licence,
            "cite": dataset.citation,
            "from": dataset.source,
            "environment": dataset.environment,
            "splits": ", ".join(dataset.splits),
            "protocol": json.dumps(dict(dataset.protocol)) if dataset.protocol else "",
        }
        print(f"{self.name}: {dataset.about}\n")
        print("\n".join(f"{fact + ':':13}{value}" for fact, value in facts.items() if value))
        for described in (dataset.loader, dataset.options):
            if described is not None:
                print(f"\n{_documentation(described)}")


@dataclass(frozen=True)
class Convert:
    """Write a data set as pairs `<split>/<id>_rgb.png`, `<id>_label.png`, all of it or, after an error, nothing."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""
    destination: Annotated[Path, tyro.conf.Positional]
    """Folder of the pairs, new or empty."""
    dataset: str | None = None
    """Name of the data set, where the folder may be several; by default that whose layout it has."""
    split: str | None = None
    """Split to write; by default all that there are."""
    scene_options: JsonObject = field(default_factory=dict)
    """Options of the data set; by default scenes with any number of instances are written."""

    def run(self) -> None:
        """Write the pairs, and print with which options they are read.

        Raises:
            FileNotFoundError: there is no split, or not the one that is asked for.
            ValueError: the destination holds something, or a file is damaged.
        """
        name, _ = identify(self.source, self.dataset)
        splits = self._open(name)
        done = convert(splits, self.destination)
        for split, number in done.scenes.items():
            print(f"{split}: {number} scenes")
        options = f" --scene-options {shlex.quote(json.dumps(done.options))}" if done.options else ""
        print(f"read them by: --scenes {shlex.quote(str(self.destination))}{options}")
        if done.has_foreground:
            print("official foregrounds are not written: pairs have no place for them")

    def _open(self, name: str) -> dict[str, SceneDataset]:
        all_scenes: dict[str, Any] = {}
        if DATASETS[name].options in (SceneChoice, FolderScenes):
            all_scenes = {"min_instances": 0, "max_instances": None}
        splits: dict[str, SceneDataset] = {}
        missing = []
        for split in (self.split,) if self.split is not None else DATASETS[name].splits:
            try:
                splits[split] = _open(name, split, self.source, {**all_scenes, **self.scene_options})
            except MissingSplit as error:
                missing.append(error)
        if not splits:
            raise missing[0]
        return splits


@dataclass(frozen=True)
class Example:
    """Write a tiny tree of drawn scenes in the format in which a data set is published."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of the data set."""
    destination: Annotated[Path, tyro.conf.Positional]
    """Folder of the tree, new or empty."""

    def run(self) -> None:
        """Write it.

        Raises:
            ValueError: there is no example of that name, or the folder holds something.
        """
        if self.name not in WRITERS:
            raise ValueError(f"examples: {unknown_name(self.name, WRITERS)}")
        with appearing(self.destination) as folder:
            WRITERS[self.name](folder)
        print(f"{self.destination}: drawn scenes in the format of {self.name}; `acis data check` looks at them")


@dataclass(frozen=True)
class Data:
    """Check, describe or convert a data set, or write a tiny example of one."""

    action: Annotated[
        Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Describe, tyro.conf.subcommand("describe")]
        | Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[Example, tyro.conf.subcommand("example")],
        tyro.conf.arg(name=""),
    ]
    """What to do."""

    def run(self) -> None:
        """Do it."""
        self.action.run()


def identify(path: Path, name: str | None) -> tuple[str, str]:
    """Name of the data set in a folder, and its layout in words, as far as it is known.

    Args:
        path: the folder.
        name: of the data set, or None for that whose layout the folder has.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no data set of that name, or the folder has the layout of none.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path}: expected the folder of a data set, found {'a file' if path.exists() else 'none'}"
        )
    if name is not None:
        _check_name(name)
        recognise = DATASETS[name].recognise
        return name, (None if recognise is None else recognise(path)) or ""
    layouts = recognise_datasets(path)
    if not layouts:
        known = ", ".join(name for name, dataset in DATASETS.items() if dataset.recognise is not None)
        raise ValueError(f"{path}: expected the layout of one of {known} (`acis data describe` says more), found none")
    name = next(iter(layouts))
    return name, layouts[name]


def _open(name: str, split: str, root: Path, options: JsonObject) -> SceneDataset:
    return open_scenes(PREFIX + name, split, ANY_SIZE, {"root": root, **options})


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise ValueError(f"data sets: {unknown_name(name, DATASETS)}")


def _documentation(described: Any) -> str:
    """What the source says of a function, or of a class and its arguments."""
    parts = [described]
    if inspect.isclass(described) and not is_dataclass(described):
        parts.append(described.__init__)
    return "\n\n".join(inspect.getdoc(part) or "" for part in parts)


def _picture(inspections: Sequence[Inspection], scenes: Mapping[str, Sequence[Readable]]) -> Picture:
    """Some scenes, evenly spread over the first split that has any, above histograms of all splits."""
    shown = next(inspection for inspection in inspections if inspection.read)
    readable = scenes[shown.split]
    whole = [place for place, facts in enumerate(shown.facts) if facts.size is not None]
    chosen = [whole[place] for place in np.unique(np.linspace(0, len(whole) - 1, SHOWN).round().astype(int))]
    numbers = {inspection.split: inspection for inspection in inspections if inspection.read}
    return draw_overview(
        [readable[place].read() for place in chosen],
        {
            "longer side of the image in px": {split: found.longer_sides for split, found in numbers.items()},
            "instances per scene": {split: found.counts for split, found in numbers.items()},
            "square root of an instance's area in px": {split: found.areas**0.5 for split, found in numbers.items()},
        },
    )
