"""Which scenes a split has: lists of ids in files, and a rule where nobody has made a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from acis_env.datasets.roots import named


def read_ids(path: Path) -> list[str]:
    """The ids in a text file, one a line, each once; empty lines are none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text, or holds no id.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a list of ids, one a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text, one id a line, got bytes that are none ({error.reason})") from error
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        raise ValueError(f"{path}: expected one id a line, got none")
    return ids


def check_listed(ids: Sequence[str], known: Collection[str], source: str, place: Path) -> None:
    """Make sure that every one of `ids` is `known`.

    Args:
        ids: asked for.
        known: ids that there are.
        source: where `ids` are from, for the error.
        place: where the known ones are, for the error.

    Raises:
        FileNotFoundError: one is not.
    """
    absent = sorted(set(ids) - set(known))
    if absent:
        raise FileNotFoundError(
            f"{source} names {len(absent)} of {len(ids)} images that are not in {place}: {named(absent)}; "
            f"expected ids such as {named(sorted(known), 3)}"
        )


def is_held_out(number: int) -> bool:
    """Whether scene `number` is for validation where a data set has no split of its own: every fifth is, 4, 9, 14, ...

    It depends on nothing else that is there, so an incomplete data set is split like the whole one.
    """
    return number % 5 == 4
