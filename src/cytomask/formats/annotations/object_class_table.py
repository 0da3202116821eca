"""The table that tells the class of each object beside label images: a CSV with the columns image, id and class."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from cytomask.errors import DataError
from cytomask.formats.annotations.image_finder import plain_name

#: What the table is called beside label images.
CLASS_TABLE = "classes.csv"
COLUMNS = ("image", "id", "class")


def read_class_table(
    path: Path, classes: tuple[str, ...] | None, names: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, dict[int, int]], int]:
    """Read the class of each object.

    Parameters
    ----------
    path
        The table, separated by comma, semicolon or tab, in UTF-8.
    classes
        Names of the classes in order; None takes those of the table, sorted.
    names
        Names of the images. Rows may name an image by the last part of its name, if only one image has it.

    Returns
    -------
    tuple
        The names of the classes, for each image the class (from 1) of each id, and how many rows are about no image.

    Raises
    ------
    DataError
        If the table is broken, names an unknown class, or gives an object two classes.
    """
    head, rows = _rows(path)
    image, ident, kind = (_column(head, name, path) for name in COLUMNS)
    if classes is None:
        classes = tuple(sorted({row[kind] for _, row in rows}, key=_natural))
        if not classes or "" in classes:
            raise DataError("the table of classes names no class", where=path, expected="a class in every row")
    number_of = {name: number for number, name in enumerate(classes, 1)}
    by_last: dict[str, list[str]] = {}
    for name in names:
        by_last.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    known, found, passed_over = set(names), dict[str, dict[int, int]](), 0
    for line, row in rows:
        text = row[image].replace("\\", "/")
        candidates = [c for c in (text, plain_name(text)) if c in known]
        candidates += [n for c in (text, plain_name(text)) for n in by_last.get(c, ()) if len(by_last[c]) == 1]
        if not candidates:
            passed_over += 1
            continue
        value = int(row[ident]) if row[ident].isascii() and row[ident].isdigit() and len(row[ident]) < 11 else 0
        number = number_of.get(row[kind])
        if number is None or value == 0:
            raise DataError(
                f"line {line} of the table of classes cannot be understood", where=path,
                found=f"object {row[ident]!r} of class {row[kind]!r}",
                expected="an object's whole number from 1, and one of the classes " + ", ".join(classes),
            )  # fmt: skip
        if found.setdefault(candidates[0], {}).setdefault(value, number) != number:
            raise DataError(
                f"object {value} of {candidates[0]} has two classes", where=path, found=f"the second in line {line}"
            )
    return classes, found, passed_over


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError("the table of classes cannot be read", where=path, found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise DataError("the table of classes is not text in UTF-8", where=path, fix="save it as CSV UTF-8") from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise DataError("the table of classes cannot be read", where=path, found=str(error)) from error
    if not lines:
        raise DataError("the table of classes is empty", where=path, expected="the columns " + ", ".join(COLUMNS))
    head = lines[0][1]
    for line, row in lines[1:]:
        if len(row) < len(head):
            raise DataError(
                f"line {line} of the table of classes is too short", where=path, found=f"{len(row)} cells",
                expected=str(len(head)),
            )  # fmt: skip
    return head, lines[1:]


def _column(head: list[str], wanted: str, path: Path) -> int:
    folded = [name.casefold() for name in head]
    if wanted not in folded:
        raise DataError(f"the table of classes has no column {wanted!r}", where=path, found=", ".join(head))
    return folded.index(wanted)


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isascii() and name.isdigit() and len(name) < 11 else (1, 0, name)
