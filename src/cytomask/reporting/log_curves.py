"""The curves of trainings: losses, validation, average precision, learning rate, time and memory.

One log gives all of its curves, several give one line each in charts of what they have in common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytomask.formats.training_logs.log import Series, TrainingLog
from cytomask.reporting.curves import LOG_FROM
from cytomask.reporting.log_chart import Curve, log_chart, spans_decades
from cytomask.reporting.markup import Html

#: A chart holds so many lines at most: there are so many colours.
MOST_LINES = 6
#: The sum of all losses, as the writers of logs call it.
TOTALS = ("train/loss", "total_loss", "loss")
#: The sum of the losses of validation images.
VALIDATION_TOTALS = ("val/loss", "validation_loss", "val_loss")
_FAMILIES = (
    ("classes", re.compile(r"cls|class|fg_|foreground")),
    ("boxes", re.compile(r"box|loc|reg")),
    ("masks", re.compile(r"mask|dice|point")),
)
_RPN = re.compile(r"rpn|proposal|objectness")


@dataclass(frozen=True)
class Chart:
    """A chart of a training.

    Attributes
    ----------
    name
        What it is of: ``loss``, ``terms``, ``validation``, ``precision``, ``learning-rate``, ``time`` or ``memory``;
        several charts may have the same.
    title
        What stands above it.
    drawing
        The figure for a page.
    """

    name: str
    title: str
    drawing: Html


def step_word(log: TrainingLog) -> str:
    """What a log calls a step of the optimiser."""
    return "step" if log.kind == "cytomask" else "iteration"


def log_charts(log: TrainingLog) -> list[Chart]:
    """Draw all curves of a log, the most important first.

    Examples
    --------
    >>> from pathlib import Path
    >>> log = TrainingLog("run", Path("run"), "cytomask")
    >>> for step in (10, 20):
    ...     log.add("train/loss", "losses", step, 30 / step)
    >>> [(chart.name, chart.title) for chart in log_charts(log)]
    [('loss', 'Loss')]
    """
    losses = log.of_group("losses")
    totals = {name: losses[name] for name in (*TOTALS[:2], *VALIDATION_TOTALS) if name in losses}
    if not any(name in totals for name in TOTALS) and "loss" in losses:
        totals["loss"] = losses["loss"]
    terms = {name: series for name, series in losses.items() if name not in totals}
    charts = []
    if totals:
        titled = {_total_name(name): series for name, series in totals.items()}
        charts.append(_chart(log, "loss", "Loss", titled, "loss", decades=True))
    for family, members in loss_families(terms).items():
        title = f"Terms of the loss: {family}" if family else "Terms of the loss"
        charts.append(_chart(log, "terms", title, {plain_name(n): s for n, s in members.items()}, "loss", decades=True))
    charts += _validation_charts(log)
    charts += _precision_charts(log)
    rates = {plain_name(name): series for name, series in log.of_group("learning rate").items()}
    if rates:
        charts.append(_chart(log, "learning-rate", "Learning rate", rates, "learning rate", smooth=False, rate=True))
    times = {plain_name(name): series for name, series in log.of_group("time").items()}
    if times:
        charts.append(_chart(log, "time", f"Time for one {step_word(log)}", times, "seconds"))
    memory = {plain_name(name): series for name, series in log.of_group("memory").items()}
    if memory:
        charts.append(_chart(log, "memory", "Memory", memory, "MB", smooth=False))
    return charts


def compared_charts(logs: Sequence[TrainingLog]) -> list[Chart]:
    """Draw what logs have in common, a line for each log; of more than six, the first six.

    Quantities that only one log tells are left out.
    """
    logs = logs[:MOST_LINES]
    names = distinct_names(logs)
    words = {step_word(log) for log in logs}
    word = words.pop() if len(words) == 1 else "step"
    charts = []
    for name, title, y_label, found in _in_common(logs):
        if len(found) < 2:
            continue
        values = [value for series in found.values() for value in series.values]
        smooth = name in ("loss", "time")
        drawing = log_chart(
            [
                Curve(names[k], found[k].steps, found[k].values, smooth) if k in found else Curve(names[k], [], [])
                for k in range(len(logs))
            ],
            title=title,
            y_label=y_label,
            x_label=word,
            logarithmic=_is_logarithmic(name, values),
        )
        charts.append(Chart(name, title, drawing))
    return charts


def distinct_names(logs: Sequence[TrainingLog]) -> list[str]:
    """What logs are called where they stand side by side: with their folders if their own names are alike.

    Examples
    --------
    >>> from pathlib import Path
    >>> two = [TrainingLog("metrics", Path(f"{place}/metrics.json"), "detectron2 metrics") for place in "ab"]
    >>> distinct_names(two)
    ['a/metrics', 'b/metrics']
    """
    names = [log.name for log in logs]
    names = [f"{log.source.absolute().parent.name}/{n}" if names.count(n) > 1 else n for log, n in zip(logs, names)]
    return [f"{name} ({k + 1})" if names.count(name) > 1 else name for k, name in enumerate(names)]


def loss_families(terms: Mapping[str, Series]) -> dict[str, dict[str, Series]]:
    """Part losses into charts that can be read: by what they are of if they are many.

    Examples
    --------
    >>> terms = {f"loss_{what}_stage{k}": Series("losses") for k in range(3) for what in ("cls", "box_reg", "mask")}
    >>> {family: len(members) for family, members in loss_families(terms).items()}
    {'classes': 3, 'boxes': 3, 'masks': 3}
    """
    if not terms:
        return {}
    if len(terms) <= MOST_LINES:
        return {"": dict(terms)}
    families: dict[str, dict[str, Series]] = {}
    for name, series in terms.items():
        family = next((told for told, pattern in _FAMILIES if pattern.search(name)), "others")
        families.setdefault("proposals" if _RPN.search(name) else family, {})[name] = series
    parted: dict[str, dict[str, Series]] = {}
    for family, members in families.items():
        found = list(members.items())
        for k in range(0, len(found), MOST_LINES):
            parted[family if len(found) <= MOST_LINES else f"{family} ({k // MOST_LINES + 1})"] = dict(
                found[k : k + MOST_LINES]
            )
    return parted


def plain_name(name: str) -> str:
    """What a series is called in a legend.

    Examples
    --------
    >>> plain_name("val/distance"), plain_name("train/distance"), plain_name("seconds_waiting")
    ('distance, validation', 'distance', 'waiting for data')
    """
    known = {
        "learning_rate": "last layers",
        "learning_rate_first_layers": "first layers",
        "seconds_per_step": "whole step",
        "seconds_waiting": "waiting for data",
        "memory": "memory",
    }
    if name in known:
        return known[name]
    if name.startswith("val/"):
        return f"{name.removeprefix('val/')}, validation"
    return name.removeprefix("train/")


def total_loss(log: TrainingLog) -> Series | None:
    """The sum of the losses in training, if a log tells it."""
    losses = log.of_group("losses")
    return next((losses[name] for name in TOTALS if name in losses), None)


def precision_series(log: TrainingLog) -> dict[str, dict[str, Series]]:
    """Average precision over a training, by task and figure, from a log's tables; in percent."""
    found: dict[str, dict[str, Series]] = {}
    for table in log.ap_tables:
        for figure, value in table.values.items():
            if value is not None and table.step is not None:
                series = found.setdefault(table.task, {}).setdefault(figure, Series("validation"))
                series.append(table.step, value)
    return found


