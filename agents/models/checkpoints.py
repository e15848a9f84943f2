"""Files of agents and runs: tensors and plain containers under a checksum, marked with their format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch

from acis_env.checksums import check_seal, sealed
from acis_env.files import replacing


def check_format(content: Mapping[str, Any], expected: str, source: str) -> None:
    """Make sure that a file is of this version.

    Raises:
        ValueError: naming `source`, what it is, and what to do.
    """
    found = content.get("format")
    if found == expected:
        return
    kind = expected.rsplit("-", 1)[0]
    is_older = isinstance(found, str) and found.startswith(kind)
    way_out = "it was written by another version of acis-env: train it again with this one, or use that version"
    raise ValueError(
        f"{source}: expected the format {expected!r}, got {found!r}" + (f"; {way_out}" if is_older else "")
    )


def save_checkpoint(
    content: Mapping[str, Any], path: Path, what: str = "checkpoint", previous: Path | None = None
) -> None:
    """Write `content` with `torch.save` and a checksum; an interruption leaves the old file.

    Args:
        content: tensors and plain containers.
        path: file to write.
        what: what it is, for errors.
        previous: where the old file is kept; None: it goes.
    """
    with replacing(path, what, previous) as unfinished, sealed(unfinished) as file:
        torch.save(dict(content), cast("IO[bytes]", file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `acis train` writes it")
    check_seal(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in as many ways as a file can be damaged
        raise ValueError(f"{path}: not a whole checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a checkpoint, got {type(content).__name__}")
    return content
