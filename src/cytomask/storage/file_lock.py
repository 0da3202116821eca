"""One process at a time: a lock that goes when its holder ends, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until nobody else is in such a block with the same path.

    Where the file system knows no locks, nothing is waited for.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "lock"
    >>> with locked(place):
    ...     place.is_file()
    True
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        with suppress(OSError):
            _lock(file)
        yield


def _lock(file: IO[bytes]) -> None:
    # Both are let go of when the file is closed.
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