def _validation_charts(log: TrainingLog) -> list[Chart]:
    charts, scores = [], log.of_group("validation")
    bounded = {n: s for n, s in scores.items() if min(s.values) >= 0 and max(s.values) <= 1}
    for title, members in (
        ("Validation", bounded),
        ("Validation: other figures", {n: s for n, s in scores.items() if n not in bounded}),
    ):
        found = sorted(members.items(), key=lambda item: (item[0] != "val/score", item[0]))
        for k in range(0, len(found), MOST_LINES):
            part = {name.removeprefix("val/"): series for name, series in found[k : k + MOST_LINES]}
            told = title if k == 0 else f"{title} ({k // MOST_LINES + 1})"
            charts.append(_chart(log, "validation", told, part, "score", smooth=False))
    return charts


def _precision_charts(log: TrainingLog) -> list[Chart]:
    charts = []
    for task, members in precision_series(log).items():
        charts.append(
            _chart(
                log, "precision", f"Average precision: {_TASKS.get(task, task)}", dict(list(members.items())[:6]),
                "AP (%)", smooth=False,
            )
        )  # fmt: skip
    return charts


_TASKS = {"segm": "masks", "bbox": "boxes"}


def _chart(
    log: TrainingLog,
    name: str,
    title: str,
    members: Mapping[str, Series],
    y_label: str,
    *,
    smooth: bool = True,
    decades: bool = False,
    rate: bool = False,
) -> Chart:
    curves = [Curve(told, s.steps, s.values, smooth and s.detail == "step") for told, s in members.items()]
    values = [value for series in members.values() for value in series.values]
    logarithmic = (decades and _is_logarithmic("loss", values)) or (rate and _is_logarithmic("learning-rate", values))
    word = step_word(log)
    drawing = log_chart(
        curves,
        title=title,
        y_label=y_label,
        x_label=word,
        logarithmic=logarithmic,
        marks=[*log.restarts, *log.phase_starts],
    )
    return Chart(name, title, drawing)


