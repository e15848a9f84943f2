"""Results of other machines, taken over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from acis_env.files import replacing
from agents.experiments.results import differences

KEPT = ("job.json", "log.txt", "label_maps.npz")
"""Files of a cell that are taken over before its result, which says that it is done."""


def merge(source: Path, out: Path) -> int:
    """Copy the finished cells of the folder `source` of a benchmark to `out`, and return their number.

    A cell that `out` has already stays as it is.

    Raises:
        FileNotFoundError: `source` holds no result of a benchmark.
        ValueError: both have a cell with different configurations, or a set with different scenes.
    """
    results = sorted(source.glob("*/*/seed-*/result.json"))
    if not results:
        raise FileNotFoundError(f"--merge {source}: expected the folder of a benchmark, found no result in it")
    one_of_set = {path.parents[2].name: path for path in sorted(out.glob("*/*/seed-*/result.json"))}
    for path in results:
        target = out / path.relative_to(source)
        if target.exists():
            theirs, ours = (json.loads(file.read_text())["configuration"] for file in (path, target))
            if found := differences(ours, theirs):
                raise ValueError(f"{path} and {target} have different configurations: {'; '.join(found)}")
        if (other := one_of_set.get(path.parents[2].name)) is not None:
            theirs, ours = (json.loads(file.read_text())["scenes_sum"] for file in (path, other))
            if theirs != ours:
                raise ValueError(
                    f"{path} and {other} were measured on different scenes: scenes_sum is {theirs!r} and {ours!r}"
                )
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


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)
