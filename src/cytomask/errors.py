"""Errors for people: what is wrong, where, what was found, what was expected, what to do.

Every error that a user's input can cause is a :class:`CytomaskError`. The command line prints it as one block on
stderr and exits with 2; a traceback is shown only with ``--debug``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class CytomaskError(Exception):
    """Something the user can mend.

    Parameters
    ----------
    what
        One sentence: what is wrong.
    where
        The file, folder or setting that it is about.
    found, expected
        What is there, and what should be there.
    fix
        What to do about it.

    Examples
    --------
    >>> print(CytomaskError("the file is empty", where="a.tif", found="0 bytes", fix="export the image again"))
    the file is empty
      where:    a.tif
      found:    0 bytes
      to do:    export the image again
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        found: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.found, self.expected, self.fix = what, where, found, expected, fix
        parts = [("where:", where), ("found:", found), ("expected:", expected), ("to do:", fix)]
        lines = [what] + [f"  {name:<9} {text}" for name, text in parts if text is not None]
        super().__init__("\n".join(lines))


class ImageError(CytomaskError):
    """An image cannot be read, or is not what the reader needs."""


class LabelError(CytomaskError):
    """An annotation cannot be read, or does not fit its image."""


class DataError(CytomaskError):
    """A data set is incomplete or contradicts itself."""


class ChannelError(CytomaskError):
    """The channels of an image do not fit what is asked of them."""


class ConfigError(CytomaskError):
    """A configuration file or an option has a wrong value."""


class BundleError(CytomaskError):
    """A model bundle is missing, damaged, or from another version."""


class OutputError(CytomaskError):
    """A result cannot be written where it should go."""


class DownloadError(CytomaskError):
    """A file cannot be fetched, or is not what it should be."""


class TrainingError(CytomaskError):
    """Training cannot go on."""


class ClusterError(CytomaskError):
    """Other processes or machines are not there, or do not do what is asked of them."""


def first_problem(error: Any) -> str:
    """Put the first finding of a pydantic ``ValidationError`` into one line: where, what, and the value.

    (Typed loosely, so that this lowest module needs no third-party import.)
    """
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or "(top level)"
    # What our own validators say is marked as a Python exception, which tells users nothing.
    said = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {said} (got {problem.get('input')!r})"
