"""Tables of pictures."""

from __future__ import annotations

from collections.abc import Sequence

from acis_env.rendering.colours import Picture, check_picture, order_colours
from acis_env.rendering.layout import GAP, SOFT_INK, below, beside, blank, enlarge, extend, on_page, text


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    headings: Sequence[str],
    captions: Sequence[str] | None = None,
    min_panel: int = 160,
    order_legend: bool = True,
) -> Picture:
    """A table of pictures: a heading over every column, a caption under every row.

    Args:
        rows: pictures `[h, w, 3]` uint8, one per heading in every row; sizes may differ.
        headings: one per column.
        captions: one per row, or None for none.
        min_panel: least height of a panel in pixels; pictures are enlarged by whole factors.
        order_legend: whether a bar below the table explains the order colours, "first ... last".

    Returns:
        `[H', W', 3]` uint8, `H'` and `W'` even.

    Raises:
        ValueError: no rows, a row without one picture per heading, captions without one per row, or a picture that
            is not `[h, w, 3]` uint8.
    """
    _check_table(rows, headings, captions)
    table = [[enlarge(picture, min_panel) for picture in row] for row in rows]
    widths = [max(picture.shape[1] for picture in column) for column in zip(*table, strict=True)]
    height = max(picture.shape[0] for row in table for picture in row)
    titles = [text(heading, width=width, height=height) for heading, width in zip(headings, widths, strict=True)]
    parts = [beside(*titles)]
    for index, row in enumerate(table):
        cells = [extend(picture, picture.shape[0], width) for picture, width in zip(row, widths, strict=True)]
        parts.append(beside(*cells))
        if captions is not None:
            caption = text(captions[index], width=parts[0].shape[1], height=height, colour=SOFT_INK)
            parts.append(extend(caption, caption.shape[0] + GAP, caption.shape[1]))  # nearer to its own row
    if order_legend:
        parts.append(_order_legend(height))
    return on_page(below(*parts))


def _order_legend(height: int) -> Picture:
    """A bar of the order colours that reads "first ... last prediction", for panels of `height`."""
    first = text("first", width=round(height / 5), height=height)
    last = text("last prediction", width=round(height / 1.6), height=height)
    bar = blank(first.shape[0], round(height / 1.6))
    bar[len(bar) // 5 : -len(bar) // 5] = order_colours(bar.shape[1])
    return beside(first, bar, last)


def _check_table(rows: Sequence[Sequence[Picture]], headings: Sequence[str], captions: Sequence[str] | None) -> None:
    if len(rows) == 0 or len(headings) == 0:
        raise ValueError(f"rows and headings must not be empty, got {len(rows)} and {len(headings)}")
    for index, row in enumerate(rows):
        if len(row) != len(headings):
            raise ValueError(f"rows[{index}] must hold {len(headings)} pictures as headings, got {len(row)}")
        for column, picture in enumerate(row):
            check_picture(f"rows[{index}][{column}]", picture)
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"captions must hold one per row, {len(rows)}, got {len(captions)}")
