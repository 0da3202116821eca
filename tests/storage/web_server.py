"""A web server for tests: with files, breaks, faults, and versions of files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class WebServer(ThreadingHTTPServer):
    """Serves ``files`` by path.

    ``failures`` are statuses to answer with first; ``cuts`` after how many bytes to break off; without ``ranges`` it
    always sends all; without ``tags`` it tells no version; without ``heads`` it answers no HEAD.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.failures: list[int] = []
        self.cuts: list[int] = []
        self.ranges = self.tags = self.heads = True
        self.asked: list[tuple[str, str, str | None]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def fetched(self) -> list[str]:
        """What was fetched, not only asked about."""
        return [path for method, path, _ in self.asked if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        server, name = self.server, unquote(urlsplit(self.path).path).lstrip("/")
        server.asked.append((self.command, name, self.headers.get("Range")))
        if server.failures:
            self.send_error(server.failures.pop(0))
            return
        if not body and not server.heads:
            self.send_error(405)
            return
        if name not in server.files:
            self.send_error(404)
            return
        content = server.files[name]
        tag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        asked = self.headers.get("Range") if server.ranges else None
        if asked and self.headers.get("If-Range", tag) != tag:
            asked = None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            cut = server.cuts.pop(0) if server.cuts else len(content)
            self.wfile.write(content[start : start + cut])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[WebServer]:
    with WebServer() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()
