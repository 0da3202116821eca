"""What is done of a prediction, kept beside the results until all of it is done.

Each image has a folder of its own below ``.predict.progress`` in the folder of the results. It is bound to the image's
file, the model and all settings, so that nothing is gone on with that would give another result; and it is locked while
a process works on it, so that two do not write over each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from cytomask.errors import OutputError
from cytomask.image import Image
from cytomask.output import replacing

PROGRESS_NAME = ".predict.progress"
#: Held by whoever works on an image.
LOCK = "lock"
#: Held by those who work on the tiles of an image that another process leads, shared; by who makes a plan, alone.
TILES_LOCK = "tiles.lock"
#: A file of this kind is there, and locked, as long as a run wants the tasks done that it has given to other processes.
_MARK = "run-*.mark"
#: Files in a zarr folder that say what it holds.
_ZARR_METADATA = ("zarr.json", ".zattrs", ".zarray", ".zgroup", ".zmetadata")
#: Parts of an image that tell whether it is still the same: so many along each axis, and their side in pixels.
_PROBES, _PROBE_SIDE = 4, 64
#: Seconds between two attempts to get a lock.
_LOCK_PAUSE = 0.1


class ImageProgress:
    """The folder in which the progress of one image is kept.

    Parameters
    ----------
    folder
        Folder of the results.
    name
        The name that the image's results bear.
    binding
        All that the results follow from, as JSON takes it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with ImageProgress(folder, "a", {"tile": 512}).locked() as progress:
    ...     progress.begin()
    ...     progress.write("result", {"objects": 3})
    >>> ImageProgress(folder, "a", {"tile": 512}).read("result")
    {'objects': 3}
    >>> ImageProgress(folder, "a", {"tile": 256}).read("result") is None
    True
    """

    def __init__(self, folder: Path, name: str, binding: Mapping[str, Any]) -> None:
        self.root = folder / PROGRESS_NAME
        self.folder = self.root / name
        self.binding = json.loads(json.dumps(binding))
        #: Whether there was a folder when the lock was taken: an earlier run, or an attempt, may have left something.
        self.found_before = False

    @property
    def fingerprint(self) -> str:
        """A short name for all that the results follow from."""
        return fingerprint(self.binding)

    @property
    def begun(self) -> bool:
        """Whether there is progress of the same image with the same settings."""
        return self._read("binding") == self.binding

    def other(self) -> list[str]:
        """In what the progress that is there differs from this; empty without any."""
        before = self._read("binding")
        if before is None or before == self.binding:
            return []
        return sorted(key for key in {*before, *self.binding} if before.get(key) != self.binding.get(key))

    def begin(self) -> None:
        """Make the folder; what there is of another image or other settings is deleted."""
        if self.begun:
            return
        self.clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write("binding", self.binding)

    def read(self, name: str) -> dict[str, Any] | None:
        """Read what :meth:`write` wrote; None when it is not there, or belongs to something else."""
        return self._read(name) if self.begun else None

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a small file of JSON."""
        with replacing(self.folder / f"{name}.json") as path:
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def clear(self) -> None:
        """Delete all that is there, but for the locks."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name not in (LOCK, TILES_LOCK):
                with suppress(OSError):
                    entry.unlink()

    def remove(self) -> None:
        """Delete the folder, and the one that holds all images' when it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.root.rmdir()

    @contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[ImageProgress]:
        """Keep other processes from working on the same image; a killed process leaves no lock.

        Parameters
        ----------
        patience
            How many seconds to wait while another process is at it.

        Raises
        ------
        OutputError
            If another process is at it, or the folder cannot be written to.
        """
        self.found_before = self.folder.is_dir()
        lock = lock_file(self.folder / LOCK, patience)
        try:
            if lock is None:
                raise OutputError(
                    "another run is working on the same image",
                    where=self.folder,
                    fix="wait until it has ended, or give another folder with --out",
                )
            yield self
        finally:
            if lock is not None:
                if sys.platform == "win32":  # where nobody deletes an open file
                    lock.close()
                # Only locks are in it: nothing has been begun.
                if self.folder.is_dir() and {entry.name for entry in self.folder.iterdir()} <= {LOCK, TILES_LOCK}:
                    self.remove()
                lock.close()

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None


