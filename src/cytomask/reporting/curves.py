"""Curves of a training: losses, validation metrics and learning rate over the epochs, in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytomask.errors import DataError
from cytomask.output import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that the colour-blind tell apart (Okabe & Ito 2008), dark enough for white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#56B4E9", "#000000")
#: An axis is logarithmic if its largest value is more than this many times the smallest.
LOG_FROM = 8.0


def write_curves(table: str | Path, target: str | Path) -> None:
    """Draw the curves of a training's table as PNG; it appears complete or not at all.

    Parameters
    ----------
    table
        ``metrics.csv`` of a run: one row per epoch with ``epoch`` (from 0), ``train/NAME`` and ``val/NAME``,
        ``learning_rate``. Cells may be empty: validation need not take place every epoch.
    target
        The picture.

    Raises
    ------
    DataError
        If the table cannot be read.
    OutputError
        If the picture cannot be written.
    """
    figure = draw_curves(read_curves(table))
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def read_curves(table: str | Path) -> pd.DataFrame:
    """Read a training's table: numbers by epoch, the latest row where one was repeated.

    Raises
    ------
    DataError
        If it cannot be read, or has no column ``epoch``.
    """
    try:
        rows = pd.read_csv(table)
        rows = rows.apply(pd.to_numeric, errors="coerce").dropna(subset=["epoch"])
    except pd.errors.EmptyDataError:
        return pd.DataFrame({"epoch": []}, dtype=float).set_index("epoch")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, KeyError) as error:
        found = "no column 'epoch'" if isinstance(error, KeyError) else str(error)
        raise DataError(
            "the training's table cannot be read", where=table, found=found, expected="metrics.csv of a run"
        ) from error
    return rows.drop_duplicates("epoch", keep="last").set_index("epoch").sort_index()


def draw_curves(rows: pd.DataFrame) -> Figure:
    """Draw a training's table, as :func:`read_curves` gives it.

    Panels: the whole loss, its terms, validation metrics (the best epoch of ``val/score`` is marked), and the
    learning rate; where there are figures of pixels, also their IoU and their accuracies. Training is drawn in full,
    validation in dashed lines; dotted ones part the phases. An axis is logarithmic where values of several magnitudes
    occur and all are positive, never for validation metrics. Epochs are counted from 1, as people are told them.

    Examples
    --------
    >>> rows = pd.DataFrame({"train/loss": [3.0, 0.2], "val/score": [0.4, 0.6]}, index=[0, 1])
    >>> [panel.get_yscale() for panel in draw_curves(rows).axes]
    ['log', 'linear', 'linear', 'linear']
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = rows.replace([np.inf, -np.inf], np.nan).dropna(axis="columns", how="all")
    names = [str(name) for name in rows.columns]
    trained = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    validated = [name.removeprefix("val/") for name in names if name.startswith("val/")]
    metrics = sorted((n for n in validated if n not in ("loss", *trained)), key=lambda n: (n != "score", n))
    overlaps = [n for n in metrics if n == "iou" or n.startswith("iou_")]
    accuracies = [n for n in metrics if n.endswith("_accuracy")]
    pixels = bool(overlaps or accuracies)
    metrics = [n for n in metrics if n not in (*overlaps, *accuracies)]

    figure = Figure(figsize=(15 if pixels else 11, 7), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(2, 3 if pixels else 2).flat)
    whole, parts, quality, rate = (
        panels[:2] + panels[-2:] if not pixels else (panels[0], panels[1], panels[3], panels[2])
    )
    if pixels:
        for panel, names_of_panel, title in (
            (panels[4], overlaps, "validation: IoU of pixels"),
            (panels[5], accuracies, "validation: share of pixels that are right"),
        ):
            for k, name in enumerate(names_of_panel):
                label = name.removesuffix("_accuracy").replace("pixel", "all pixels").replace("iou_", "")
                _line(panel, rows[f"val/{name}"], "all objects" if name == "iou" else label, k, "-")
            _finish(panel, rows, title, linear=True)
    _losses(whole, rows, ["loss"])
    _finish(whole, rows, "loss")
    _losses(parts, rows, [name for name in trained if name != "loss"])
    _finish(parts, rows, "terms of the loss")
    for k, name in enumerate(metrics):
        _line(quality, rows[f"val/{name}"], name, k, "-")
    title = "validation metrics"
    if "score" in metrics:
        scores = _finite(rows["val/score"])
        best = int(np.argmax(scores.to_numpy()))
        epoch, score = float(scores.index[best]) + 1, float(scores.iloc[best])
        quality.plot(epoch, score, "o", markersize=11, markerfacecolor="none", color=COLOURS[1], clip_on=False)
        title = f"validation: best score {score:.3f} after epoch {epoch:.0f}"
    _finish(quality, rows, title, linear=True)
    if "learning_rate" in names:
        spread = "learning_rate_first_layers" in names
        _line(rate, rows["learning_rate"], "last layers" if spread else "", 0, "-")
        if spread:
            _line(rate, rows["learning_rate_first_layers"], "first layers", 1, "-")
    _finish(rate, rows, "learning rate", from_zero=True)
    if "phase" in names:
        begins = rows.index[rows["phase"].diff() > 0]
        for panel in panels:
            for epoch in begins if panel.lines else ():
                panel.axvline(float(epoch) + 0.5, color="0.6", linewidth=1, linestyle=":", zorder=1)
    return figure


def _losses(panel: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    for k, name in enumerate(names):
        for kind, told, style in (("train", "training", "-"), ("val", "validation", "--")):
            if f"{kind}/{name}" in rows:
                _line(panel, rows[f"{kind}/{name}"], told if name == "loss" else f"{name}, {told}", k, style)


def _line(panel: Axes, values: pd.Series, label: str, colour: int, style: str) -> None:
    values = _finite(values)
    panel.plot(
        values.index.to_numpy(float) + 1,
        values,
        style,
        marker="o" if len(values) <= 40 else "",
        markersize=3.5,
        color=COLOURS[colour % len(COLOURS)],
        label=label or "_",
    )


def _finish(panel: Axes, rows: pd.DataFrame, title: str, *, linear: bool = False, from_zero: bool = False) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    panel.set_title(title, fontsize=11)
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(True, which="major", color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    values = np.concatenate([np.zeros(0), *(np.asarray(line.get_ydata(), float) for line in panel.lines)])
    if not len(values):
        panel.text(0.5, 0.5, "nothing recorded", transform=panel.transAxes, ha="center", va="center", color="0.5")
        panel.set(xticks=[], yticks=[])
        return
    first, last = float(rows.index[0]) + 1, float(rows.index[-1]) + 1
    margin = max(0.5, 0.03 * (last - first))
    panel.set_xlim(first - margin, last + margin)
    if not linear and values.min() > 0 and values.max() > LOG_FROM * values.min():
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
    elif (linear or from_zero) and values.min() >= 0:
        panel.set_ylim(bottom=0)
    handles, labels = panel.get_legend_handles_labels()
    if len(labels) > 1:
        panel.legend(handles, labels, fontsize=9, framealpha=0.8, edgecolor="none")


def _finite(values: pd.Series) -> pd.Series:
    return values[np.isfinite(values.to_numpy(float))]
