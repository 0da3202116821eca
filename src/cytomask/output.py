"""Writing results so that nothing is ever half-written or lost.

A file is written beside its target under a temporary name and moved into place when it is complete.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cytomask.errors import OutputError

#: File systems hold names of so many bytes.
_LONGEST_NAME = 255
#: Tells this process from those of other machines that write into the same folder and have the same number.
_HERE = secrets.token_hex(4)


def output_folder(path: str | Path) -> Path:
    """Make a folder (and its parents) for results, and make sure that it can be written to.

    Raises
    ------
    OutputError
        If the path is a file, or the folder cannot be made or written to.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            "the output folder is a file", where=folder, fix="name a folder, or move the file out of the way"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            "the output folder cannot be written to",
            where=folder,
            found=error.strerror or error,
            fix="choose another folder with --out, or mend its permissions",
        ) from error
    return folder


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path with the same suffix; move it to ``path`` when the block ends well, else delete it.

    Raises
    ------
    OutputError
        If the file cannot be written (no folder, no permission, no space).

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    target = Path(path)
    temporary = _beside(target, target.stem, target.suffix)
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise OutputError(
            "the file cannot be written",
            where=target,
            found=error.strerror or error,
            fix="check the folder, its permissions and the free disk space",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _beside(target: Path, stem: str, suffix: str) -> Path:
    """A temporary path beside the target; of a name that is nearly as long as names may be, it has the beginning."""
    end = f".{os.getpid()}-{_HERE}.part{suffix}"
    while stem and len(os.fsencode(f".{stem}{end}")) > _LONGEST_NAME:
        stem = stem[:-1]
    return target.with_name(f".{stem}{end}")


def remove_leftovers(path: str | Path) -> None:
    """Delete what processes that were killed while they wrote a file left beside it; nobody may be writing it now.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a.txt", ".a.7-0badcafe.part.txt", ".a_b.7-0badcafe.part.txt"):
    ...     _ = (folder / name).write_text("half")
    >>> remove_leftovers(folder / "a.txt")
    >>> sorted(p.name for p in folder.iterdir())
    ['.a_b.7-0badcafe.part.txt', 'a.txt']
    """
    target = Path(path)
    ours = re.compile(rf"\.{re.escape(target.stem)}\.\d+(-[0-9a-f]+)?\.part{re.escape(target.suffix)}")
    for entry in target.parent.iterdir() if target.parent.is_dir() else ():
        if ours.fullmatch(entry.name):
            with suppress(OSError):
                entry.unlink()


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder; it becomes ``path`` when the block ends well, else it is deleted.

    Raises
    ------
    OutputError
        If there is a file at ``path``, or a folder that is not empty, or it cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> with new_folder(place / "labels") as folder:
    ...     _ = (folder / "a.txt").write_text("whole")
    >>> [p.relative_to(place).as_posix() for p in place.rglob("*")]
    ['labels', 'labels/a.txt']
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(
            "the results would mix with what is there",
            where=target,
            found="a folder that is not empty" if target.is_dir() else "a file",
            expected="a new or empty folder",
            fix="name another folder, or move that one out of the way",
        )
    temporary = _beside(target, target.name, "")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    except OSError as error:
        raise OutputError(
            "the folder cannot be written",
            where=target,
            found=error.strerror or error,
            fix="check its permissions and the free disk space",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