def _is_logarithmic(name: str, values: Sequence[float]) -> bool:
    if name == "learning-rate":
        return spans_decades(values, 2)
    return name == "loss" and bool(values) and min(values) > 0 and max(values) > LOG_FROM * min(values)


def _total_name(name: str) -> str:
    return "validation" if name in VALIDATION_TOTALS else "training"


def _in_common(logs: Sequence[TrainingLog]) -> list[tuple[str, str, str, dict[int, Series]]]:
    """What may be compared: name, title, label of the axis, and the series by the log's place."""
    found: list[tuple[str, str, str, dict[int, Series]]] = []
    totals = {k: series for k, log in enumerate(logs) if (series := total_loss(log)) is not None}
    found.append(("loss", "Loss in training", "loss", totals))
    held = {k: s for k, log in enumerate(logs) for name in VALIDATION_TOTALS if (s := log.of_group("losses").get(name))}
    found.append(("loss", "Loss of validation images", "loss", held))
    figures = dict.fromkeys(name for log in logs for name in log.of_group("validation"))
    for figure in sorted(figures, key=lambda name: (name != "val/score", name)):
        by_log = {k: s for k, log in enumerate(logs) if (s := log.of_group("validation").get(figure))}
        found.append(("validation", f"Validation: {figure.removeprefix('val/')}", "score", by_log))
    precisions = [precision_series(log) for log in logs]
    for task in dict.fromkeys(task for one in precisions for task in one):
        for figure in ("AP", "AP50"):
            by_log = {k: one[task][figure] for k, one in enumerate(precisions) if figure in one.get(task, {})}
            title = f"{figure}, {_TASKS.get(task, task)}"
            found.append(("precision", title, f"{figure} (%)", by_log))
    for name, title, y_label, series_name in (
        ("learning-rate", "Learning rate", "learning rate", "learning_rate"),
        ("time", "Time for one step", "seconds", "seconds_per_step"),
        ("memory", "Memory", "MB", "memory"),
    ):
        by_log = {k: log.series[series_name] for k, log in enumerate(logs) if series_name in log.series}
        found.append((name, title, y_label, {k: series for k, series in by_log.items() if series.steps}))
    return found
