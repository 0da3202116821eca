"""What a tracker does; MLflow, ClearML and Weights & Biases each have theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from cytomask.tracking.flat import Flat

#: How a stage ended.
Status = Literal["finished", "failed", "killed"]


class Tracker(Protocol):
    """Keeps a record of a run somewhere else.

    Any method may raise anything, such as when its server is away:
    :class:`~cytomask.tracking.trackers.Trackers` sees to that.
    """

    def settings(self, values: Mapping[str, Flat]) -> None:
        """Record settings by their dotted names."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record words by which runs are found."""

    def metrics(self, stage: str, values: Mapping[str, float], step: int | None) -> None:
        """Record finite figures; without a step, they are results of the run as a whole."""

    def picture(self, name: str, path: Path) -> None:
        """Record a picture."""

    def file(self, name: str, path: Path) -> None:
        """Record a file, or a folder with all that is in it."""

    def close(self, status: Status) -> None:
        """Send what is left, and say how the stage ended."""

    def record(self) -> dict[str, Any]:
        """What another process needs in order to go on with the same run."""
