"""Names of files that others chose: of an archive's members, of a bucket's keys.

None may lead out of the folder that it is meant for, and no two may be the same file on any computer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from cytomask.errors import DataError

#: Control characters, and what Windows takes for the parts of a path.
_BAD = re.compile(r"[\x00-\x1f\x7f\\]")
#: What computers put beside files for themselves.
_JUNK_FOLDERS, _JUNK_FILES = ("__MACOSX", ".AppleDouble"), (".DS_Store", "Thumbs.db", "desktop.ini")


def is_junk(name: str) -> bool:
    """Whether a file is one that macOS or Windows adds to folders for itself.

    Examples
    --------
    >>> is_junk("__MACOSX/images/._a.tif"), is_junk("images/a.tif")
    (True, False)
    """
    parts = PurePosixPath(name).parts
    return bool(parts) and (parts[0] in _JUNK_FOLDERS or parts[-1] in _JUNK_FILES or parts[-1].startswith("._"))


def check_name(name: str, where: object) -> str:
    """Make sure that a relative path stays below the folder that it is put into.

    Parameters
    ----------
    name
        With ``/`` between folders.
    where
        The archive or the bucket, for the error.

    Raises
    ------
    DataError
        If it is absolute, has ``..`` or an empty part in it, or a character that is no part of a name.

    Examples
    --------
    >>> check_name("images/a.tif", "x.zip")
    'images/a.tif'
    >>> check_name("../a.tif", "x.zip")
    Traceback (most recent call last):
        ...
    cytomask.errors.DataError: a file's name leads out of its folder
      where:    x.zip
      found:    '../a.tif'
      to do:    do not use it: nothing was written
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name) or _BAD.search(name):
        raise DataError(
            "a file's name leads out of its folder", where=str(where), found=repr(name),
            fix="do not use it: nothing was written",
        )  # fmt: skip
    if not all(part and part != "." for part in parts):
        raise DataError("a file's name has an empty part", where=str(where), found=repr(name))
    return name


def check_distinct(names: Iterable[str], where: object) -> None:
    """Make sure that no two names are the same file where case does not count, and none is another's folder.

    Raises
    ------
    DataError
        Names the two.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        folded = name.casefold()
        if folded in seen:
            raise DataError(
                "two files have the same name" if seen[folded] == name else "two files' names differ in case alone",
                where=str(where), found=f"{seen[folded]} and {name}",
                fix="rename one of them: on many computers one would overwrite the other",
            )  # fmt: skip
        seen[folded] = name
        for parent in PurePosixPath(name).parents:
            folders.setdefault(parent.as_posix().casefold(), name)
    for folded, name in seen.items():
        if folded in folders:
            raise DataError(
                "a name is a file's and a folder's", where=str(where), found=f"{name} and {folders[folded]}"
            )
