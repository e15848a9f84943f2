"""Notebooks of the tutorial pages: their text and their programs, in order, as cells.

python docs/notebooks.py            # writes notebooks/*.ipynb
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from acis_env.files import write_json

TUTORIALS = Path(__file__).parent / "tutorials"
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s]+)\)")


@dataclass(frozen=True)
class Args:
    """Write a notebook of every tutorial page."""

    pages: tuple[Path, ...] = tuple(sorted(TUTORIALS.glob("*.md")))
    """Pages in Markdown."""
    out: Path = Path("notebooks")
    """Folder of the notebooks, which are named as the pages are."""


def notebook(markdown: str, here: str = ".") -> dict[str, Any]:
    """What a notebook file holds of a page: a cell for each program, and one for the text between two of them.

    `here` is the folder of the page as seen from the notebook's: links are changed to start there.
    """
    cells: list[dict[str, Any]] = []
    for place, part in enumerate(re.split(r"^```python\n(.*?)\n```$", markdown, flags=re.MULTILINE | re.DOTALL)):
        cell: dict[str, Any] = {"id": f"cell-{len(cells)}", "metadata": {}, "cell_type": "markdown"}
        if place % 2:
            cells.append(cell | {"cell_type": "code", "execution_count": None, "outputs": [], "source": part})
        elif part.strip():
            text = LINK.sub(lambda link: f"]({posixpath.normpath(posixpath.join(here, link[1]))})", part.strip())
            cells.append(cell | {"source": text})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def main(args: Args) -> None:
    """Write the notebooks. Their links and pictures lead to the same files as those of the pages."""
    for page in args.pages:
        here = Path(os.path.relpath(page.parent, args.out)).as_posix()
        write_json(args.out / f"{page.stem}.ipynb", notebook(page.read_text(), here))


if __name__ == "__main__":
    main(tyro.cli(Args))
