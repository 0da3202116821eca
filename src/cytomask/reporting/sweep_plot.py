"""The picture of a sweep: what a setting does to scores and pixels, and what it trades for what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask.output import replacing
from cytomask.reporting.curves import COLOURS, LOG_FROM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS = (
    ("pixel_accuracy", "all pixels", "-"),
    ("background_accuracy", "background", "--"),
    ("object_accuracy", "objects", ":"),
)
_OBJECTS = (
    ("mean_accuracy_50_90", "mean accuracy, IoU 0.50 to 0.90", "-"),
    ("f1_50", "F1 at IoU 0.50", "--"),
    ("validation_score", "best score in training", ":"),
)


def write_sweep_plot(
    target: str | Path,
    key: str,
    rows: Sequence[Mapping[str, Any]],
    position: Sequence[float] | None,
    lines: Mapping[str, Sequence[int]],
) -> None:
    """Draw a sweep as PNG; it appears complete or not at all.

    Parameters
    ----------
    target
        The picture.
    key
        The setting along the axis.
    rows
        A dictionary per run, with ``key`` and the figures.
    position
        Where each run stands on the axis; None puts them side by side in their order.
    lines
        Runs (as places in ``rows``) of each line by its name; one line without a name for a single setting.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    figure = draw_sweep(key, rows, position, lines)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def draw_sweep(
    key: str,
    rows: Sequence[Mapping[str, Any]],
    position: Sequence[float] | None,
    lines: Mapping[str, Sequence[int]],
) -> Figure:
    """Draw three panels: scores of objects, right pixels, and wrong pixels of objects against those of background.

    The axis of the setting is logarithmic where its values are positive and of several magnitudes.

    Examples
    --------
    >>> names = ("pixel_accuracy", "background_accuracy", "wrong_background", "wrong_objects", "f1_50")
    >>> rows = [{"w": v, **dict.fromkeys(names, 0.5)} for v in ("0.01", "1")]
    >>> figure = draw_sweep("w", rows, [0.01, 1.0], {"": [0, 1]})
    >>> [panel.get_xscale() for panel in figure.axes], [text.get_text() for text in figure.axes[2].texts]
    (['log', 'log', 'linear'], ['0.01', '1'])
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    objects, pixels, trade = figure.subplots(1, 3)
    for panel, series, title in ((objects, _OBJECTS, "objects"), (pixels, _PIXELS, "right pixels")):
        _over_values(panel, series, title, key, rows, position, lines)
    _trade_off(trade, key, rows, lines)
    return figure


def _over_values(
    panel: Axes,
    series: Sequence[tuple[str, str, str]],
    title: str,
    key: str,
    rows: Sequence[Mapping[str, Any]],
    position: Sequence[float] | None,
    lines: Mapping[str, Sequence[int]],
) -> None:
    names = list(dict.fromkeys(str(row[key]) for row in rows))
    where = list(position) if position is not None else [float(names.index(str(row[key]))) for row in rows]
    for k, (line, members) in enumerate(lines.items()):
        order = sorted(members, key=where.__getitem__)
        for j, (name, told, style) in enumerate(series):
            values = [rows[m].get(name, math.nan) for m in order]
            if all(value is None or math.isnan(value) for value in values):
                continue
            label = f"{told} ({line})" if line else told
            colour = COLOURS[(k if line else j) % len(COLOURS)]
            panel.plot([where[m] for m in order], values, style, marker="o", color=colour, label=label)
    if position is None:
        panel.set_xticks(range(len(names)), names, rotation=20)
    elif min(where) > 0 and max(where) > LOG_FROM * min(where):
        panel.set_xscale("log")
        panel.set_xticks(sorted(set(where)), [f"{value:g}" for value in sorted(set(where))], minor=False)
        panel.set_xticks([], minor=True)
    panel.set_xlabel(key)
    panel.set_title(title, fontsize=11)
    _finish(panel)


def _trade_off(panel: Axes, key: str, rows: Sequence[Mapping[str, Any]], lines: Mapping[str, Sequence[int]]) -> None:
    """What is wrong of the true objects over what is wrong of the true background, a point for each value."""
    for k, (line, members) in enumerate(lines.items()):
        known = [m for m in members if math.isfinite(rows[m]["wrong_background"] + rows[m]["wrong_objects"])]
        x = [100 * rows[m]["wrong_background"] for m in known]
        y = [100 * rows[m]["wrong_objects"] for m in known]
        panel.plot(x, y, "o-", color=COLOURS[k % len(COLOURS)], linewidth=0.8, label=line or "_")
        for m, across, up in zip(known, x, y):
            panel.annotate(str(rows[m][key]), (across, up), (5, 5), textcoords="offset points", fontsize=9)
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    panel.margins(0.08)
    panel.set_xlabel("wrong among true background pixels, %")
    panel.set_ylabel("wrong among true object pixels, %")
    panel.set_title(f"trade-off, labelled by {key}", fontsize=11)
    _finish(panel)


def _finish(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(True, which="major", color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    handles, labels = panel.get_legend_handles_labels()
    if labels:
        panel.legend(handles, labels, fontsize=9, framealpha=0.8, edgecolor="none")
