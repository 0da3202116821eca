"""Archives: whole or not at all, nothing outside the folder, no bombs."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytomask.errors import DataError, OutputError
from cytomask.storage import unpacking
from cytomask.storage.names import check_distinct, check_name
from cytomask.storage.unpacking import is_archive, unpack

FILES = {"a/b.txt": b"one", "a/c/d.tif": b"\0" * 5000, "e.txt": b""}


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(path: Path, says: str) -> None:
    """It is refused, and leaves nothing behind, here or elsewhere."""
    before = set(path.parent.rglob("*"))
    with pytest.raises(DataError, match=says):
        unpack(path, path.parent / "out")
    assert set(path.parent.rglob("*")) == before


WRITERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "x.zip": write_zip,
    "x.tar": write_tar,
    "x.tar.gz": lambda path, files: write_tar(path, files, "w:gz"),
    "x.tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
    "x.tar.bz2": lambda path, files: write_tar(path, files, "w:bz2"),
}


@pytest.fixture(params=list(WRITERS))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    return lambda files: WRITERS[request.param](tmp_path / request.param, files)


def test_there_and_back(made: Callable[[dict[str, bytes]], Path], tmp_path: Path) -> None:
    path = made(FILES)
    assert is_archive(path)
    assert unpack(path, tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert tree(tmp_path / "new" / "out") == FILES
    with pytest.raises(OutputError, match="would mix"):
        unpack(path, tmp_path / "new" / "out")


def test_the_only_folder_is_lifted(made: Callable[[dict[str, bytes]], Path], tmp_path: Path) -> None:
    path = made({"top/top/x.txt": b"x", "top/y.txt": b"y", "__MACOSX/top/._y.txt": b"", "top/.DS_Store": b""})
    assert tree(unpack(path, tmp_path / "out", lift=True)) == {"top/x.txt": b"x", "y.txt": b"y"}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_two_folders_are_not_lifted(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", FILES)
    assert tree(unpack(path, tmp_path / "out", lift=True)) == FILES


def test_empty_folders_stay(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a/masks/": b"", "a/images/x.png": b"x"})
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "masks").is_dir()


@pytest.mark.parametrize("name", ["../x.txt", "a/../../x.txt", "/tmp/x.txt", "C:/x.txt", "a\\..\\x.txt", "a//x.txt"])
def test_names_that_lead_out(made: Callable[[dict[str, bytes]], Path], name: str) -> None:
    refused(made({"good.txt": b"x", name: b"x"}), "leads out|empty part|broken")


@pytest.mark.parametrize("names", [("a.txt", "A.txt"), ("a", "a/b.txt"), ("a/b.txt", "a")])
def test_names_that_clash(made: Callable[[dict[str, bytes]], Path], names: tuple[str, str]) -> None:
    refused(made(dict.fromkeys(names, b"x")), "case|folder")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "one")
        archive.writestr("a.txt", "two")
    refused(tmp_path / "x.zip", "same name")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for content in (b"one", b"two"):
            info = tarfile.TarInfo("a.txt")
            info.size = 3
            tar.addfile(info, io.BytesIO(content))
    refused(tmp_path / "x.tar", "same name")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_tar(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a")
        info.type, info.linkname = kind, "../secret"
        archive.addfile(info)
    refused(tmp_path / "x.tar", "holds a (link|device)")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR])
def test_links_and_devices_of_zip(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "../secret")
    refused(tmp_path / "x.zip", "holds a (link|device)")


def test_an_encrypted_file(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.txt": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "RATIO_FROM", 100_000)
    zeros = {"a.bin": bytes(2_000_000)}
    for name in ("x.zip", "x.tar.gz", "x.tar.xz"):
        refused(WRITERS[name](tmp_path / name, zeros), "far more")
    monkeypatch.setattr(unpacking, "MOST_FILES", 3)
    refused(write_zip(tmp_path / "y.zip", {f"{k}.txt": b"" for k in range(4)}), "too many files")
    monkeypatch.setattr(unpacking, "MOST_BYTES", 1000)
    refused(write_tar(tmp_path / "y.tar", {"a": bytes(1001)}), "far more")


def test_a_header_that_claims_to_be_huge(tmp_path: Path) -> None:
    info = tarfile.TarInfo("PaxHeaders/a")
    info.type, info.size = tarfile.XHDTYPE, 200 * 2**20
    with gzip.open(tmp_path / "x.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf() + bytes(2**20))
    refused(tmp_path / "x.tar.gz", "claims to have 209,715,")


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "x.zip", FILES)
    monkeypatch.setattr(unpacking, "check_room", lambda _, needed: (_ for _ in ()).throw(OutputError(f"{needed}")))
    with pytest.raises(OutputError, match="5003"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_size_that_lies(tmp_path: Path) -> None:
    """The directory says 10 bytes; the file has a million: no more than 10 are unpacked, and the checksum is wrong."""
    path = write_zip(tmp_path / "x.zip", {"a.bin": bytes(1_000_000)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, "broken")


@pytest.mark.parametrize("name", list(WRITERS))
def test_broken_archives(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / name, {"a/b.bin": bytes(range(256)) * 500, "c.bin": b"x" * 3000})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    refused(path, "broken")
    path.write_bytes(b"")
    refused(path, "broken")
    path.write_bytes(b"<html>not found</html>")
    refused(path, "broken")


def test_an_unknown_compression(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.txt": b"x"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = 97
    data[8] = 97
    path.write_bytes(data)
    refused(path, "cannot be unpacked")


def test_an_xz_that_is_cut(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "x.tar", {"a": bytes(range(256)) * 4000}).read_bytes()
    path = tmp_path / "y.tar.xz"
    path.write_bytes(lzma.compress(inner)[:-40])
    with pytest.raises(DataError, match="broken"):
        unpack(path, tmp_path / "out")


def test_a_full_disk(made: Callable[[dict[str, bytes]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(FILES)
    real = unpacking._write

    def write(source: Any, target: Path) -> None:
        if target.name == "d.tif":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(unpacking, "_write", write)
    with pytest.raises(OutputError, match="No space left"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@given(st.text("ab./\\:\0C", max_size=8))
def test_a_name_that_passes_stays_below(name: str) -> None:
    try:
        check_name(name, "x")
    except DataError:
        return
    folder = Path("/somewhere/deep")
    assert (folder / name).resolve().is_relative_to(folder)
    assert (folder / name).resolve() != folder


def test_names_that_differ() -> None:
    check_distinct(["a/b", "a/c", "b"], "x")
    with pytest.raises(DataError, match="file's and a folder's"):
        check_distinct(["A/b", "a"], "x")
