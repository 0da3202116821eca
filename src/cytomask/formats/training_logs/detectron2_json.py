"""``metrics.json`` of detectron2: one JSON dictionary in a line, with an iteration's figures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from cytomask.formats.training_logs.log import ApTable, Group, TrainingLog

#: Names that are the same in every kind of log.
NAMES: dict[str, tuple[str, Group]] = {
    "lr": ("learning_rate", "learning rate"),
    "max_mem": ("memory", "memory"),
    "time": ("seconds_per_step", "time"),
    "data_time": ("seconds_waiting", "time"),
}
#: ``segm/AP50``, ``bbox/AP-name``, and the same behind the name of a data set if there are several.
_PRECISION = re.compile(r"((?:.*/)?(?:bbox|segm|keypoints))/(AP(?:\d+|[a-z])?|AP-.+)", re.DOTALL)
_STEP = ("iteration", "iter")


def read_json_lines(lines: Iterable[str], log: TrainingLog) -> None:
    """Put the figures of ``metrics.json`` into a log.

    A line that broke off or holds something else is counted as unread. Evaluations that stand without an iteration
    belong to the last one before them.

    Examples
    --------
    >>> from pathlib import Path
    >>> log = TrainingLog("a", Path("a"), "detectron2 metrics")
    >>> lines = ['{"iteration": 19, "total_loss": 2.5, "lr": 0.01}', '{"segm/AP": 40.1, "segm/AP-a": NaN}']
    >>> read_json_lines(lines, log)
    >>> log.series["total_loss"].values, log.ap_tables[0].values, log.ap_tables[0].per_class
    ([2.5], {'AP': 40.1}, {'a': None})
    """
    last: int | None = None
    for line in lines:
        text = line.strip()
        if not text:
            continue
        row = _dictionary(text)
        if row is None:
            log.unread += 1
            continue
        step = next((row[name] for name in _STEP if _is_number(row.get(name))), None)
        numbers = {n: float(v) for n, v in row.items() if _is_number(v) and n not in (*_STEP, "eta_seconds")}
        if step is not None:
            trains = any("loss" in name for name in numbers)
            if last is not None and step < last and trains:
                log.go_back(step)
            if last is None or step > last or trains:
                last = int(step)
        elif last is not None:
            step = last
        _take(numbers, None if step is None else int(step), log)


def group_of(name: str) -> tuple[str, Group]:
    """What a figure of detectron2 is called in a log, and its group.

    Examples
    --------
    >>> group_of("loss_cls_stage0"), group_of("lr"), group_of("rpn/num_pos_anchors")
    (('loss_cls_stage0', 'losses'), ('learning_rate', 'learning rate'), ('rpn/num_pos_anchors', 'other'))
    """
    if name in NAMES:
        return NAMES[name]
    return name, "losses" if "loss" in name else "other"


def _take(numbers: dict[str, float], step: int | None, log: TrainingLog) -> None:
    tables: dict[str, tuple[dict[str, float | None], dict[str, float | None]]] = {}
    for name, value in numbers.items():
        precision = _PRECISION.fullmatch(name)
        if precision is not None:
            task, figure = precision.groups()
            values, per_class = tables.setdefault(task, ({}, {}))
            known = value if math.isfinite(value) else None
            if figure.startswith("AP-"):
                per_class[figure.removeprefix("AP-")] = known
            else:
                values[figure] = known
        elif step is not None:
            called, group = group_of(name)
            log.add(called, group, step, value)
    for task, (values, per_class) in tables.items():
        # Early versions of detectron2 repeat the last evaluation in each line.
        before = next((t for t in reversed(log.ap_tables) if t.task == task), None)
        if before is None or (dict(before.values), dict(before.per_class)) != (values, per_class):
            log.add_table(ApTable(task, step, values, per_class))


def _dictionary(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_number(value: object) -> bool:
    """Whether it is a number, which may be nan: a figure that detectron2 could not compute."""
    return isinstance(value, int | float) and not isinstance(value, bool) and (value != value or abs(value) < 1e300)
