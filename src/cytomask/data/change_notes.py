"""Notes of what chance did to a training item, for pictures of the augmentation; in training nobody listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NOTES: ContextVar[list[str] | None] = ContextVar("_NOTES", default=None)


@contextmanager
def changes_noted() -> Iterator[list[str]]:
    """Collect what is noted while the block runs, in this thread.

    Examples
    --------
    >>> with changes_noted() as notes:
    ...     note_change("zoom {:.2f}", 1.234)
    >>> notes
    ['zoom 1.23']
    >>> note_change("nobody listens")
    """
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note_change(text: str, *values: object) -> None:
    """Note a change; ``values`` are filled in only if anybody listens, so that training does not pay for the text."""
    notes = _NOTES.get()
    if notes is not None:
        notes.append(text.format(*values))
