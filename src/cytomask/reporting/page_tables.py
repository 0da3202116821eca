"""Tables of a page: sorted by a click on a heading, searched by typing, readable on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cytomask.reporting.markup import Html, element


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes
    ----------
    title
        Its heading.
    number
        Whether it holds numbers: these stand to the right.
    help
        What it means; shown when the pointer rests on the heading.
    """

    title: str
    number: bool = False
    help: str | None = None


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes
    ----------
    content
        What is shown.
    value
        By what the column is sorted; None for the content. NaN comes last.
    """

    content: object
    value: float | str | None = None


def number_cell(value: object, digits: int = 3) -> Cell:
    """A cell with a number; a dash where there is none.

    Examples
    --------
    >>> number_cell(0.93571).content, number_cell(12).content, number_cell(None).content, number_cell("").content
    ('0.936', '12', '–', '–')
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Cell("–", math.nan)
    if isinstance(value, int) or (digits == 0 and float(value).is_integer()):
        return Cell(f"{int(value):,}", float(value))
    return Cell(f"{value:.{digits}f}", float(value))


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str,
    sortable: bool = True,
    searchable: bool = False,
    head_column: bool = True,
) -> Html:
    """Write a table.

    Parameters
    ----------
    columns, rows
        Its content; the first column names the row.
    caption
        What it holds, for those who cannot see it.
    sortable
        Whether a click on a heading sorts it.
    searchable
        Whether there is a field to search it.
    head_column
        Whether the first column is a heading of its row.

    Examples
    --------
    >>> one = table([Column("a"), Column("n", number=True)], [[Cell("x"), number_cell(3)]], caption="t", sortable=False)
    >>> '<th scope="row">x</th><td class="number" data-value="3.0">3</td>' in one
    True
    """
    heads = []
    for column in columns:
        title: object = column.title
        if sortable and column.title:
            title = element("button", column.title, type="button", title=column.help)
        heads.append(element("th", title, scope="col", class_="number" if column.number else None, title=column.help))
    lines = []
    for row in rows:
        cells = [
            _cell("th" if head_column and place == 0 else "td", cell, column)
            for place, (cell, column) in enumerate(zip(row, columns))
        ]
        lines.append(element("tr", *cells))
    body = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *lines),
        class_="sortable" if sortable else None,
    )
    scroll = element("div", body, class_="scroll", tabindex=0, role="region", aria_label=caption)
    if not searchable:
        return scroll
    search = element(
        "label",
        element("span", "Search "),
        element("input", type="search", placeholder="type a part of a name", autocomplete="off"),
        element("output", f"{len(rows):,} rows"),
        class_="search",
        hidden=True,
    )
    return element("div", search, scroll, class_="searchable")


def _cell(tag: str, cell: Cell, column: Column) -> Html:
    value = cell.value
    if isinstance(value, float) and not math.isfinite(value):
        value = ""
    return element(
        tag,
        cell.content,
        scope="row" if tag == "th" else None,
        class_="number" if column.number else None,
        data_value=value,
    )
