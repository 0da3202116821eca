"""Plots of a training's log as PNG files: losses, learning rate, memory, time, and average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytomask.formats.training_logs.log import Series, TrainingLog
from cytomask.output import replacing
from cytomask.reporting.curves import COLOURS, LOG_FROM
from cytomask.reporting.log_chart import running_mean, spans_decades
from cytomask.reporting.log_curves import plain_name, precision_series, step_word

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SMOOTH_FROM = 30
#: Tables by class of so many evaluations are drawn, the last ones.
_MOST_TABLES = 50


def write_log_plots(log: TrainingLog, folder: Path, stem: str) -> list[Path]:
    """Draw a log; each picture appears complete or not at all, and what the log does not tell has none.

    Parameters
    ----------
    log
        The log.
    folder
        Where the pictures go; it exists.
    stem
        How their names begin: ``STEM_losses.png``, ``STEM_lr.png``, ``STEM_max_mem.png``, ``STEM_iteration_time.png``,
        ``STEM_validation.png``, ``STEM_segm_AP_metrics.png`` and ``STEM_segm_per_category_AP_iter_99.png`` (and with
        bbox).

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        If a picture cannot be written.
    """
    word = step_word(log)
    written = []

    def save(name: str, figure: Figure) -> None:
        path = folder / f"{stem}_{name}.png"
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=100, format="png")
        written.append(path)

    for name, group, title, label, size in (
        ("losses", "losses", "Losses", "loss", (15, 10)),
        ("lr", "learning rate", "Learning rate", "learning rate", (10, 5)),
        ("max_mem", "memory", "Memory", "MB", (10, 5)),
        ("iteration_time", "time", f"Time for one {word}", "seconds", (10, 5)),
        ("validation", "validation", "Validation", "score", (10, 5)),
    ):
        members = log.of_group(group)  # type: ignore[arg-type]
        if members:
            save(name, _lines(members, title, word, label, size))
    for task, members in precision_series(log).items():
        save(f"{_file_word(task)}_AP_metrics", _lines(members, f"Average precision, {task}", word, "AP (%)", (10, 6)))
    for table in [t for t in log.ap_tables if t.per_class][-_MOST_TABLES:]:
        at = "none" if table.step is None else table.step
        told = f"AP by class, {table.task}" + ("" if table.step is None else f", {word} {table.step:,}")
        save(f"{_file_word(table.task)}_per_category_AP_iter_{at}", _bars(table.per_class, told))
    return written


def _file_word(task: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in task)


def _lines(members: Mapping[str, Series], title: str, x_label: str, y_label: str, size: tuple[int, int]) -> Figure:
    figure, panel = _new(size)
    values = np.concatenate([series.values for series in members.values()])
    for k, (name, series) in enumerate(members.items()):
        colour, style = COLOURS[k % len(COLOURS)], ("-", "--", ":", "-.")[k // len(COLOURS) % 4]
        x, y = np.asarray(series.steps), np.asarray(series.values)
        smooth = y_label in ("loss", "seconds") and series.detail == "step" and len(y) >= _SMOOTH_FROM
        if smooth:
            panel.plot(x, y, style, color=colour, alpha=0.25, linewidth=0.8)
        shown = running_mean(y) if smooth else y
        marker = "o" if len(y) <= 40 else ""
        panel.plot(x, shown, style, color=colour, linewidth=1.8, marker=marker, markersize=4, label=plain_name(name))
    panel.set(title=title, xlabel=x_label, ylabel=y_label)
    wide = values.min() > 0 and values.max() > LOG_FROM * values.min()
    if (y_label == "loss" and wide) or (y_label == "learning rate" and spans_decades(values.tolist(), 2)):
        panel.set_yscale("log")
    elif values.min() >= 0:
        panel.set_ylim(bottom=0)
    if len(members) > 1:
        panel.legend(fontsize=10, framealpha=0.8, edgecolor="none", ncols=1 + len(members) // 12)
    return figure


def _bars(per_class: Mapping[str, float | None], title: str) -> Figure:
    names: Sequence[str] = list(per_class)
    figure, panel = _new((min(40.0, max(10.0, 1.0 + 0.6 * len(names))), 6))
    heights = [per_class[name] or 0.0 for name in names]
    panel.bar(range(len(names)), heights, color=COLOURS[0], width=0.7)
    for k, name in enumerate(names):
        value = per_class[name]
        text = "none" if value is None else f"{value:.1f}"
        panel.text(k, heights[k], text, ha="center", va="bottom", fontsize=9, color="0.25")
    panel.set_xticks(
        range(len(names)), names, rotation=0 if len(names) <= 8 else 60, ha="center" if len(names) <= 8 else "right"
    )
    panel.set(title=title, ylabel="AP (%)")
    panel.set_ylim(0, max(heights) * 1.1 if max(heights) > 0 else 10)
    return figure


def _new(size: tuple[float, float]) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(True, which="major", color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    return figure, panel
