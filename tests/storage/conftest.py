"""Servers on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cytomask.storage import downloads

from .web_server import WebServer, serving


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PATIENCE", 0.001)
