"""Progress for people: a bar on a terminal, plain lines elsewhere, nothing when quiet.

Everything goes to stderr, so that stdout stays free for results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Literal, TypeVar

T = TypeVar("T")
#: Something that was said: whether it is a warning, and the words.
Said = tuple[Literal["say", "warn"], str]

_quiet = False
#: Where messages go instead of stderr, while somebody listens.
_heard: list[Said] | None = None

#: Seconds between two plain progress lines where there is no terminal.
LINE_EVERY = 10.0


def set_quiet(quiet: bool) -> None:
    """Switch all progress output off or on."""
    global _quiet
    _quiet = quiet


@contextmanager
def listening() -> Iterator[list[Said]]:
    """Collect what is said meanwhile instead of printing it, for people who sit elsewhere; loops show nothing.

    Examples
    --------
    >>> with listening() as said:
    ...     say("3 tiles")
    ...     warn("the last one is cut")
    >>> said
    [('say', '3 tiles'), ('warn', 'the last one is cut')]
    """
    global _heard
    before, _heard = _heard, []
    try:
        yield _heard
    finally:
        _heard = before


def repeat(said: Iterable[Said]) -> None:
    """Say again what was heard elsewhere."""
    for kind, message in said:
        (warn if kind == "warn" else say)(message)


def say(message: str) -> None:
    """Print one line of information on stderr."""
    if _heard is not None:
        _heard.append(("say", message))
    elif not _quiet:
        print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr, also when quiet: it tells of something that may spoil a result."""
    if _heard is not None:
        _heard.append(("warn", message))
        return
    print(f"warning: {message}", file=sys.stderr, flush=True)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show how far the loop is.

    Parameters
    ----------
    items
        What is looped over.
    description
        What is being done, such as ``"predicting"``.
    total
        How many items there are, when ``items`` has no length.

    Examples
    --------
    >>> set_quiet(True)
    >>> sum(track(range(4), "adding"))
    6
    >>> set_quiet(False)
    """
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    if _quiet or _heard is not None or (total is not None and total <= 1):
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, description, total)
    else:
        yield from _lines(items, description, total)


def _bar(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    last = time.monotonic()
    of = f"/{total}" if total is not None else ""
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY:
            print(f"{description}: {done}{of}", file=sys.stderr, flush=True)
            last = now
