"""Find out what kind of log there is, and read it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cytomask.errors import DataError
from cytomask.formats.training_logs.detectron2_json import read_json_lines
from cytomask.formats.training_logs.detectron2_text import read_text_lines
from cytomask.formats.training_logs.log import TrainingLog
from cytomask.formats.training_logs.run_tables import EPOCHS, STEPS, read_epoch_table, read_step_table

#: A log of more bytes is surely something else; a line of more characters is read in pieces.
MAX_BYTES, MAX_LINE = 2**30, 2**20
_JSON, _TEXT = "metrics.json", "log.txt"
_EXPECTED = "the folder of a run, metrics.json or a text log of detectron2"


def read_training_log(path: str | Path) -> TrainingLog:
    r"""Read the log of a training.

    Parameters
    ----------
    path
        The folder of a run of `cytomask train` or `cytomask run`, one of its tables ``metrics.csv`` and ``steps.csv``;
        detectron2's ``metrics.json``, its text log, or its output folder that holds both.

    Returns
    -------
    TrainingLog
        With at least one series or table.

    Raises
    ------
    DataError
        If there is no such file, it is larger than 1 GiB, or nothing in it is a training's record.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "train.log"
    >>> _ = path.write_text("[01/02 10:00:00 d2.utils.events]:  eta: 0:01:02  iter: 19  total_loss: 2.5  lr: 0.001\n")
    >>> log = read_training_log(path)
    >>> log.name, log.kind, log.series["total_loss"].values
    ('train', 'detectron2 log', [2.5])
    """
    path = Path(path)
    if path.is_dir():
        log = _read_folder(path)
    elif path.is_file():
        log = _read_file(path)
    else:
        raise DataError("there is no such log", where=path, expected=_EXPECTED)
    if log is None or not (any(series.steps for series in log.series.values()) or log.ap_tables):
        raise DataError(
            "nothing in it is the record of a training",
            where=path,
            found=None if log is None or not log.unread else f"{log.unread} lines that could not be read",
            expected=_EXPECTED,
        )
    return log


def is_run_folder(path: str | Path) -> bool:
    """Whether a folder holds the tables of a run of ours, at its top or in ``train``."""
    return _tables_of(Path(path)) is not None


def _tables_of(folder: Path) -> Path | None:
    places = (folder / "train", folder)
    return next((p for p in places if any((p / name).is_file() for name in (EPOCHS, STEPS))), None)


def _read_folder(folder: Path) -> TrainingLog | None:
    tables = _tables_of(folder)
    if tables is not None:
        named = folder.absolute()
        name = named.parent.name if named.name == "train" else named.name
        log = TrainingLog(name, folder, "cytomask")
        # First the steps: what they tell, epochs need not tell again.
        for table, read in ((STEPS, read_step_table), (EPOCHS, read_epoch_table)):
            if (tables / table).is_file():
                read(_lines(tables / table), log)
        return log
    metrics, text = folder / _JSON, folder / _TEXT
    if not metrics.is_file():
        return _read_file(text, folder.absolute().name) if text.is_file() else None
    log = _read_file(metrics, folder.absolute().name)
    if text.is_file() and log.kind == "detectron2 metrics":
        # The text tells the memory, too, and in early versions the precision by class.
        told = _read_file(text)
        for name, series in told.series.items():
            if not log.series.get(name):
                log.series[name] = series
        for precision in told.ap_tables:
            if all((precision.task, precision.step) != (known.task, known.step) for known in log.ap_tables):
                log.add_table(precision)
    return log


def _read_file(path: Path, name: str | None = None) -> TrainingLog:
    begin = "".join(islice(_lines(path), 3)).lstrip()
    if path.suffix.lower() == ".csv":
        log = TrainingLog(name or path.absolute().parent.name, path, "cytomask")
        by_step = begin.startswith("step,")
        (read_step_table if by_step else read_epoch_table)(_lines(path), log)
        return log
    if begin.startswith("{"):
        log = TrainingLog(name or path.stem, path, "detectron2 metrics")
        read_json_lines(_lines(path), log)
    else:
        log = TrainingLog(name or path.stem, path, "detectron2 log")
        read_text_lines(_lines(path), log)
    return log


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text, whatever its line ends; what is no UTF-8 is replaced."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(
                "the log is too large", where=path, found=f"{size / 2**30:.1f} GiB", expected="at most 1 GiB"
            )
        with path.open("rb") as file:
            mark = file.read(3)
        # What a shell of Windows writes to a file is UTF-16.
        encoding = "utf-16" if mark[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with path.open(encoding=encoding, errors="replace") as file:
            while line := file.readline(MAX_LINE):
                yield line
    except OSError as error:
        raise DataError("the log cannot be read", where=path, found=error.strerror or error) from error
