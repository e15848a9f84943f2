"""Links that leave docs/ work on the site as in the repository, pages of its root are pages of the site, and the search
finds explanations before it finds names and records."""

from __future__ import annotations

import logging
import posixpath
import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
"""Files outside of docs/ that the site has, and their pages; the site's own index.md stands in for the README."""
RANKS = {"api/": 0.2, "results/": 0.5, "changelog.md": 0.5}
"""Factors of what the site's search thinks of pages, by how their addresses begin."""
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> None:
    """Add the pages that lie outside of docs/."""
    from mkdocs.structure.files import File  # here, so that `rewritten` can be tested without it

    for source, page in PAGES.items():
        if page not in files.src_uris:
            files.append(File.generated(config, page, abs_src_path=str(Path(config.config_file_path).parent / source)))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The text of a page with its links as the site needs them; a link to a file that is not there is a warning."""
    for beginning, rank in RANKS.items():
        if page.file.src_uri.startswith(beginning):
            page.meta.setdefault("search", {"boost": rank})
    root, setup = Path(config.config_file_path).parent, ConfigParser()
    setup.read(root / "setup.cfg")
    source = Path(page.file.abs_src_path).relative_to(root).as_posix()
    return rewritten(markdown, source, root, setup.get("metadata", "url", fallback=""))


def rewritten(markdown: str, source: str, root: Path, repository: str) -> str:
    """`markdown`, that of the file `source` below `root`: what is not of the site is linked in `repository`, if any."""

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (root / path).exists():
            logging.getLogger("mkdocs.hooks").warning("%s links to %s, which is not there", source, path)
        if path in PAGES or path.startswith("docs/"):
            here, page = (PAGES.get(name, name.removeprefix("docs/")) for name in (source, path))
            return f"[{label}]({posixpath.relpath(page, posixpath.dirname(here) or '.')}{anchor})"
        if repository:
            return f"[{label}]({repository}/blob/HEAD/{path}{anchor})"
        return label if label.startswith("`") else f"{label} (`{path}`)"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)
