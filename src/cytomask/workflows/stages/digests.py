"""Checksums of files, kept so that an unchanged file is not read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cytomask.errors import DataError, OutputError
from cytomask.output import replacing


class FileDigests:
    """Knows the SHA-256 of files, and looks at size and time of change before it reads one again.

    Parameters
    ----------
    path
        Where it is kept between runs; what cannot be read there is forgotten.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("whole")
    >>> digests = FileDigests(folder / "cache.json")
    >>> digests.of(folder / "a.txt")[:8]
    '5d5766cf'
    >>> digests.save()
    >>> FileDigests(folder / "cache.json").known(folder / "a.txt")[:8]
    '5d5766cf'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, list[Any]] = {}
        self.notes: dict[str, Any] = {}
        self._changed = False
        with suppress(OSError, ValueError, TypeError, AttributeError):
            content = json.loads(path.read_text(encoding="utf-8"))
            files, notes = content["files"], content["notes"]
            if isinstance(files, dict) and isinstance(notes, dict):
                self._files, self.notes = files, notes

    def known(self, path: Path) -> str | None:
        """The checksum of a file that is as it was when it was read; None if it must be read, or is not there."""
        try:
            status = path.stat()
        except OSError:
            return None
        kept = self._files.get(str(path.absolute()))
        if kept is None or kept[:2] != [status.st_size, status.st_mtime_ns]:
            return None
        return str(kept[2])

    def of(self, path: Path) -> str:
        """The checksum of a file.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        found = self.known(path)
        if found is not None:
            return found
        try:
            # The time before the content: a file that changes meanwhile is read again the next time.
            status = path.stat()
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError("a file cannot be read", where=path, found=error.strerror) from error
        self._files[str(path.absolute())] = [status.st_size, status.st_mtime_ns, found]
        self._changed = True
        return found

    def note(self, name: str, content: Any) -> None:
        """Keep something else."""
        self.notes[name] = content
        self._changed = True

    def save(self) -> None:
        """Write what is known, if there is anything new; that it cannot be written costs time only."""
        if not self._changed:
            return
        self._files = {name: kept for name, kept in self._files.items() if Path(name).is_file()}
        with suppress(OutputError), replacing(self.path) as path:
            path.write_text(json.dumps({"files": self._files, "notes": self.notes}), encoding="utf-8")
        self._changed = False


def files_below(place: Path, without: Sequence[Path] = ()) -> list[Path]:
    """A file itself, or the files in a folder and its folders; none of what is hidden.

    Parameters
    ----------
    place
        A file or folder; it need not be there.
    without
        Folders that are left out.
    """
    if place.is_file():
        return [place]
    if not place.is_dir() or place in without:
        return []
    found: list[Path] = []
    for entry in sorted(place.iterdir()):
        if not entry.name.startswith("."):
            found += files_below(entry, without)
    return found


def digest_of(parts: Iterable[object]) -> str:
    """One checksum of several things that print the same when they are the same.

    Examples
    --------
    >>> digest_of(["a", 1]) == digest_of(("a", 1)), digest_of(["a", 1]) == digest_of(["a", 2])
    (True, False)
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(repr(part).encode("utf-8", "surrogateescape"))
        found.update(b"\n")
    return found.hexdigest()
