"""Fetch a file once into a folder of the user's: whole and checked, or not at all; an interrupted fetch goes on.

What has arrived is kept beside the target as ``NAME.part`` until the file is whole and its checksum is right; beside
that, ``NAME.part.of`` says of which version of the file it is, where the server tells versions apart.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytomask._version import __version__
from cytomask.errors import DownloadError, OutputError
from cytomask.output import output_folder
from cytomask.progress import say, track

#: Bytes that are read at a time; progress counts them.
BLOCK = 2**20
#: No file of weights is larger.
MOST_BYTES = 8 * 2**30
#: How often a connection that breaks off is taken up again.
ATTEMPTS = 4
#: Seconds before a server that is in trouble is asked again; twice as long each time.
PATIENCE = 0.5
_SECONDS = 60.0
#: Answers of a server that may do better in a moment.
_PASSING = (429, 500, 502, 503, 504)
#: Errors that are the disk's fault, not the connection's.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@dataclass(frozen=True)
class Checksum:
    """The first hexadecimal digits of a file's hash, or all of them.

    A few digits tell a broken file from a whole one, but not a forged one from the true.

    Examples
    --------
    >>> Checksum("md5", "f10217").covers_all, str(Checksum("md5", "f10217"))
    (False, 'md5 f10217…')
    """

    kind: str
    digits: str

    @property
    def covers_all(self) -> bool:
        """Whether these are all digits."""
        return len(self.digits) == 2 * hashlib.new(self.kind, usedforsecurity=False).digest_size

    def of(self, path: Path) -> str:
        """The hash of a file, all digits."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(self.kind, usedforsecurity=False)).hexdigest()

    def fits(self, path: Path) -> bool:
        """Whether a file has this checksum."""
        return self.of(path).startswith(self.digits.lower())

    def __str__(self) -> str:
        return f"{self.kind} {self.digits}" + ("" if self.covers_all else "…")


