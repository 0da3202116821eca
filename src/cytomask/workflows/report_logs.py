"""Report trainings from their logs: pages and plots, for runs of ours and of detectron2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytomask.formats.training_logs import TrainingLog, read_training_log
from cytomask.output import output_folder
from cytomask.reporting.log_curves import distinct_names
from cytomask.reporting.log_page import write_compared_page, write_log_page
from cytomask.reporting.log_plots import write_log_plots

PAGE, COMPARED = "training.html", "comparison.html"


@dataclass(frozen=True)
class LogReport:
    """What was written: a page for each log, the plots, and the page that compares, if there are several logs."""

    pages: list[Path]
    plots: list[Path]
    compared: Path | None

    def lines(self) -> list[str]:
        """The result for people."""
        lines = [f"wrote {page} and its plots" for page in self.pages]
        return [*lines, f"look at {self.compared or self.pages[0]}"]


def report_logs(paths: Sequence[str | Path], out: str | Path, *, command: str | None = None) -> LogReport:
    """Write a folder for each log, with its page and its plots, and a page that compares if there are several.

    All logs are read before anything is written.

    Parameters
    ----------
    paths
        As :func:`~cytomask.formats.training_logs.read_training_log` takes them.
    out
        The folder.
    command
        The command, for the foot of the pages; None for that of this process, if it is ``cytomask``.

    Raises
    ------
    DataError
        If a log cannot be read.
    OutputError
        If a file cannot be written.
    """
    logs = [read_training_log(path) for path in paths]
    folder = output_folder(out)
    pages, plots = [], []
    for log, name in zip(logs, _folder_names(logs)):
        place = output_folder(folder / name)
        plots += write_log_plots(log, place, name)
        pages.append(place / PAGE)
        write_log_page(pages[-1], log, command=command)
    compared = None
    if len(logs) > 1:
        compared = folder / COMPARED
        write_compared_page(compared, logs, command=command)
    return LogReport(pages, plots, compared)


def _folder_names(logs: Sequence[TrainingLog]) -> list[str]:
    """A name for each log that can be one of a folder, and is no other's.

    Examples
    --------
    >>> a, b = (TrainingLog("metrics", Path(f"{place}/metrics.json"), "detectron2 metrics") for place in "ab")
    >>> _folder_names([a, b])
    ['a_metrics', 'b_metrics']
    """
    names: list[str] = []
    for told in distinct_names(logs):
        name = re.sub(r"[^\w.+-]+", "_", told).strip("_.")[:100] or "log"
        k = 2
        unique = name
        while unique.casefold() in {known.casefold() for known in names}:
            unique, k = f"{name}_{k}", k + 1
        names.append(unique)
    return names
