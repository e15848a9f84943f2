"""Packed scenes on disk, so that every scene of a data set is decoded once and for all processes.

A cache is a folder with two files. `header.json` says what the scenes are; `scenes.bin` has a place of fixed length for
each of them, at first a hole in the file that takes no room. A record says for itself that it is whole:

| bytes | |
| --- | --- |
| 4 | `MARK` |
| 4 | CRC-32 of all that follows, begun with the number of the scene |
| 4 | length of the name |
| 3 H W | image |
| H W x bytes of a label | label map |
| as said | name, UTF-8 |

So nobody needs a lock but to create the two files. Processes that write the same record write the same bytes; what a
killed one left, or a damaged disk, has another sum and counts as missing, and whoever finds it missing writes it anew.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from acis_env.checksums import read_json
from acis_env.datasets.packing import ScenePacker
from acis_env.datasets.roots import CACHE_VARIABLE, cache_root
from acis_env.datasets.scene import PackedScene
from acis_env.files import remove_unfinished, replacing, write_json

FORMAT = 1
"""Number of the layout above, and of what packing a scene means."""
MARK = b"ACIS"
HEAD = struct.Struct("<4sII")
LOCK_SECONDS = 60
"""Longest wait for another process to create a cache, which takes it some milliseconds."""
NAME_BYTES = 500
"""Room for a name; a scene with a longer one is not kept."""

_log = logging.getLogger(__name__)
_said: set[Path] = set()


class SceneCache:
    """The packed scenes of one data set at one size, as far as they have been written.

    It holds no file open, so that threads, forked processes and pickles may share it.
    """

    def __init__(self, folder: Path, packer: ScenePacker, about: Mapping[str, Any]) -> None:
        """Name the files; `create` makes them, if they are not there.

        Args:
            folder: of this cache alone.
            packer: makes the scenes.
            about: all that decides what they are, as JSON.
        """
        self.folder, self.about, self.size, self.label_dtype = folder, dict(about), packer.size, packer.host_dtype
        self._header, self._records = folder / "header.json", folder / "scenes.bin"
        pixels = self.size[0] * self.size[1]
        self._image_bytes, self._label_bytes = 3 * pixels, pixels * self.label_dtype.itemsize
        self._stride = HEAD.size + self._image_bytes + self._label_bytes + NAME_BYTES
        self.nbytes = packer.num_scenes * self._stride
        self._is_writable = True

    def create(self) -> None:
        """Make the two files anew unless they are whole; of several processes, only the first does.

        Raises:
            OSError: the system refuses, or there is not room for all scenes.
        """
        if self._is_whole():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock", timeout=LOCK_SECONDS):
            if self._is_whole():
                return
            remove_unfinished(self.folder)
            if shutil.disk_usage(self.folder).free < self.nbytes:
                raise OSError(errno.ENOSPC, f"there is not room for all scenes, {self.nbytes / 1e9:.1f} GB")
            with replacing(self._records, "cache") as unfinished, unfinished.open("wb") as file:
                file.truncate(self.nbytes)
            write_json(self._header, self.about, checksum=True)

    def get(self, index: int) -> PackedScene | None:
        """Scene `index`; None if it was never written, or not wholly, or has been damaged."""
        try:
            # Mapped one by one: of one map of all, every page that was ever read would count as the process's memory.
            place = np.memmap(self._records, np.uint8, "r", index * self._stride, (self._stride,))
        except (OSError, ValueError):  # the file was removed or cut off meanwhile
            return None
        record = np.array(place)
        mark, checksum, name_bytes = HEAD.unpack_from(record.data)
        content = record[HEAD.size : len(record) - NAME_BYTES + min(name_bytes, NAME_BYTES)]
        if mark != MARK or zlib.crc32(content.data, index) != checksum:
            return None
        image, label_map, name = np.split(content, (self._image_bytes, self._image_bytes + self._label_bytes))
        return PackedScene(
            image.reshape(3, *self.size),
            label_map.view(self.label_dtype).reshape(self.size),
            name.tobytes().decode(errors="surrogatepass"),
        )

    def put(self, index: int, scene: PackedScene) -> None:
        """Write scene `index`, unless the system has refused to write one: that is said once."""
        name = scene.name.encode(errors="surrogatepass")
        if not self._is_writable or len(name) > NAME_BYTES:
            return
        content = scene.image.tobytes() + scene.label_map.astype(self.label_dtype).tobytes() + name
        record = HEAD.pack(MARK, zlib.crc32(content, index), len(name)) + content
        try:
            with self._records.open("r+b", buffering=0) as file:
                file.seek(index * self._stride)
                if file.write(record) < len(record):
                    raise OSError(errno.ENOSPC, "the disk is full")
        except OSError as error:
            self._is_writable = False
            _say_once(self.folder, error)

    def _is_whole(self) -> bool:
        try:
            return read_json(self._header) == self.about and self._records.stat().st_size == self.nbytes
        except (OSError, ValueError):  # there is none, or it is damaged
            return False


def open_cache(packer: ScenePacker) -> SceneCache | None:
    """The cache of what `packer` makes in the user's cache folder, made if it is not there.

    None if its scenes do not say what they are, or, said once, if there cannot be one.
    """
    identity = packer.identity()
    if identity is None:
        return None
    layout = {"scenes": packer.num_scenes, "size": list(packer.size), "labels": packer.host_dtype.str}
    everything = {**identity, **layout, "format": FORMAT}
    name = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:24]
    folder = Path(name)
    try:
        folder = cache_root() / "scenes" / name
        cache = SceneCache(folder, packer, everything)
        cache.create()
    except (OSError, NotImplementedError, RuntimeError) as error:  # refused; no locks there; no home
        _say_once(folder, error)
        return None
    return cache


def _say_once(folder: Path, error: Exception) -> None:
    if folder not in _said:
        _said.add(folder)
        _log.warning(
            "%s: scenes are not kept on disk, and decoded whenever they are shown: %s; %s names another folder",
            folder,
            getattr(error, "strerror", None) or error,
            CACHE_VARIABLE,
        )
