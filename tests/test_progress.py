"""Progress and messages: on stderr, plain lines where there is no terminal, nothing but warnings when quiet."""

from __future__ import annotations

import pytest

from cytomask import progress
from cytomask.progress import say, set_quiet, track, warn


@pytest.mark.parametrize("turn", ["first", "second"])
def test_quiet_ends_with_the_test(turn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The second turn fails where the first one's setting is left behind."""
    say(turn)
    assert capsys.readouterr().err == f"{turn}\n"
    set_quiet(True)


def test_when_quiet_warnings_are_all_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    set_quiet(True)
    say("nothing")
    warn("something")
    said = capsys.readouterr()
    assert said.err == "warning: something\n"
    assert said.out == ""


def test_plain_lines_tell_how_far_a_loop_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    assert list(track("abc", "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == ["reading: 1/3", "reading: 2/3", "reading: 3/3"]
    assert list(track(iter("ab"), "reading")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["reading: 1", "reading: 2"]
    set_quiet(True)
    assert list(track("abc", "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
