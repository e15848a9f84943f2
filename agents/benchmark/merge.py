"""Results of other machines, taken over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from acis_env.files import replacing
from agents.experiments.results import differences

KEPT = ("job.json", "log.txt", "label_maps.npz")
"""Files of a cell that are taken over before its result, which says that it is done."""


def merge(
    source: Path,
    out: Path,
    networks: Mapping[tuple[str, str], str] = MappingProxyType({}),
    planned: Mapping[Path, Mapping[str, Any]] = MappingProxyType({}),
) -> int:
    """Copy the finished cells of the folder `source` of a benchmark to `out`, and return their number.

    A cell that `out` has already stays as it is.

    Args:
        source: the folder.
        out: the folder that is to have all results.
        networks: checksums of the networks here, by set and kind (see `Cell.variant`), as far as they are there.
        planned: configurations of the cells that are to be in `out`, by their result file.

    Raises:
        FileNotFoundError: `source` holds no result of a benchmark.
        ValueError: a cell has another configuration than it has here or is planned with, or a set other scenes or
            networks.
    """
    results = {path: json.loads(path.read_text()) for path in sorted(source.glob("*/*/seed-*/result.json"))}
    if not results:
        raise FileNotFoundError(f"--merge {source}: expected the folder of a benchmark, found no result in it")
    ours = {path: json.loads(path.read_text()) for path in sorted(out.glob("*/*/seed-*/result.json"))}
    known = {key: ("networks", value) for key, value in networks.items()}
    known |= {key: (str(path), value) for path, result in ours.items() for key, value in _same(path, result)}
    for path, result in results.items():
        target = out / path.relative_to(source)
        expected = ours[target]["configuration"] if target in ours else planned.get(target)
        if expected is not None and (found := differences(expected, result["configuration"])):
            raise ValueError(f"{target} and {path} must have one configuration: {'; '.join(found)}")
        for key, value in _same(path, result):
            other, own = known.get(key, ("", value))
            if value != own:
                what = "different networks around the actions" if key[1] else "different scenes"
                raise ValueError(f"{path} and {other} of set {key[0]} have {what}: {value!r} and {own!r}")
    copied = 0
    for path in results:
        target = out / path.relative_to(source)
        if not target.exists():
            for file in (*(path.with_name(name) for name in KEPT), path):
                if file.exists():
                    _copy(file, target.with_name(file.name))
            copied += 1
    for folder in sorted({path.parents[2] for path in results}):
        for name in ("scenes.npz", "scenes.json"):
            if (folder / name).exists() and not (out / folder.name / name).exists():
                _copy(folder / name, out / folder.name / name)
    return copied


def _same(path: Path, result: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """What all results of a set have in common with this one: its scenes (""), and of one kind of networks these."""
    name = path.parents[2].name
    yield (name, ""), result["scenes_sum"]
    if result.get("networks_sum") is not None:
        yield (name, result["variant"]), result["networks_sum"]


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)
