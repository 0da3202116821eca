"""Buckets and web servers: fetched once, again when changed, used offline, and clear when it fails."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cytomask.errors import ConfigError, DataError, DownloadError, OutputError
from cytomask.storage import downloads, remote, systems
from cytomask.storage.remote import is_remote, kept_at, local_file, local_folder
from cytomask.storage.systems import as_url, name_of

from .web_server import WebServer


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOMASK_CACHE", str(tmp_path / "cache"))


def bucket(files: dict[str, bytes], name: str = "data") -> None:
    import s3fs

    system = s3fs.S3FileSystem(skip_instance_cache=True)
    if not system.exists(name):
        system.mkdir(name)
    for key, content in files.items():
        system.pipe_file(f"{name}/{key}", content)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("s3://b/k", True), (Path("s3://b/k"), True), ("HTTPS://a.org/x.tif", True), ("gs://b", True), ("s3:/", False),
        ("data/images", False), ("C:\\data", False), ("ftp://a/b", False), ("s3", False), ("file:///etc/passwd", False),
    ],
)  # fmt: skip
def test_what_is_remote(text: str | Path, answer: bool) -> None:
    assert is_remote(text) == answer


def test_addresses() -> None:
    assert as_url(Path("https://a.org/x/y.tif")) == "https://a.org/x/y.tif"
    assert as_url("S3://Bucket/Key/") == "s3://Bucket/Key"
    assert name_of("https://a.org/record/1/files/a%20b.zip?download=1") == "a b.zip"
    assert kept_at("https://a.org/x?id=1") != kept_at("https://a.org/x?id=2")
    assert kept_at("https://a.org/a%2Fb").parent.parent.name == "remote"
    with pytest.raises(ConfigError, match="no address"):
        as_url("data")


def test_a_file_of_a_web_server_is_fetched_once(web: WebServer) -> None:
    web.files["x/a.tif"] = b"one"
    path = local_file(web.url("x/a.tif"))
    assert (path.name, path.read_bytes()) == ("a.tif", b"one")
    assert local_file(Path(web.url("x/a.tif"))) == path
    assert web.fetched() == ["x/a.tif"]


def test_a_changed_file_is_fetched_anew(web: WebServer) -> None:
    web.files["a.tif"] = b"one"
    local_file(web.url("a.tif"))
    web.files["a.tif"] = b"two"
    assert local_file(web.url("a.tif")).read_bytes() == b"two"


def test_what_was_damaged_here_is_fetched_anew(web: WebServer) -> None:
    web.files["a.tif"] = b"whole"
    local_file(web.url("a.tif")).write_bytes(b"cut")
    assert local_file(web.url("a.tif")).read_bytes() == b"whole"


def test_a_server_without_heads_or_versions(web: WebServer) -> None:
    web.heads = web.tags = False
    web.files["a.tif"] = b"one"
    assert local_file(web.url("a.tif")).read_bytes() == b"one"
    web.files["a.tif"] = b"other"
    assert local_file(web.url("a.tif")).read_bytes() == b"other"


def test_offline_the_copy_serves(web: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    web.files["a.tif"] = b"one"
    path = local_file(web.url("a.tif"))
    web.failures = [503] * 10
    assert local_file(web.url("a.tif")) == path
    web.shutdown()
    web.server_close()
    assert local_file(web.url("a.tif")).read_bytes() == b"one"
    assert capsys.readouterr().err.count("warning: ") == 2
    with pytest.raises(DownloadError, match="cannot be reached"):
        local_file(web.url("b.tif"))


def test_a_file_that_has_gone_is_told_in_spite_of_the_copy(web: WebServer) -> None:
    web.files["a.tif"] = b"one"
    local_file(web.url("a.tif"))
    del web.files["a.tif"]
    with pytest.raises(DownloadError, match="no such file"):
        local_file(web.url("a.tif"))
    web.failures = [403, 403]
    with pytest.raises(DownloadError, match="403"):
        local_file(web.url("a.tif"))


def test_passing_trouble_is_waited_out(web: WebServer) -> None:
    web.files["a.tif"] = b"one"
    web.failures = [500, 503, 429]
    assert local_file(web.url("a.tif")).read_bytes() == b"one"


def test_a_download_goes_on_with_the_same_version_only(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "BLOCK", 1000)
    first, second = b"a" * 9000, b"b" * 9000
    web.files["a.tif"] = first
    web.cuts = [4000, 0]
    with pytest.raises(DownloadError, match="goes on"):
        local_file(web.url("a.tif"))
    place = kept_at(web.url("a.tif"))
    assert not place.exists()
    assert place.with_name("a.tif.part").read_bytes() == first[:4000]
    web.files["a.tif"] = second
    assert local_file(web.url("a.tif")).read_bytes() == second
    web.files["a.tif"] = first
    web.cuts = [4000, 0]
    with pytest.raises(DownloadError):
        local_file(web.url("a.tif"))
    web.asked.clear()
    assert local_file(web.url("a.tif")).read_bytes() == first
    assert web.asked[-1][2] == "bytes=4000-"


def test_a_full_disk(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["a.tif"] = b"a" * 9000

    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    real = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return Full() if self.suffix == ".part" and mode in ("wb", "ab") else real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OutputError, match="the disk is full"):
        local_file(web.url("a.tif"))
    monkeypatch.undo()


@pytest.mark.parametrize("length", [10, 5000])
def test_long_names(length: int) -> None:
    place = kept_at(f"https://a.org/{'ä' * length}.tif?x=1")
    assert place.suffix == ".tif"
    assert len(place.name.encode()) <= 200


def test_a_full_disk_while_a_folder_is_fetched(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket({f"set/{k}": v for k, v in FILES.items()})
    real = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if self.name == "b.tif.part":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(OutputError, match="the disk is full"):
            local_folder("s3://data/set")
    assert not (kept_at("s3://data/set") / "images" / "b.tif").exists()
    assert tree(local_folder("s3://data/set")) == FILES


def test_no_room(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["a.tif"] = b"a" * 9000
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 8999})())
    with pytest.raises(OutputError, match="no room"):
        local_file(web.url("a.tif"))


def test_a_web_server_lists_nothing(web: WebServer) -> None:
    with pytest.raises(DownloadError, match=r"does not tell[\s\S]*zip or tar"):
        local_folder(web.url("images/"))


FILES = {"images/a.tif": b"a", "images/b.tif": b"b", "labels/a.tif": b"", "note.txt": b"text"}


def test_a_folder_of_a_bucket(s3: str) -> None:
    bucket({**FILES, "images/": b"", "elsewhere.txt": b"x"} | {f"set/{k}": v for k, v in FILES.items()})
    folder = local_folder("s3://data/set/")
    assert folder.name == "set"
    assert tree(folder) == FILES
    # What is another folder's name continued is not in it.
    bucket({"settled/x.txt": b"x"})
    assert tree(local_folder("s3://data/set")) == FILES


def test_only_what_is_new_is_fetched(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket({f"set/{k}": v for k, v in FILES.items()})
    fetched: list[str] = []
    real = remote._fetch
    monkeypatch.setattr(remote, "_fetch", lambda url, *rest: (fetched.append(url), real(url, *rest)))
    local_folder("s3://data/set")
    assert len(fetched) == 4
    fetched.clear()
    assert tree(local_folder("s3://data/set")) == FILES
    assert fetched == []
    bucket({"set/images/a.tif": b"A"})
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).rm_file("data/set/note.txt")
    found = tree(local_folder("s3://data/set"))
    assert fetched == ["s3://data/set/images/a.tif"]
    assert found == {**{k: v for k, v in FILES.items() if k != "note.txt"}, "images/a.tif": b"A"}


def test_only_some_files(s3: str) -> None:
    bucket(FILES)
    folder = local_folder("s3://data", lambda name: name.startswith("images/"))
    assert set(tree(folder)) == {"images/a.tif", "images/b.tif"}
    with pytest.raises(DownloadError, match="nothing that is asked for"):
        local_folder("s3://data", lambda name: name.endswith(".png"))


def test_a_file_of_a_bucket(s3: str) -> None:
    bucket({"deep/a.ome.tif": b"x" * 3_000_000})
    assert local_file("s3://data/deep/a.ome.tif").read_bytes() == b"x" * 3_000_000
    with pytest.raises(DownloadError, match="no such file"):
        local_file("s3://data/deep/none.tif")
    with pytest.raises(DownloadError, match="no such file"):
        local_file("s3://data/deep")


def test_a_download_from_a_bucket_goes_on(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket({"a.bin": b"0123456789"})
    place = kept_at("s3://data/a.bin")
    place.parent.mkdir(parents=True)
    place.with_name("a.bin.part").write_bytes(b"0123")
    version = systems.stat("s3://data/a.bin")
    assert version is not None
    place.with_name("a.bin.part.of").write_text(version.version)
    starts: list[int] = []
    real = systems.read_blocks
    monkeypatch.setattr(systems, "read_blocks", lambda url, start: (starts.append(start), real(url, start))[1])
    assert local_file("s3://data/a.bin").read_bytes() == b"0123456789"
    assert starts == [4]
    bucket({"a.bin": b"abcdefghij"})
    place.with_name("a.bin.part").write_bytes(b"0123")
    place.with_name("a.bin.part.of").write_text(version.version)
    assert local_file("s3://data/a.bin").read_bytes() == b"abcdefghij"


def test_a_bucket_that_is_missing(s3: str) -> None:
    for ask in (lambda: local_file("s3://nowhere/a"), lambda: local_folder("s3://nowhere/a")):
        with pytest.raises(DownloadError, match=r"nothing|no such"):
            ask()


@pytest.mark.parametrize("names", [["../a.txt"], ["x/../../a.txt"], ["a//b.txt"], ["A.txt", "a.txt"], ["a", "a/b"]])
def test_names_that_must_not_be(names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: systems.RemoteFile(1, "v") for name in names}
    monkeypatch.setattr(systems, "list_files", lambda _: files)
    with pytest.raises(DataError):
        local_folder("s3://data/set")
    assert not list(tmp_path.rglob("*.txt"))


class Faulty(ThreadingHTTPServer):
    """Answers everything with one status, as an S3 in trouble does."""

    status = 500


class FaultyHandler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        codes = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}
        status = self.server.status  # type: ignore[attr-defined]
        body = f"<?xml version='1.0'?><Error><Code>{codes[status]}</Code><Message>told</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with Faulty(("127.0.0.1", 0), FaultyHandler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_bucket_in_trouble(s3: str, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket({"set/a.txt": b"a", "set/b.txt": b"b"})

    def only_a(name: str) -> bool:
        return name == "a.txt"

    folder = local_folder("s3://data/set", only_a)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{faulty.server_address[1]}")
    # What was fetched serves, but not as more than it is.
    assert tree(local_folder("s3://data/set", only_a)) == {"a.txt": b"a"}
    with pytest.raises(DownloadError, match=r"in trouble[\s\S]*1 of 2 files"):
        local_folder("s3://data/set")
    with pytest.raises(DownloadError, match=r"in trouble[\s\S]*what has arrived stays"):
        local_folder("s3://data/other")
    assert tree(folder) == {"a.txt": b"a"}
    faulty.status = 403
    with pytest.raises(DownloadError, match=r"may not be read[\s\S]*credentials"):
        local_folder("s3://data/set")


@pytest.mark.parametrize("before", [False, True])
def test_trouble_midway_gives_no_half_folder(s3: str, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    bucket({f"set/{k}": v for k, v in FILES.items()})
    if before:
        # Old and new files together are no data set either.
        local_folder("s3://data/set")
        bucket({f"set/{k}": v + b" anew" for k, v in FILES.items()})
    real = systems.read_blocks

    def broken(url: str, start: int = 0) -> Iterator[bytes]:
        if url.endswith("b.tif"):
            raise systems.Unreachable("the bucket cannot be reached, or is in trouble", where=url, found="500")
        return real(url, start)

    with monkeypatch.context() as patch:
        patch.setattr(systems, "read_blocks", broken)
        for _ in range(2):
            with pytest.raises(DownloadError, match="in trouble"):
                local_folder("s3://data/set")
    expected = {k: v + b" anew" for k, v in FILES.items()} if before else FILES
    assert tree(local_folder("s3://data/set")) == expected


def test_without_credentials_everybody_s_leave_is_used(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket({"a.txt": b"a", "b.txt": b"b"}, "open")
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).chmod("open/a.txt", "public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert local_file("s3://open/a.txt").read_bytes() == b"a"
    with pytest.raises(DownloadError, match="without any"):
        local_file("s3://open/b.txt")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(scheme: str, **_: object) -> None:
        raise ImportError(f"Please install the package for {scheme}")

    monkeypatch.setattr("fsspec.filesystem", missing)
    monkeypatch.setenv("AWS_PROFILE", "no-such-one")
    with pytest.raises(ConfigError, match="pip install gcsfs"):
        local_file("gs://bucket/a.tif")
    with pytest.raises(ConfigError, match=r'pip install "cytomask\[remote\]"'):
        local_folder("s3://bucket/a")
