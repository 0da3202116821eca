"""Files and folders in buckets and on web servers, as files and folders here.

What is used is kept in the cache (:func:`~cytomask.storage.downloads.cache_folder`), one place for each address. Each
time, the other side is asked whether it still has the same; what has changed is fetched anew, and without a connection
what is there serves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from cytomask.errors import DataError, DownloadError
from cytomask.output import output_folder, replacing
from cytomask.progress import say, track, warn
from cytomask.storage import systems
from cytomask.storage.downloads import BLOCK, cache_folder, check_room, download, not_written, remove_part
from cytomask.storage.file_lock import locked
from cytomask.storage.names import check_distinct, check_name, is_junk
from cytomask.storage.systems import RemoteFile, Unreachable, as_url, is_remote, lists, name_of

__all__ = ["MOST_FILES", "is_remote", "kept_at", "local_file", "local_folder"]

#: No folder holds more files, and no file more bytes.
MOST_FILES, MOST_BYTES = 500_000, 2**40
#: Files that are fetched side by side.
_THREADS = 8


def kept_at(url: str | Path) -> Path:
    """Where in the cache an address has its place; it keeps its name, so that suffixes stay.

    Examples
    --------
    >>> kept_at("s3://bucket/data/").name, kept_at("https://a.org/b.zip?download=1").name
    ('data', 'b.zip')
    """
    url = as_url(url)
    digest = hashlib.sha256(url.encode()).hexdigest()[:20]
    name = name_of(url).replace("\\", "_").replace("\0", "_")
    # File systems hold names of 255 bytes, and a part's is longer.
    while len(name.encode("utf-8", "replace")) > 200:
        name = name[1:]
    return cache_folder() / "remote" / digest / (name if name not in ("", ".", "..") else "file")


@dataclass
class _Known:
    """What is known of the files that were fetched to one place: a line for each, the last one counts."""

    path: Path
    url: str
    files: dict[str, RemoteFile] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def read(cls, place: Path, url: str) -> _Known:
        known = cls(place.parent / "fetched.jsonl", url)
        if known.path.is_file():
            for line in known.path.read_text(encoding="utf-8").splitlines():
                # The last line may have been broken off.
                with suppress(ValueError, KeyError, TypeError):
                    one = json.loads(line)
                    known.files[one["name"]] = RemoteFile(one["size"], one["version"])
        return known

    def add(self, name: str, file: RemoteFile) -> None:
        line = json.dumps({"name": name, "size": file.size, "version": file.version, "url": self.url})
        with self._lock, self.path.open("a", encoding="utf-8") as lines:
            self.files[name] = file
            lines.write(f"\n{line}" if lines.tell() else line)

    def has(self, name: str, path: Path, file: RemoteFile) -> bool:
        """Whether the file is here as it is there."""
        known = self.files.get(name)
        if known is None or not path.is_file():
            return False
        told = known.size is None or path.stat().st_size == known.size
        return told and known == file and (bool(file.version) or file.size is not None)


def local_file(url: str | Path) -> Path:
    """Give the path of a copy of a file that lies in a bucket or on a web server.

    Parameters
    ----------
    url
        Such as ``s3://bucket/a.tif`` or ``https://host/a.tif``.

    Returns
    -------
    Path
        A file in the cache, whole, of the address's name.

    Raises
    ------
    DownloadError
        If there is none, it may not be read, or it cannot be fetched and was never fetched before.
    OutputError
        If the cache cannot be written, or the disk is full.
    ConfigError
        If a package is missing.
    """
    url = as_url(url)
    place = kept_at(url)
    with locked(output_folder(place.parent) / "lock"):
        known = _Known.read(place, url)
        try:
            found = systems.stat(url)
            if found is None:
                raise DownloadError(
                    "there is no such file", where=url,
                    fix="check the address" + ("; a bucket's folder is named as a folder" if lists(url) else ""),
                )  # fmt: skip
            if not known.has("", place, found):
                _fetch(url, place, found)
                # A server that tells no size is believed to have sent all.
                known.add("", RemoteFile(found.size, found.version))
        except Unreachable as error:
            if "" not in known.files or not place.is_file():
                raise
            warn(f"{url} cannot be reached; the copy that was fetched before is used ({error.found})")
    return place


def local_folder(url: str | Path, pick: Callable[[str], bool] | None = None) -> Path:
    """Give the path of a copy of a bucket's folder.

    Parameters
    ----------
    url
        Such as ``s3://bucket/data``.
    pick
        Which files are wanted, by their names relative to the folder; all if None.

    Returns
    -------
    Path
        A folder in the cache with these files, and those that were fetched for it before and are still there.

    Raises
    ------
    DownloadError
        As :func:`local_file`; or if the address is a web server's, which lists nothing.
    DataError
        If names in it lead out of the folder, or are the same but for case.
    """
    url = as_url(url)
    if not lists(url):
        raise DownloadError(
            "a web server does not tell what a folder holds", where=url,
            expected="a file: an image, a dataset.yaml that lists pairs, or a zip or tar of the folder",
        )  # fmt: skip
    place = kept_at(url)
    with locked(output_folder(place.parent) / "lock"):
        known = _Known.read(place, url)
        listing = place.parent / "listing.json"
        try:
            files = _checked(systems.list_files(url), url)
            _keep_listing(listing, files)
            wanted = {name: file for name, file in files.items() if pick is None or pick(name)}
            if not wanted:
                raise DownloadError(
                    "there is nothing at this address" if not files else "nothing that is asked for is at this address",
                    where=url, found=f"{len(files)} other files" if files else None, fix="check the address",
                )  # fmt: skip
            output_folder(place)
            _remove_old(place, known, files)
            _fetch_all(url, place, known, wanted)
        except Unreachable as error:
            # Half a folder, or old and new files together, would pass for the whole.
            last = _kept_listing(listing)
            wanted = {name: file for name, file in last.items() if pick is None or pick(name)}
            here = sum(known.has(name, place / name, file) for name, file in wanted.items())
            if here < len(wanted) or not wanted:
                told = f"; {here} of {len(wanted)} files are here as they were there" if wanted else ""
                raise Unreachable(
                    error.what, where=error.where, found=f"{error.found}{told}", expected=error.expected, fix=error.fix
                ) from error
            warn(f"{url} cannot be reached; the copy that was fetched before is used ({error.found})")
    return place


def _keep_listing(path: Path, files: dict[str, RemoteFile]) -> None:
    with replacing(path) as temporary:
        rows = [[name, file.size, file.version] for name, file in files.items()]
        temporary.write_text(json.dumps(rows), encoding="utf-8")


def _kept_listing(path: Path) -> dict[str, RemoteFile]:
    """What the folder held when the other side was last asked; nothing if that is not known."""
    with suppress(OSError, ValueError, TypeError):
        return {name: RemoteFile(size, version) for name, size, version in json.loads(path.read_text(encoding="utf-8"))}
    return {}


def _checked(files: dict[str, RemoteFile], url: str) -> dict[str, RemoteFile]:
    if len(files) > MOST_FILES:
        raise DataError(
            "the folder holds too many files", where=url, found=f"{len(files):,}", expected=f"at most {MOST_FILES:,}"
        )
    for name in files:
        check_name(name, url)
    check_distinct(files, url)
    return {name: file for name, file in files.items() if not is_junk(name)}


def _remove_old(place: Path, known: _Known, files: Iterable[str]) -> None:
    """Remove what was fetched once and is no longer there."""
    still = set(files)
    for name in known.files:
        # The address may have been a file's, too: that one has no name in the folder.
        if name and name not in still:
            with suppress(OSError):
                (place / check_name(name, place)).unlink(missing_ok=True)


def _fetch_all(url: str, place: Path, known: _Known, wanted: dict[str, RemoteFile]) -> None:
    missing = {name: file for name, file in wanted.items() if not known.has(name, place / name, file)}
    if not missing:
        return
    size = sum(file.size or 0 for file in missing.values())
    say(f"fetching {len(missing)} of {len(wanted)} files of {url} ({size / 2**20:.1f} MB) to {place}")
    check_room(place, size)

    def fetch(item: tuple[str, RemoteFile]) -> None:
        name, file = item
        output_folder((place / name).parent)
        _fetch(f"{url}/{name}", place / name, file)
        known.add(name, file)

    pool = ThreadPoolExecutor(_THREADS)
    try:
        for _ in track(pool.map(fetch, missing.items()), "fetching files", total=len(missing)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch(url: str, path: Path, file: RemoteFile) -> None:
    """Fetch one file, going on where it broke off if it is still the same."""
    if (file.size or 0) > MOST_BYTES:
        raise DownloadError("the file is too large", where=url, found=f"{file.size:,} bytes")
    part = path.with_name(f"{path.name}.part")
    if lists(url):
        _fetch_from_bucket(url, path, part, file)
    else:
        say(f"downloading {url}")
        if not file.version:
            remove_part(part)  # nobody knows whether it is of the same file
        download(url, path, part, MOST_BYTES)
    part.replace(path)
    remove_part(part)


def _fetch_from_bucket(url: str, path: Path, part: Path, file: RemoteFile) -> None:
    of = part.with_name(f"{part.name}.of")
    try:
        if not part.is_file() or not of.is_file() or of.read_text(encoding="utf-8") != file.version:
            part.unlink(missing_ok=True)
            of.write_text(file.version, encoding="utf-8")
        had = part.stat().st_size if part.is_file() else 0
        if file.size is not None and had > file.size:
            part.unlink()
            had = 0
        check_room(part.parent, (file.size or 0) - had)
        large = (file.size or 0) > 64 * 2**20
        blocks = systems.read_blocks(url, had) if file.size != had else iter(())
        shown = track(blocks, f"fetching {path.name}", -(-(file.size or 0) // (8 * BLOCK))) if large else blocks
        with part.open("ab") as target:
            for block in shown:
                target.write(block)
        got = part.stat().st_size
    except OSError as error:
        raise not_written(part, error) from error
    if file.size is not None and got != file.size:
        remove_part(part)
        raise DownloadError(
            "the file changed while it was fetched", where=url, found=f"{got:,} bytes", expected=f"{file.size:,} bytes",
            fix="try again",
        )  # fmt: skip
