"""A document of headings, text, tables and pictures, as Markdown and as one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; }
code { background: #f4f4f4; }
"""


WIDTH = 118
"""Longest line of a paragraph in Markdown."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return f"{'#' * self.level} {escaped(self.text)}"

    def html(self) -> str:
        """As HTML."""
        return f"<h{self.level}>{html.escape(self.text)}</h{self.level}>"


@dataclass(frozen=True)
class Text:
    """A paragraph, in which `code` stands between backticks and links are written as in Markdown."""

    text: str

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        parts = re.split("(`[^`]+`)", self.text)
        whole = "".join(part if part.startswith("`") else escaped(part) for part in parts)
        return textwrap.fill(whole, WIDTH, break_long_words=False, break_on_hyphens=False)

    def html(self) -> str:
        """As HTML."""
        linked = re.sub(r"\[([^]]+)\]\(([^)]+)\)", r'<a href="\2">\1</a>', html.escape(self.text, quote=False))
        marked = re.sub("`([^`]+)`", r"<code>\1</code>", linked)
        return f"<p>{marked}</p>"


@dataclass(frozen=True)
class Items:
    """A list of one-line texts."""

    texts: Sequence[str]

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return "\n".join("- " + Text(text).markdown(folder).replace("\n", "\n  ") for text in self.texts)

    def html(self) -> str:
        """As HTML."""
        items = (f"<li>{Text(text).html().removeprefix('<p>').removesuffix('</p>')}</li>" for text in self.texts)
        return f"<ul>{''.join(items)}</ul>"


@dataclass(frozen=True)
class Table:
    """A table of plain text, each row with as many cells as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        lines = [[escaped(cell) for cell in line] for line in (self.header, *self.rows)]
        lines.insert(1, ["---"] * len(self.header))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def html(self) -> str:
        """As HTML."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.rows)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


@dataclass(frozen=True)
class Picture:
    """A PNG file."""

    path: Path
    title: str

    def markdown(self, folder: Path) -> str:
        """As Markdown, with the path from `folder`."""
        return f"![{escaped(self.title)}]({Path(os.path.relpath(self.path, folder)).as_posix()})"

    def html(self) -> str:
        """As HTML, with the file's content in it."""
        content = base64.b64encode(self.path.read_bytes()).decode()
        return f'<img alt="{html.escape(self.title)}" src="data:image/png;base64,{content}">'


@dataclass(frozen=True)
class Code:
    """Lines of a program or of a shell."""

    text: str
    language: str

    def markdown(self, folder: Path) -> str:
        """As Markdown."""
        return f"```{self.language}\n{self.text}\n```"

    def html(self) -> str:
        """As HTML."""
        return f"<pre>{html.escape(self.text)}</pre>"


Block = Heading | Text | Items | Table | Picture | Code


def to_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """The document as Markdown for a file in `folder`."""
    return "\n\n".join(block.markdown(folder) for block in blocks) + "\n"


def to_html(blocks: Sequence[Block]) -> str:
    """The document as one HTML file, which names nothing that a browser would have to load."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(block.html() for block in blocks)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def escaped(text: str) -> str:
    """Text in which Markdown finds nothing to interpret but links."""
    return re.sub(r"([|*])", r"\\\1", text)
