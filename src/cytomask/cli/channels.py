"""Channels as people write them on the command line."""

from __future__ import annotations


def read_channels(text: str | None) -> list[str | int] | None:
    """Understand a list of channels, names or numbers with commas between; None stays None.

    Examples
    --------
    >>> read_channels("DAPI, 2")
    ['DAPI', 2]
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [int(part) if part.isdigit() else part for part in parts]