def cache_folder() -> Path:
    """Where downloads are kept: ``CYTOMASK_CACHE``, or else a folder in the user's cache."""
    if chosen := os.environ.get("CYTOMASK_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "cytomask" / "cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cytomask"


def fetch(url: str, target: str | Path, checksum: Checksum | None, most_bytes: int | None = None) -> Path:
    """Give the path of a file, after downloading it if it is not there yet.

    Parameters
    ----------
    url
        ``http`` or ``https``.
    target
        Where it is kept. A file that is there is only checked.
    checksum
        What it must have; None where nobody tells. Then a whole file is one as long as the server says.
    most_bytes
        A larger file is refused; :data:`MOST_BYTES` if None.

    Raises
    ------
    DownloadError
        If it cannot be fetched, or is not what it should be. No file is left at ``target`` that is not whole.
    OutputError
        If the folder cannot be written to, or the disk is full.
    """
    path = Path(target)
    if path.is_file():
        if checksum is None or checksum.fits(path):
            return path
        raise DownloadError(
            "a file that was downloaded or put here is not what it should be",
            where=path,
            found=f"{checksum.kind} {checksum.of(path)}",
            expected=checksum,
            fix="remove it, and it is downloaded again",
        )
    if not url.startswith(("http://", "https://")):
        raise DownloadError("only http and https can be downloaded from", where=url)
    part = output_folder(path.parent) / f"{path.name}.part"
    if checksum is None and not _version_file(part).is_file():
        remove_part(part)  # nobody knows whether it is of the same file
    resumed = part.is_file() and part.stat().st_size > 0
    say(f"downloading {url} to {path.parent}" + (" (going on where it broke off)" if resumed else ""))
    download(url, path, part, most_bytes)
    if resumed and checksum is not None and not checksum.fits(part):
        # What was there before may be of another file: once more from the beginning.
        part.unlink()
        download(url, path, part, most_bytes)
    if checksum is not None and not checksum.fits(part):
        found = checksum.of(part)
        remove_part(part)
        raise DownloadError(
            "what was downloaded is not what it should be, and was removed",
            where=url,
            found=f"{checksum.kind} {found}",
            expected=checksum,
            fix=_by_hand(url, path),
        )
    part.replace(path)
    remove_part(part)
    return path


def remove_part(part: Path) -> None:
    """Remove what has arrived of a file, and what is known of it."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.of")


def _by_hand(url: str, path: Path) -> str:
    return f"try again later, or download {url} on another machine and put it at {path}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def download(url: str, path: Path, part: Path, most_bytes: int | None = None) -> None:
    """Fetch until ``part`` is the whole file that will be at ``path``; what has arrived stays if that fails.

    Raises
    ------
    DownloadError
        If the server does not give it, or the connection breaks off again and again.
    OutputError
        If the disk is full.
    """
    for attempt in range(1, ATTEMPTS + 1):
        had = _size(part)
        passing = False
        try:
            if _fetch_rest(url, part, path.name, MOST_BYTES if most_bytes is None else most_bytes):
                return
            problem: object = "the connection ended early"
        except urllib.error.HTTPError as error:
            passing = error.code in _PASSING
            if error.code < 500 and not passing:
                raise DownloadError(
                    "the server does not give the file", where=url, found=f"{error.code} {error.reason}",
                    fix=_by_hand(url, path),
                ) from error  # fmt: skip
            problem = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = getattr(error, "reason", None) or error
        except OSError as error:
            if isinstance(error, ssl.SSLError) or error.errno not in _OF_THE_DISK:
                problem = error
            else:
                raise not_written(part, error) from error
        gained = _size(part) - had
        if attempt == ATTEMPTS or not (gained or passing):
            raise DownloadError(
                "the download broke off" if gained or had else "the file cannot be downloaded",
                where=url,
                found=problem,
                expected="a server that answers" if passing else "a connection to the internet",
                fix=_by_hand(url, path) + ("; a next try goes on where this one ended" if gained or had else ""),
            )
        if passing:
            time.sleep(PATIENCE * 2 ** (attempt - 1))


def not_written(part: Path, error: OSError) -> OutputError:
    """The error for a download that the disk does not take."""
    return OutputError(
        "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "the file cannot be written",
        where=part,
        found=error.strerror or error,
        fix="make room or choose another folder; a next try goes on where this one ended",
    )


def _fetch_rest(url: str, part: Path, name: str, most_bytes: int) -> bool:
    """Fetch what the part does not hold yet; tell whether it is whole then."""
    had = _size(part)
    headers = {"User-Agent": f"cytomask/{__version__}", "Accept-Encoding": "identity"}
    known = _version_file(part)
    if had:
        headers["Range"] = f"bytes={had}-"
        if known.is_file():
            # A server that has another version by now sends all of it.
            headers["If-Range"] = known.read_text(encoding="ascii", errors="replace").strip()
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not had:
            raise
        error.close()
        # All is there, or more than all: of a file that has changed since.
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(had):
            return True
        part.unlink()
        return _fetch_rest(url, part, name, most_bytes)
    with answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        begins = f"bytes {had}-"
        if goes_on and not answer.headers.get("Content-Range", "").startswith(begins):
            raise http.client.HTTPException(f"the server answered with {answer.headers.get('Content-Range')}")
        length = answer.headers.get("Content-Length")
        size = int(length) if length is not None and length.isdigit() else None
        start = had if goes_on else 0
        if start + (size or 0) > most_bytes:
            raise DownloadError("the file is too large", where=url, found=f"{start + (size or 0):,} bytes")
        check_room(part.parent, size or 0)
        _note_version(known, answer.headers)
        got = 0
        with part.open("ab" if goes_on else "wb") as file:
            blocks = None if size is None else -(-size // BLOCK)
            for block in track(_blocks(answer), f"downloading {name} (MB)", blocks):
                got += len(block)
                if start + got > most_bytes:
                    raise DownloadError("the file is too large", where=url, found=f"more than {most_bytes:,} bytes")
                file.write(block)
        return size is None or got == size


def _note_version(known: Path, headers: http.client.HTTPMessage) -> None:
    tag = headers.get("ETag", "")
    # Only a strong tag tells that each byte is the same.
    version = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    if version:
        known.write_text(version, encoding="ascii", errors="replace")
    else:
        known.unlink(missing_ok=True)


def check_room(folder: Path, needed: int) -> None:
    """Make sure that a file fits onto the disk before it is begun.

    Raises
    ------
    OutputError
        If it does not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            "there is no room for the file",
            where=folder,
            found=f"{free:,} bytes are free",
            expected=f"{needed:,} bytes",
            fix="make room, or choose another folder",
        )


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := answer.read(BLOCK):
        yield block
