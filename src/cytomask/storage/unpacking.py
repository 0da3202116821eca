"""Unpack zip and tar archives of others: whole or not at all, and nothing outside the folder.

Refused are names that lead out of the folder, links and devices, names that occur twice, encrypted files, and archives
that unpack to far more than they should.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from cytomask.errors import DataError
from cytomask.output import new_folder
from cytomask.progress import track
from cytomask.storage.downloads import check_room
from cytomask.storage.names import check_distinct, check_name, is_junk

#: What archives may be called.
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
#: No archive holds more files, or unpacks to more bytes.
MOST_FILES, MOST_BYTES = 1_000_000, 512 * 2**30
#: Images pack into a tenth at best: what unpacks to more than 1 GiB and to so many times its size is a bomb.
MOST_RATIO, RATIO_FROM = 200, 2**30
#: Bytes that are read at a time, and at most: longer reads are of headers that lie.
_BLOCK, _LONGEST_READ = 2**20, 64 * 2**20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)


def is_archive(name: str | Path) -> bool:
    """Whether a name is that of an archive that can be unpacked.

    Examples
    --------
    >>> is_archive("data.tar.gz"), is_archive("a.tif")
    (True, False)
    """
    return str(name).lower().endswith(ARCHIVES)


def unpack(archive: str | Path, target: str | Path, *, lift: bool = False) -> Path:
    """Unpack an archive into a new folder.

    Parameters
    ----------
    archive
        A zip, or a tar, also packed with gzip, xz or bzip2; told by its content.
    target
        The folder to make; it must be new or empty.
    lift
        Whether to leave out the folder that all files lie in, if there is one.

    Returns
    -------
    Path
        ``target``. Files that macOS and Windows add to folders are left out.

    Raises
    ------
    DataError
        If the archive is broken, encrypted or too large, or holds what must not be unpacked. Nothing is left then.
    OutputError
        If the folder cannot be written, or the disk is full.
    """
    archive, target = Path(archive), Path(target)
    with new_folder(target) as folder:
        inner = folder / "unpacked"
        inner.mkdir()
        try:
            members = _unzip(archive, inner) if zipfile.is_zipfile(archive) else _untar(archive, inner)
            for _ in track(members, f"unpacking {archive.name}"):
                pass
        except _BROKEN as error:
            raise DataError(
                "the archive is broken", where=archive, found=error or type(error).__name__,
                fix="download or copy it again",
            ) from error  # fmt: skip
        except (RuntimeError, NotImplementedError) as error:
            raise DataError("the archive cannot be unpacked", where=archive, found=error) from error
        top = [p for p in inner.iterdir() if p.is_dir()]
        source = top[0] if lift and len(top) == 1 and len(list(inner.iterdir())) == 1 else inner
        for entry in list(source.iterdir()):
            # Two steps: the folder that is lifted may hold one that is called like it.
            entry.rename(folder / f".{entry.name}.lifted")
        for made in sorted(inner.rglob("*"), reverse=True):
            made.rmdir()
        inner.rmdir()
        for entry in list(folder.iterdir()):
            entry.rename(folder / entry.name.removeprefix(".").removesuffix(".lifted"))
    return target


class _Sum:
    """Counts what has been announced, and refuses too much before it is written."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.packed = archive, archive.stat().st_size
        self.files = self.bytes = 0

    def add(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        if self.files > MOST_FILES:
            raise DataError("the archive holds too many files", where=self.archive, expected=f"at most {MOST_FILES:,}")
        bomb = self.bytes > RATIO_FROM and self.bytes > MOST_RATIO * self.packed
        if self.bytes > MOST_BYTES or bomb:
            raise DataError(
                "the archive unpacks to far more than it should",
                where=self.archive,
                found=f"more than {self.bytes:,} bytes, of a file of {self.packed:,}",
                expected=f"at most {MOST_BYTES:,} bytes, and at most {MOST_RATIO} times the file's size",
                fix="unpack it by hand if you know what it is",
            )


def _unzip(archive: Path, folder: Path) -> Iterator[str]:
    with zipfile.ZipFile(archive) as opened:
        total, members = _Sum(archive), []
        for info in opened.infolist():
            name = check_name(info.filename.removesuffix("/"), archive)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_file(archive, name, "a link" if kind == stat.S_IFLNK else "a device")
            if info.flag_bits & 1:
                raise DataError(
                    "the archive is encrypted", where=archive, found=name, fix="unpack it by hand, with its password"
                )
            if is_junk(name):
                continue
            total.add(info.file_size)
            if info.is_dir():
                _make(folder / name)
            else:
                members.append((name, info))
        check_distinct([name for name, _ in members], archive)
        check_room(folder, total.bytes)
        for name, info in members:
            with opened.open(info) as source:
                _write(source, folder / name)
            yield name


class _Bounded:
    """A file of which no more than some MB are read at once: a header may claim to be as large as memory."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST_READ:
            raise tarfile.ReadError(f"a header claims to have {size:,} bytes")
        data: bytes = self.file.read(size)
        return data

    def seek(self, *args: int) -> int:
        place: int = self.file.seek(*args)
        return place

    def tell(self) -> int:
        place: int = self.file.tell()
        return place


def _untar(archive: Path, folder: Path) -> Iterator[str]:
    with ExitStack() as stack:
        raw = stack.enter_context(archive.open("rb"))
        start = raw.read(6)
        raw.seek(0)
        plain: Any = raw
        if start.startswith(b"\x1f\x8b"):
            plain = stack.enter_context(gzip.open(raw))
        elif start.startswith(b"\xfd7zXZ\0"):
            plain = stack.enter_context(lzma.open(raw))
        elif start.startswith(b"BZh"):
            plain = stack.enter_context(bz2.open(raw))
        bounded: Any = _Bounded(plain)
        opened = stack.enter_context(tarfile.open(fileobj=bounded, mode="r:"))
        total, names = _Sum(archive), list[str]()
        for member in opened:
            name = member.name.removeprefix("./")
            if member.isdir() and name in ("", "."):
                continue
            check_name(name, archive)
            if not (member.isreg() or member.isdir()):
                raise _no_file(archive, name, "a link" if member.issym() or member.islnk() else "a device")
            if is_junk(name):
                continue
            total.add(member.size)
            if member.isdir():
                _make(folder / name)
                continue
            names.append(name)
            if (folder / name).exists():
                check_distinct(names, archive)
            source = opened.extractfile(member)
            assert source is not None
            _write(source, folder / name)
            yield name
        check_distinct(names, archive)


def _no_file(archive: Path, name: str, what: str) -> DataError:
    return DataError(
        f"the archive holds {what}", where=archive, found=name, expected="files and folders alone",
        fix="do not use it: nothing was written",
    )  # fmt: skip


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError("a name in the archive is a file's and a folder's", found=folder.name) from error


def _write(source: IO[bytes], path: Path) -> None:
    _make(path.parent)
    with path.open("xb") as file:
        while block := source.read(_BLOCK):
            file.write(block)
