"""Findings: what a check of annotated data found, where, how grave it is, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    kind
        Which of the kinds in the table of checks, such as ``"size-mismatch"``.
    severity
        An error makes training fail or lie; a warning probably harms; a note is worth knowing.
    message
        What was found, with its numbers, in one sentence.
    todo
        What to do about it, in one sentence.
    image
        Name of the image in the data set, where it concerns one.
    file
        The file that it is about.
    split
        The image's split.
    objects
        Ids of the objects concerned (the first hundred).
    window
        Where to look, ``(y0, x0, y1, x1)`` in pixels of the image.
    value
        How bad it is: pictures are shown of the largest values of a kind first.
    fix
        What ``--fix`` does about it, in words; None where it does nothing.
    """

    kind: str
    severity: Severity
    message: str
    todo: str
    image: str | None = None
    file: Path | None = None
    split: str | None = None
    objects: tuple[int, ...] = ()
    window: tuple[int, int, int, int] | None = None
    value: float = 0.0
    fix: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.kind, "severity": self.severity, "message": self.message, "todo": self.todo,
            "image": self.image, "file": None if self.file is None else str(self.file), "split": self.split,
            "objects": list(self.objects), "window": None if self.window is None else list(self.window),
            "value": self.value, "fix": self.fix,
        }  # fmt: skip


@dataclass(frozen=True)
class CheckReport:
    """All that a check found.

    Attributes
    ----------
    name, source
        The data set.
    findings
        The gravest first.
    kinds
        Every kind that was looked for and its title, also those of which nothing was found.
    statistics
        Plain numbers and texts for JSON: ``images`` and ``objects`` (per split, under its name; under ``"all"``
        together), ``classes`` (objects per class and split), ``objects_per_image`` (min, median, max),
        ``diameter`` (percentiles p5, p25, p50, p75, p95 in pixels and a histogram: ``edges``, ``counts``),
        ``dtypes``, ``channels``, ``shapes``, ``pixel_size``; ``settings`` (for each model family the ``settings`` that
        fit the objects' sizes, and the ``reasons``).
    """

    name: str
    source: Path
    findings: tuple[Finding, ...]
    kinds: Mapping[str, str]
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """How many findings are that grave."""
        return Counter(f.severity for f in self.findings)[severity]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name, "source": str(self.source),
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "findings": [finding.as_dict() for finding in self.findings],
            "kinds": dict(self.kinds),
            "statistics": dict(self.statistics),
        }  # fmt: skip