@contextmanager
def marked(folder: Path) -> Iterator[Path]:
    """Make a file that is there as long as the block lasts, so that others know whether their work is still wanted.

    Parameters
    ----------
    folder
        Folder of the results.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with marked(folder) as mark:
    ...     remove_stale_marks(folder)
    ...     mark.is_file()
    True
    >>> list(folder.iterdir())
    []
    """
    mark = folder / PROGRESS_NAME / _MARK.replace("*", secrets.token_hex(8))
    lock = lock_file(mark)
    assert lock is not None
    try:
        yield mark
    finally:
        lock.close()
        mark.unlink(missing_ok=True)
        with suppress(OSError):
            mark.parent.rmdir()


def remove_stale_marks(folder: Path) -> None:
    """Delete the marks of runs that were killed."""
    for mark in (folder / PROGRESS_NAME).glob(_MARK):
        lock = lock_file(mark)
        if lock is not None:
            lock.close()
            mark.unlink(missing_ok=True)
    with suppress(OSError):
        (folder / PROGRESS_NAME).rmdir()


def fingerprint(content: Mapping[str, Any]) -> str:
    """Checksum of what JSON takes.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_identity(path: Path) -> dict[str, Any]:
    """What tells that a file is still the same without reading it: place, size and time; of a zarr its metadata's."""
    files = [path]
    if path.is_dir():
        places = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())][:64]
        files = [place / name for place in places for name in _ZARR_METADATA if (place / name).is_file()]
    sizes = []
    for file in files:
        status = file.stat()
        sizes.append([file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns])
    return {"path": os.path.abspath(path), "files": sizes}  # noqa: PTH100 - links stay apart


def pixel_identity(image: Image) -> str:
    """Checksum of some parts of an image, spread evenly."""
    found = hashlib.sha256(repr((image.shape, image.n_channels, str(image.dtype))).encode())
    side = [min(_PROBE_SIDE, length) for length in image.shape]
    rows, columns = (
        sorted({int(start) for start in np.linspace(0, length - part, _PROBES)})
        for length, part in zip(image.shape, side)
    )
    for y in rows:
        for x in columns:
            found.update(np.ascontiguousarray(image.window(y, y + side[0], x, x + side[1])).tobytes())
    return found.hexdigest()


def lock_file(path: Path, patience: float = 0.0, *, shared: bool = False) -> IO[bytes] | None:
    """Lock a file, which is made with its folder; closing it, or the end of the process, gives it free.

    Locks of this kind work between machines on NFS and most other shared file systems; where there are none, everybody
    gets one.

    Parameters
    ----------
    path
        The file.
    patience
        How many seconds to wait while another process has it.
    shared
        Let others who ask so have it, too.

    Returns
    -------
    file or None
        The open file; None if another process has it.

    Raises
    ------
    OutputError
        If the file cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> first = lock_file(path)
    >>> lock_file(path) is None
    True
    >>> first.close()
    >>> lock_file(path).close()
    """
    until = time.monotonic() + patience
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except FileNotFoundError:
            continue  # who had it has removed the folder in between
        except OSError as error:
            raise OutputError(
                "the folder for what is done so far cannot be written to",
                where=path.parent,
                found=error.strerror or error,
                fix="check the permissions and the free disk space",
            ) from error
        taken = _try_lock(file, shared)
        # A file that has been removed since, by whoever had the lock, keeps nobody away.
        if taken and _is_there(file, path):
            return file
        file.close()
        if not taken:
            if time.monotonic() >= until:
                return None
            time.sleep(_LOCK_PAUSE)


def _is_there(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


if sys.platform == "win32":

    def _try_lock(file: IO[bytes], shared: bool) -> bool:  # noqa: ARG001 - there are only exclusive ones
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _try_lock(file: IO[bytes], shared: bool) -> bool:
        import fcntl

        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks
        return True
