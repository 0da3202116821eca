"""Locks that keep two processes from writing the same results; a killed process leaves none."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cytomask.errors import OutputError
from cytomask.output import output_folder

LOCK_NAME = ".run.lock"


@contextmanager
def run_locked(folder: str | Path) -> Iterator[None]:
    """Keep other processes from running stages in the same folder while the block runs.

    The operating system frees the lock when its process ends in whatever way, so a lock is never stale; the file tells
    who had it last.

    Raises
    ------
    OutputError
        If another process has it, or the folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> with run_locked(tempfile.mkdtemp()):
    ...     pass
    """
    path = output_folder(folder) / LOCK_NAME
    try:
        # Not truncated before it is ours: it says who has it.
        lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except OSError as error:
        raise OutputError("the run's folder cannot be written to", where=folder, found=error.strerror) from error
    with lock:
        if not try_lock(lock):
            holder = lock.read(200).decode("utf-8", "replace").strip()
            raise OutputError(
                "another run is working in this folder",
                where=folder,
                found=holder or None,
                fix="wait until it has ended, or give another folder with --out",
            )
        lock.truncate()
        lock.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        lock.flush()
        yield


if sys.platform == "win32":

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file until it is closed; False if another process has it."""
        import msvcrt

        try:
            # Beyond the text, which others may read.
            file.seek(2**20)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True

else:

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file until it is closed; False if another process has it."""
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks
        return True
