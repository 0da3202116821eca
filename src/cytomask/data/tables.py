"""CSV tables that describe images: one row per image, columns such as its split, stain or patient."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytomask.data.pairs import stem_of
from cytomask.errors import DataError

#: What the column with the images' names is usually called.
NAME_COLUMNS = ("name", "image", "image_name", "imagename", "filename", "file_name", "file", "image_id", "id")


@dataclass(frozen=True)
class Table:
    """A CSV file, all values as text.

    Attributes
    ----------
    path
        The file.
    columns
        Names of its columns.
    rows
        One dictionary per row; the file's line number is in ``lines``.
    lines
        Line numbers of the rows, from 1, the header counted.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]

    def column(self, wanted: str) -> str:
        """Find a column by its exact name, or regardless of case.

        Raises
        ------
        DataError
            If there is none; the message lists the columns and names the nearest.
        """
        same = [c for c in self.columns if c == wanted] or [
            c for c in self.columns if c.casefold() == wanted.casefold()
        ]
        if len(same) == 1:
            return same[0]
        near = difflib.get_close_matches(wanted, self.columns, n=1)
        raise DataError(
            f"the table has no column {wanted!r}",
            where=self.path,
            found=", ".join(self.columns),
            fix=f"did you mean {near[0]!r}?" if near else None,
        )

    def name_column(self, wanted: str | None = None) -> str:
        """Find the column with the images' names: the wanted one, a usual one, or the first."""
        if wanted is not None:
            return self.column(wanted)
        folded = {c.casefold().replace(" ", "_"): c for c in reversed(self.columns)}
        return next((folded[n] for n in NAME_COLUMNS if n in folded), self.columns[0])


def read_table(path: Path, needed: Sequence[str] = ()) -> Table:
    """Read a CSV file, separated by comma, semicolon or tab, with a header.

    Parameters
    ----------
    path
        The file, in UTF-8 (a byte order mark is fine).
    needed
        Columns that must be there.

    Raises
    ------
    DataError
        If the file is missing, is not text, is empty, has doubled or too few columns, or a row is too long.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError("the table cannot be read", where=path, found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise DataError("the table is not text in UTF-8", where=path, fix="save it as CSV UTF-8") from error
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max((",", ";", "\t"), key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns: tuple[str, ...] = ()
    rows, lines = [], []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not columns:
                while not cells[-1]:
                    cells.pop()
                columns = tuple(cells)
                _check_header(path, columns)
                continue
            if len(cells) > len(columns) and any(cells[len(columns) :]):
                raise DataError(
                    f"line {reader.line_num} of the table has more cells than the header",
                    where=path,
                    found=f"{len(cells)} cells",
                    expected=f"{len(columns)}",
                )
            cells += [""] * (len(columns) - len(cells))
            rows.append(dict(zip(columns, cells)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError("the table cannot be read", where=path, found=str(error)) from error
    if not columns:
        raise DataError("the table is empty", where=path, expected="a header and one row per image")
    table = Table(path, columns, tuple(rows), tuple(lines))
    for name in needed:
        table.column(name)
    return table


def rows_by_name(table: Table, column: str | None, names: Sequence[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Give each image its row.

    A row may name an image by its name in the data set, with or without the file's suffix, or by the last part of that
    name where it is the only one. Names are only compared, never opened.

    Parameters
    ----------
    table
        The table.
    column
        The column with the names; None looks for a usual one.
    names
        The images' names.

    Returns
    -------
    tuple
        Each image's row without the column of names, and what is wrong: rows without an image, images listed twice.
    """
    column = table.name_column(column)
    finder = NameFinder(names)
    rows: dict[str, dict[str, str]] = {}
    problems = []
    for line, row in zip(table.lines, table.rows):
        name = finder.find(row[column])
        if name is None:
            problems.append(f"{table.path.name}, line {line}: there is no annotated image {row[column]!r}")
        elif name in rows:
            problems.append(f"{table.path.name}, line {line}: {row[column]!r} is listed twice")
        else:
            rows[name] = {key: value for key, value in row.items() if key != column}
    return rows, problems


class NameFinder:
    """Finds the image that a text means.

    Examples
    --------
    >>> finder = NameFinder(["train/a", "train/b", "val/b"])
    >>> finder.find("a.tif"), finder.find("b"), finder.find("val/b.ome.tif"), finder.find("../a")
    ('train/a', None, 'val/b', None)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._by_last: dict[str, list[str]] = {}
        for name in names:
            self._by_last.setdefault(name.rpartition("/")[2], []).append(name)

    def find(self, text: str) -> str | None:
        """The image's name, or None if there is none or more than one."""
        text = text.replace("\\", "/")
        for candidate in (text, stem_of(text)):
            if candidate in self._names:
                return candidate
            if len(self._by_last.get(candidate, ())) == 1:
                return self._by_last[candidate][0]
        return None


def _check_header(path: Path, columns: tuple[str, ...]) -> None:
    doubled = sorted({c for c in columns if columns.count(c) > 1})
    if doubled:
        raise DataError("the table has columns of the same name", where=path, found=", ".join(map(repr, doubled)))
