"""The reference shows what stands behind a field: its comment has the shape, range and unit."""

from __future__ import annotations

import io
import tokenize
from textwrap import dedent
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Takes the trailing comment of a field without a docstring for its docstring."""

    def on_attribute(self, *, attr: griffe.Attribute, **others: Any) -> None:
        """Add the docstring to an attribute that has just been read."""
        if attr.docstring is None and (comment := trailing_comment(attr.source)):
            attr.docstring = griffe.Docstring(comment, parent=attr)


def trailing_comment(source: str) -> str:
    """The comments in the lines of a field, without those for tools; "" if there are none."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(dedent(source)).readline))
    except (tokenize.TokenError, IndentationError):  # an attribute that is not a statement of its own
        return ""
    comments = [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    return " ".join(comment for comment in comments if not comment.startswith(("type:", "noqa")))
