"""The tables of a run of ours: ``metrics.csv`` with a row for each epoch, ``steps.csv`` with one for each ten steps."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping

from cytomask.formats.training_logs.log import Detail, Group, TrainingLog

EPOCHS, STEPS = "metrics.csv", "steps.csv"
_NAMES: dict[str, tuple[str, Group]] = {
    "learning_rate": ("learning_rate", "learning rate"),
    "learning_rate_first_layers": ("learning_rate_first_layers", "learning rate"),
    "memory_mb": ("memory", "memory"),
    "seconds_per_step": ("seconds_per_step", "time"),
    "seconds_waiting": ("seconds_waiting", "time"),
}


def read_step_table(lines: Iterable[str], log: TrainingLog) -> None:
    """Put the rows of ``steps.csv`` into a log.

    Examples
    --------
    >>> from pathlib import Path
    >>> log = TrainingLog("a", Path("a"), "cytomask")
    >>> read_step_table(["step,epoch,learning_rate,train/loss", "10,0,0.01,2.5", "20,0,0.0"], log)
    >>> log.series["train/loss"].values, log.unread
    ([2.5], 1)
    """
    for row in _rows(lines, log):
        _take(row, row["step"], log, "step", known=())


def read_epoch_table(lines: Iterable[str], log: TrainingLog) -> None:
    """Put the rows of ``metrics.csv`` into a log; what its steps tell already is left out.

    Without a table of steps, the time for a step is that of its epoch, with validation, by the number of steps.

    Examples
    --------
    >>> from pathlib import Path
    >>> log = TrainingLog("a", Path("a"), "cytomask")
    >>> read_epoch_table(["epoch,step,train/loss,val/loss,val/score,seconds", "0,50,2.5,2,0.4,10", "1,100,2,,,10"], log)
    >>> log.epoch_steps, log.series["val/score"].steps, log.series["seconds_per_step"].values
    ([50.0, 100.0], [50.0], [0.2, 0.2])
    """
    known = {name for name, series in log.series.items() if series.steps}
    before, phase = 0.0, math.nan
    for row in _rows(lines, log):
        # Tables without steps are counted by epochs.
        step = row.get("step", row.get("epoch", math.nan) + 1)
        if not math.isfinite(step):
            log.unread += 1
            continue
        log.epoch_steps.append(step)
        _take(row, step, log, "epoch", known=known)
        if "seconds" in row and "seconds_per_step" not in known and step > before:
            log.add("seconds_per_step", "time", step, row["seconds"] / (step - before), "epoch")
        if row.get("phase", math.nan) > phase:
            log.phase_starts.append(before)
        before, phase = step, row.get("phase", phase)


def _take(row: Mapping[str, float], step: float, log: TrainingLog, detail: Detail, known: Iterable[str]) -> None:
    trained = {name.removeprefix("train/") for name in (*row, *log.series) if name.startswith("train/")} | {"loss"}
    for name, value in row.items():
        if name in known or _NAMES.get(name, (name,))[0] in known:
            continue
        if name in _NAMES:
            log.add(*_NAMES[name], step, value, detail)
        elif name.startswith("train/"):
            log.add(name, "losses", step, value, detail)
        elif name.startswith("val/"):
            group: Group = "losses" if name.removeprefix("val/") in trained else "validation"
            log.add(name, group, step, value, detail)


def _rows(lines: Iterable[str], log: TrainingLog) -> Iterator[dict[str, float]]:
    """Rows as numbers; cells without one are left out, rows that broke off are counted as unread."""
    reader = csv.reader(lines)
    try:
        head = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            row = {name: value for name, text in zip(head, cells) if (value := _number(text)) is not None}
            if len(cells) != len(head) or not ("step" in row or "epoch" in row):
                log.unread += 1
                continue
            yield row
    except csv.Error:
        log.unread += 1


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
