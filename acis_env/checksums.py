"""Checksums of files that are read back, so that one flipped bit is an error and not another result.

A file of `torch.save` ends in a line with the SHA-256 of all before it, which readers of zip archives skip. A JSON
object holds that of its other members, and where it describes a file beside it, that file's. A file without a checksum,
written by an earlier version or edited by hand, is read with a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from acis_env import json_files

logger = logging.getLogger(__name__)

MARK = b"\nsha256 "
LENGTH = len(MARK) + 64 + 1
"""Bytes of the line at the end of a file."""
ZIP_END = b"PK\5\6" + bytes(18)
"""As long as the last record of a zip archive, and beginning as it does."""
KEY = "sha256"
"""Member of a JSON object that holds the checksum of the others."""
CHUNK = 2**20


class SummingWriter:
    """Passes bytes on to a file, and sums them up."""

    def __init__(self, file: Any) -> None:
        self.file, self.sum = file, hashlib.sha256()
        self.error: OSError | None = None  # of a write that failed

    def write(self, data: Any) -> int:
        """Write `data`; returns the number of bytes."""
        self.sum.update(data)
        try:
            return int(self.file.write(data))
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self.file.flush()


@contextmanager
def sealed(path: Path) -> Iterator[SummingWriter]:
    """A file to write to, in order, which ends in its checksum."""
    with path.open("wb") as file:
        writer = SummingWriter(file)
        try:
            yield writer
        except RuntimeError as error:
            if writer.error is None:
                raise
            raise writer.error from error  # torch.save tells of its own trouble with what is missing then
        file.write(MARK + writer.sum.hexdigest().encode() + b"\n")


def check_seal(path: Path) -> None:
    """Compare a file of `torch.save` with the checksum at its end.

    Raises:
        ValueError: they differ, or it ends neither in a checksum nor as a zip archive without one does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - LENGTH, 0))
        end = file.read()
    if end.startswith(MARK):
        check_sum(path, end[len(MARK) : -1].decode(errors="replace"), size - LENGTH)
    elif end[-len(ZIP_END) :].startswith(ZIP_END[:4]):
        _warn(path)
    else:
        raise ValueError(f"{path}: not a whole checkpoint (its end is missing)")


def check_sum(path: Path, expected: str, length: int | None = None) -> None:
    """Compare the first `length` bytes of a file, or all, with their checksum.

    Raises:
        ValueError: they differ.
    """
    found = file_sum(path, length)
    if found != expected:
        raise ValueError(f"{path}: damaged: expected the SHA-256 {expected!r}, got {found!r}")


def file_sum(path: Path, length: int | None = None) -> str:
    """The checksum of the first `length` bytes of a file, or of all."""
    total, left = hashlib.sha256(), path.stat().st_size if length is None else length
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, CHUNK))):
            total.update(chunk)
            left -= len(chunk)
    return total.hexdigest()


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """JSON members and their checksum."""
    return {**content, KEY: _json_sum(content)}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, and compare it with its checksum, which is left out of the result.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no JSON object.
    """
    content = json_files.read_json(path)
    if KEY not in content:
        _warn(path)
        return content
    expected, found = content.pop(KEY), _json_sum(content)
    if found != expected:
        raise ValueError(
            f"{path}: damaged: expected the SHA-256 {expected!r}, got {found!r}; whoever edits it takes {KEY!r} out"
        )
    return content


def tensors_sum(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """The checksum of tensors: their names, shapes, kinds and values."""
    total = hashlib.sha256()
    for name, tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return total.hexdigest()


def _json_sum(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(dict(content)))  # as it is read: lists for tuples, keys that are strings
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _warn(path: Path) -> None:
    logger.warning("%s has no checksum, so damage to it would not be noticed", path)
