"""Text logs of detectron2, from its ``log.txt`` or from a terminal: training lines and tables of precision."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from cytomask.formats.training_logs.detectron2_json import group_of
from cytomask.formats.training_logs.log import ApTable, TrainingLog

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: ``iter: 19`` begins what a training line tells; what stands before it is the time and the ETA.
_ITERATION = re.compile(r"(?:^|\s)iter: ?(\d{1,12})(?=\s|$)")
_PAIR = re.compile(
    r"(?:^|\s)([A-Za-z_][\w./+-]*): ?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf))M?(?=\s|$)"
)
_RESULTS = re.compile(r"Evaluation results for ([\w./ -]+?)\s*:\s*$")
_CATEGORIES = re.compile(r"Per-category ([\w./ -]+?) AP\s*:\s*$")
#: A heading stands within so many characters at the end of its line.
_HEADING = 300
_RULE = re.compile(r"[|:\-\s+]+")


def read_text_lines(lines: Iterable[str], log: TrainingLog) -> None:
    """Put what a text log of detectron2 tells into a log.

    Examples
    --------
    >>> from pathlib import Path
    >>> log = TrainingLog("a", Path("a"), "detectron2 log")
    >>> read_text_lines([
    ...     "[01/02 10:00:00 d2.utils.events]: eta: 1 day, 2:03:04  iter: 19  total_loss: 2.5  lr: 1e-05  max_mem: 99M",
    ...     "[01/02 10:00:01 d2.evaluation.coco_evaluation]: Evaluation results for segm: ",
    ...     "|   AP   |  APs  |",
    ...     "|:------:|:-----:|",
    ...     "| 40.123 |  nan  |",
    ... ], log)
    >>> {name: series.values for name, series in log.series.items()}
    {'total_loss': [2.5], 'learning_rate': [1e-05], 'memory': [99.0]}
    >>> log.ap_tables
    [ApTable(task='segm', step=19, values={'AP': 40.123, 'APs': None}, per_class={})]
    """
    last: int | None = None
    expected: tuple[str, str] | None = None
    rows: list[list[str]] = []
    for line in lines:
        text = _COLOUR.sub("", line).rstrip()
        if expected is not None and text.lstrip().startswith("|"):
            if not _RULE.fullmatch(text):
                rows.append([cell.strip() for cell in text.strip().strip("|").split("|")])
            continue
        if expected is not None and (rows or text):
            _take_table(expected, rows, last, log)
            expected, rows = None, []
        for pattern, what in ((_RESULTS, "figures"), (_CATEGORIES, "classes")):
            heading = pattern.search(text[-_HEADING:])
            if heading is not None:
                expected = what, heading[1]
        found = _ITERATION.search(text)
        if found is not None:
            last = _take_line(int(found[1]), text[found.end() :], last, log)
    if expected is not None:
        _take_table(expected, rows, last, log)


def _take_line(step: int, text: str, last: int | None, log: TrainingLog) -> int:
    pairs = {name: float(value) for name, value in _PAIR.findall(text)}
    if not pairs:
        log.unread += 1
        return step if last is None else last
    if last is not None and step < last:
        log.go_back(step)
    for name, value in pairs.items():
        called, group = group_of(name)
        log.add(called, group, step, value)
    return step


def _take_table(expected: tuple[str, str], rows: list[list[str]], step: int | None, log: TrainingLog) -> None:
    what, task = expected
    if len(rows) < 2:
        log.unread += 1  # a heading without its table: the log broke off
        return
    head, body = rows[0], rows[1:]
    if what == "figures":
        log.add_table(ApTable(task, step, {n: _number(v) for n, v in zip(head, body[0]) if n.startswith("AP")}))
        return
    # Several classes stand in one row; the last row is filled up with empty cells.
    pairs = [(row[k], row[k + 1]) for row in body for k in range(0, len(row) - 1, 2)]
    log.add_table(ApTable(task, step, {}, {name: _number(value) for name, value in pairs if name}))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
