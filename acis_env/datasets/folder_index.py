"""The scenes of a folder, remembered as long as no file of it changes: by the process, and on disk if it is large."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from acis_env.checksums import read_json
from acis_env.datasets.roots import cache_root
from acis_env.datasets.windows import Window
from acis_env.files import write_json

FORMAT = 1
"""Number of the layout of the file."""
MOST_INDICES = 16
"""Folders of which a process remembers the scenes, so that many environments read the label maps once."""
LARGE = 1000
"""Pictures of a folder from which on looking through them takes so long that the outcome is kept on disk."""


class FolderIndex(NamedTuple):
    """The scenes of a folder, without their pixels."""

    scenes: list[tuple[str, Window]]  # id of the picture, and the part of it
    max_instances: int  # in the fullest scene


_INDICES: dict[str, FolderIndex] = {}


def known_or_found(fingerprint: str, num_pictures: int, find: Callable[[], FolderIndex]) -> FolderIndex:
    """What `find` finds in the label maps of a folder, from memory or disk if it was found before.

    Args:
        fingerprint: of the files and the options, so that what changes is looked for anew.
        num_pictures: number of pictures in the folder.
        find: looks through them.
    """
    if fingerprint not in _INDICES:
        if len(_INDICES) >= MOST_INDICES:
            del _INDICES[next(iter(_INDICES))]
        _INDICES[fingerprint] = _read_or_find(fingerprint, find) if num_pictures >= LARGE else find()
    return _INDICES[fingerprint]


def _read_or_find(fingerprint: str, find: Callable[[], FolderIndex]) -> FolderIndex:
    try:
        path = cache_root() / "folders" / f"{fingerprint}.json"
    except RuntimeError:  # the user has no home
        return find()
    with suppress(OSError, ValueError, KeyError, TypeError):  # it is not there, or damaged, or of another version
        return _read(path)
    index = find()
    with suppress(OSError):  # without it, the next process looks through the folder again
        _write(path, index)
    return index


def _write(path: Path, index: FolderIndex) -> None:
    scenes = [f"{w.y} {w.x} {w.height} {w.width} {scene_id}" for scene_id, w in index.scenes]
    write_json(path, {"format": FORMAT, "max_instances": index.max_instances, "scenes": scenes}, checksum=True)


def _read(path: Path) -> FolderIndex:
    content = read_json(path)
    if content["format"] != FORMAT:
        raise ValueError(f"{path}: expected format {FORMAT}, got {content['format']}")
    scenes = []
    for line in content["scenes"]:
        y, x, height, width, scene_id = line.split(" ", 4)
        scenes.append((scene_id, Window(int(y), int(x), int(height), int(width))))
    return FolderIndex(scenes, content["max_instances"])
