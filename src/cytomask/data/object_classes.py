"""The class of each annotated object, from a table with a row per object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytomask.data.dataset_config import ObjectClasses
from cytomask.data.tables import NameFinder, read_table
from cytomask.errors import DataError


def read_object_classes(
    path: Path, config: ObjectClasses, classes: tuple[str, ...] | None, names: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, dict[int, int]]]:
    """Read which object is of which class.

    Parameters
    ----------
    path
        The CSV file.
    config
        Its columns.
    classes
        Names of the classes; None takes those of the table, sorted.
    names
        Names of the images.

    Returns
    -------
    tuple
        The names of the classes, and for each image the class id (from 1) of each value in its label image. Rows
        about other images are passed over.

    Raises
    ------
    DataError
        If a column is missing, a class is unknown, or an object has two classes.
    """
    table = read_table(path, needed=[config.image, config.id, config.class_])
    image, ident, kind = (table.column(name) for name in (config.image, config.id, config.class_))
    if classes is None:
        classes = tuple(sorted({row[kind] for row in table.rows}))
        if not classes or all(name.isdigit() for name in classes):
            raise DataError(
                "the classes have no names",
                where=path,
                found=", ".join(classes) or "no rows",
                fix="give classes: [first, second, …] in the data set's file",
            )
    finder = NameFinder(names)
    found: dict[str, dict[int, int]] = {}
    for line, row in zip(table.lines, table.rows):
        name = finder.find(row[image])
        if name is None:
            continue
        number = _class_id(row[kind], classes)
        value = int(row[ident]) if row[ident].isascii() and row[ident].isdigit() else 0
        if number is None or value == 0:
            raise DataError(
                f"line {line} of the table of object classes cannot be understood",
                where=path,
                found=f"object {row[ident]!r} of class {row[kind]!r}",
                expected="an object's whole number from 1, and one of the classes " + ", ".join(classes),
            )
        if found.setdefault(name, {}).setdefault(value, number) != number:
            raise DataError(f"object {value} of {name} has two classes", where=path, found=f"the second in line {line}")
    return classes, found


def _class_id(text: str, classes: tuple[str, ...]) -> int | None:
    if text in classes:
        return classes.index(text) + 1
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= len(classes) else None
