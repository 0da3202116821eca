"""Downloads: whole and checked or not at all, taken up where they broke off, and clear when they fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cytomask.errors import DownloadError
from cytomask.storage import downloads
from cytomask.storage.downloads import Checksum, cache_folder, fetch

CONTENT = np.random.default_rng(0).bytes(50_000)
GOOD = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest()[:8])


class Server(ThreadingHTTPServer):
    """Serves ``content`` at /file; ``cut`` breaks off after so many bytes; ``ranges`` off ignores Range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.ranges = CONTENT, list[int](), True
        self.failures: list[int] = []
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.failures:
            self.send_error(self.server.failures.pop(0))
            return
        if self.path != "/file":
            self.send_error(404)
            return
        content = self.server.content
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked and self.server.ranges else 200)
        if asked and self.server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start : start + cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def only(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "weights.pth"
    assert fetch(server.url, target, GOOD) == target
    assert target.read_bytes() == CONTENT
    assert only(target.parent) == ["weights.pth"]
    fetch(server.url, target, GOOD)
    assert server.asked == [None]


def test_a_connection_that_breaks_off_is_taken_up_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "BLOCK", 1000)
    server.cuts = [20_000, 15_000]
    assert fetch(server.url, tmp_path / "w", GOOD).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=20000-", "bytes=35000-"]


def test_what_arrived_is_kept_for_a_next_try(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "BLOCK", 1000)
    server.cuts = [20_000, 0]
    with pytest.raises(DownloadError, match="goes on where this one ended"):
        fetch(server.url, tmp_path / "w", GOOD)
    assert only(tmp_path) == ["w.part"]
    server.cuts = []
    assert fetch(server.url, tmp_path / "w", GOOD).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=20000-"
    assert only(tmp_path) == ["w"]


def test_a_server_that_cannot_go_on_begins_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.part").write_bytes(CONTENT[:7000])
    server.ranges = False
    assert fetch(server.url, tmp_path / "w", GOOD).read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "w", GOOD).read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"x" * 7000, b"x" * len(CONTENT), b"x" * 90_000])
def test_a_part_of_another_file_does_no_harm(server: Server, tmp_path: Path, stale: bytes) -> None:
    (tmp_path / "w.part").write_bytes(stale)
    assert fetch(server.url, tmp_path / "w", GOOD).read_bytes() == CONTENT


def test_the_wrong_content_is_removed(server: Server, tmp_path: Path) -> None:
    server.content = b"something else"
    with pytest.raises(DownloadError, match=r"not what it should be[\s\S]*sha256 "):
        fetch(server.url, tmp_path / "w", GOOD)
    assert only(tmp_path) == []


def test_a_wrong_file_that_is_there_is_told_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="remove it"):
        fetch(server.url, tmp_path / "w", GOOD)
    assert (tmp_path / "w").read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("code", [403, 404])
def test_a_missing_file(server: Server, tmp_path: Path, code: int) -> None:
    server.failures = [code]
    with pytest.raises(DownloadError, match=rf"{code}[\s\S]*put it at"):
        fetch(server.url, tmp_path / "w", GOOD)
    assert only(tmp_path) == []


def test_offline(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(DownloadError, match=r"cannot be downloaded[\s\S]*another machine"):
        fetch(url, tmp_path / "w", GOOD)
    assert only(tmp_path) == []


def test_too_large(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MOST_BYTES", 40_000)
    with pytest.raises(DownloadError, match="too large"):
        fetch(server.url, tmp_path / "w", GOOD)


def test_only_the_web(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(DownloadError, match="only http"):
        fetch((tmp_path / "secret").as_uri(), tmp_path / "w", GOOD)


def test_checksums(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert Checksum("md5", "900150").fits(tmp_path / "f")
    assert Checksum("sha256", "BA7816BF").fits(tmp_path / "f")
    assert not Checksum("md5", "900151").fits(tmp_path / "f")
    assert Checksum("md5", "900150983cd24fb0d6963f7d28e17f72").covers_all


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOMASK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CYTOMASK_CACHE")
    monkeypatch.setattr(downloads.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cytomask"
