"""The names of classes in a text file beside annotations that number their classes: one name per line, in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytomask.errors import DataError

#: What the file is called.
CLASS_LIST = "classes.txt"
#: Larger files are no lists of names.
_MOST = 2**20


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read a list of class names; empty lines do not count.

    Raises
    ------
    DataError
        If the file cannot be read, is no text, names no class, or one of them twice.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "classes.txt"
    >>> write_class_names(path, ["nucleus", "cell, large"])
    >>> read_class_names(path)
    ('nucleus', 'cell, large')
    """
    try:
        if path.stat().st_size > _MOST:
            raise DataError("the list of classes is too long", where=path, expected="one name per line")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError("the list of classes cannot be read", where=path, found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise DataError("the list of classes is not text in UTF-8", where=path, fix="save it as UTF-8") from error
    names = tuple(line.strip() for line in text.split("\n") if line.strip())
    doubled = sorted({name for name in names if names.count(name) > 1})
    if not names or doubled:
        raise DataError(
            "the list of classes names a class twice" if doubled else "the list of classes is empty",
            where=path, found=", ".join(doubled) or None, expected="one name per line, each once",
        )  # fmt: skip
    return names


def check_class_names(classes: Sequence[str]) -> None:
    """Make sure that class names can be lines of a list.

    Raises
    ------
    DataError
        If a name is empty, has line breaks, or blanks at its ends.
    """
    for name in classes:
        if not name.strip() or name != name.strip() or "\n" in name or "\r" in name or name.startswith("\ufeff"):
            raise DataError(
                "the class's name cannot be a line of a list", where=CLASS_LIST, found=repr(name),
                expected="a name without line breaks, and without blanks at its ends", fix="rename the class",
            )  # fmt: skip


def write_class_names(path: Path, classes: Sequence[str]) -> None:
    """Write a list of class names."""
    check_class_names(classes)
    path.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8", newline="\n")
