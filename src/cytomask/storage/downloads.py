"""Fetch a file once into a folder of the user's: whole and checked, or not at all; an interrupted fetch goes on.

What has arrived is kept beside the target as ``NAME.part`` until the file is whole and its checksum is right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cytomask._version import __version__
from cytomask.errors import DownloadError
from cytomask.output import output_folder
from cytomask.progress import say, track

#: Bytes that are read at a time; progress counts them.
BLOCK = 2**20
#: No file of weights is larger.
MOST_BYTES = 8 * 2**30
#: How often a connection that breaks off is taken up again.
ATTEMPTS = 4
_SECONDS = 60.0


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


def fetch(url: str, target: str | Path, checksum: Checksum) -> Path:
    """Give the path of a file, after downloading it if it is not there yet.

    Parameters
    ----------
    url
        ``http`` or ``https``.
    target
        Where it is kept. A file that is there is only checked.
    checksum
        What it must have.

    Raises
    ------
    DownloadError
        If it cannot be fetched, or is not what it should be. No file is left at ``target`` that is not whole.
    OutputError
        If the folder cannot be written to.
    """
    path = Path(target)
    if path.is_file():
        if checksum.fits(path):
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
    resumed = part.is_file() and part.stat().st_size > 0
    say(f"downloading {url} to {path.parent}" + (" (going on where it broke off)" if resumed else ""))
    _download(url, path, part)
    if resumed and not checksum.fits(part):
        # What was there before may be of another file: once more from the beginning.
        part.unlink()
        _download(url, path, part)
    if not checksum.fits(part):
        found = checksum.of(part)
        part.unlink()
        raise DownloadError(
            "what was downloaded is not what it should be, and was removed",
            where=url,
            found=f"{checksum.kind} {found}",
            expected=checksum,
            fix=_by_hand(url, path),
        )
    part.replace(path)
    return path


def _by_hand(url: str, path: Path) -> str:
    return f"try again later, or download {url} on another machine and put it at {path}"


def _download(url: str, path: Path, part: Path) -> None:
    """Fetch until the part is whole; what has arrived stays if that fails."""
    for attempt in range(1, ATTEMPTS + 1):
        had = part.stat().st_size if part.is_file() else 0
        try:
            if _fetch_rest(url, part, path.name):
                return
            problem: object = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DownloadError(
                    "the server does not give the file", where=url, found=f"{error.code} {error.reason}",
                    fix=_by_hand(url, path),
                ) from error  # fmt: skip
            problem = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = getattr(error, "reason", None) or error
        gained = (part.stat().st_size if part.is_file() else 0) - had
        if attempt == ATTEMPTS or not gained:
            raise DownloadError(
                "the download broke off" if gained or had else "the file cannot be downloaded",
                where=url,
                found=problem,
                expected="a connection to the internet",
                fix=_by_hand(url, path) + ("; a next try goes on where this one ended" if gained or had else ""),
            )


def _fetch_rest(url: str, part: Path, name: str) -> bool:
    """Fetch what the part does not hold yet; tell whether it is whole then."""
    had = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": f"cytomask/{__version__}", "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
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
        return _fetch_rest(url, part, name)
    with answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        begins = f"bytes {had}-"
        if goes_on and not answer.headers.get("Content-Range", "").startswith(begins):
            raise http.client.HTTPException(f"the server answered with {answer.headers.get('Content-Range')}")
        length = answer.headers.get("Content-Length")
        size = int(length) if length is not None and length.isdigit() else None
        start = had if goes_on else 0
        if start + (size or 0) > MOST_BYTES:
            raise DownloadError("the file is too large", where=url, found=f"{start + (size or 0):,} bytes")
        got = 0
        with part.open("ab" if goes_on else "wb") as file:
            blocks = None if size is None else -(-size // BLOCK)
            for block in track(_blocks(answer), f"downloading {name} (MB)", blocks):
                got += len(block)
                if start + got > MOST_BYTES:
                    raise DownloadError("the file is too large", where=url, found=f"more than {MOST_BYTES:,} bytes")
                file.write(block)
        return size is None or got == size


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := answer.read(BLOCK):
        yield block
