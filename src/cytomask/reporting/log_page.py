"""The pages of trainings' logs: one for each log with all of its curves, and one that lays several over each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytomask.formats.training_logs.log import ApTable, TrainingLog
from cytomask.reporting.figures_svg import bar_chart
from cytomask.reporting.log_curves import (
    MOST_LINES,
    Chart,
    compared_charts,
    distinct_names,
    log_charts,
    precision_series,
    step_word,
    total_loss,
)
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import Section, counted, listed, tile, write_page
from cytomask.reporting.page_tables import Cell, Column, number_cell, table

#: Which section a chart stands in: its name, title and lead.
_LOSS = ("loss", "Loss", "Thin lines are what was recorded; bold ones are their running mean.")
_QUALITY = ("quality", "How good the model was", "On images that it does not learn from.")
_COSTS = ("costs", "Learning rate, time and memory", None)
_SECTIONS = {
    "loss": _LOSS, "terms": _LOSS, "validation": _QUALITY, "precision": _QUALITY,
    "learning-rate": _COSTS, "time": _COSTS, "memory": _COSTS,
}  # fmt: skip
#: Bars by class stand in one chart up to so many.
_MOST_BARS = 12


def write_log_page(path: Path, log: TrainingLog, *, command: str | None = None) -> None:
    """Write the page of one log: one file that works without a network.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    by_class = _by_class(log)
    write_page(
        path,
        title=f"Training: {log.name}",
        kicker="training",
        heading=element("bdi", log.name),
        lead=_lead(log),
        top=join([_tiles(log), _notes(log)]),
        sections=[*_sections(log_charts(log)), *by_class],
        command=command,
    )


def write_compared_page(path: Path, logs: Sequence[TrainingLog], *, command: str | None = None) -> None:
    """Write the page that lays logs over each other: a line for each of the first six, and a table of all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    names = distinct_names(logs)
    charts = compared_charts(logs)
    top: list[Html] = [_table(logs, names)]
    if len(logs) > MOST_LINES:
        top.append(element("p", f"Curves are those of the first {MOST_LINES}."))
    if not charts:
        top.append(element("p", "They have no curve in common."))
    write_page(
        path,
        title="Trainings compared",
        kicker="training",
        heading=f"{counted(len(logs), 'training')} compared",
        lead=element("span", listed(names[:MOST_LINES])),
        top=join(top),
        sections=_sections(charts),
        command=command,
    )


def _lead(log: TrainingLog) -> str:
    word = step_word(log)
    last = log.last_step
    told = "Nothing but evaluations was recorded." if last is None else f"Recorded up to {word} {last:,.0f}"
    if log.epoch_steps:
        told += f", {counted(len(log.epoch_steps), 'epoch')}"
    who = {"cytomask": "a run of cytomask", "detectron2 metrics": "detectron2's metrics.json"}
    return told + f", from {who.get(log.kind, 'a text log of detectron2')}." if last is not None else told


def _tiles(log: TrainingLog) -> Html:
    tiles = []
    loss = total_loss(log)
    if loss is not None and loss.steps:
        tiles.append(tile(f"{loss.values[-1]:.4g}", "Loss at the end", f"{loss.values[0]:.4g} at the beginning"))
    score = log.series.get("val/score")
    if score is not None and score.steps:
        best = max(range(len(score.values)), key=score.values.__getitem__)
        at = f"{step_word(log)} {score.steps[best]:,.0f}"
        tiles.append(tile(f"{score.values[best]:.3f}", "Best validation score", f"at {at}"))
    for task, figures in sorted(precision_series(log).items(), key=lambda item: item[0] != "segm"):
        if "AP" in figures:
            series = figures["AP"]
            best = max(range(len(series.values)), key=series.values.__getitem__)
            what = {"segm": "Best AP of masks", "bbox": "Best AP of boxes"}.get(task, f"Best AP, {task}")
            tiles.append(tile(f"{series.values[best]:.1f} %", what, f"at iteration {series.steps[best]:,.0f}"))
    time = log.series.get("seconds_per_step")
    if time is not None and time.steps:
        mean = sum(time.values) / len(time.values)
        waiting = log.series.get("seconds_waiting")
        more = ""
        if waiting is not None and waiting.steps and mean > 0:
            share = 100 * sum(waiting.values) / len(waiting.values) / mean
            more = f"{min(share, 100):.0f} % of it waiting for data"
        tiles.append(tile(f"{mean:.3g} s", f"For one {step_word(log)}", more))
    memory = log.series.get("memory")
    if memory is not None and memory.steps:
        tiles.append(tile(f"{max(memory.values) / 1024:.3g} GB", "Most memory"))
    return element("div", *tiles[:6], class_="tiles")


def _notes(log: TrainingLog) -> Html | None:
    word, notes = step_word(log), []
    if log.earlier_runs:
        runs = counted(log.earlier_runs, "earlier run")
        notes.append(f"The file holds {runs} as well; what is shown is the last one.")
    if log.restarts:
        at = listed([f"{step:,.0f}" for step in log.restarts[:10]])
        notes.append(
            f"The training was stopped and went on at {word} {at} (dotted lines); what it repeated is shown once."
        )
    if log.phase_starts:
        notes.append("Dotted lines part the phases of the training.")
    if log.unread:
        notes.append(f"{counted(log.unread, 'line')} could not be read, such as one that broke off.")
    return element("ul", *(element("li", note) for note in notes), class_="plain muted") if notes else None


def _sections(charts: Sequence[Chart]) -> list[Section]:
    found: dict[str, tuple[str, str | None, list[Html]]] = {}
    for chart in charts:
        name, title, lead = _SECTIONS[chart.name]
        found.setdefault(name, (title, lead, []))[2].append(element("div", chart.drawing, class_="card"))
    return [
        Section(name, title, element("div", *cards, class_="columns pair"), lead)
        for name, (title, lead, cards) in found.items()
    ]


def _by_class(log: TrainingLog) -> list[Section]:
    """Average precision by class at the last evaluation, and at all of them in a table."""
    cards: list[Html] = []
    for task in dict.fromkeys(found.task for found in log.ap_tables if found.per_class):
        tables = [found for found in log.ap_tables if found.task == task and found.per_class]
        last = tables[-1]
        if len(last.per_class) <= _MOST_BARS:
            values = list(last.per_class.values())
            top = max([value * 1.1 for value in values if value], default=10.0) or 10.0
            title = f"AP by class, {task}" + ("" if last.step is None else f", iteration {last.step:,}")
            chart = bar_chart(
                list(last.per_class),
                [("AP", values)],
                title=title,
                x_label="class",
                y_label="AP (%)",
                top=min(100.0, top),
            )
            cards.append(element("div", chart, class_="card"))
        cards.append(element("div", _class_table(tables, task), class_="card"))
    if not cards:
        return []
    body = element("div", *cards, class_="columns pair")
    return [Section("classes", "Classes", body, "Average precision of each class.")]


def _class_table(tables: Sequence[ApTable], task: str) -> Html:
    names = list(dict.fromkeys(name for found in tables for name in found.per_class))
    columns = [Column("class"), *(Column("–" if t.step is None else f"{t.step:,}", number=True) for t in tables[-8:])]
    rows = [[Cell(name), *(number_cell(t.per_class.get(name), 1) for t in tables[-8:])] for name in names]
    return table(columns, rows, caption=f"AP in percent by class and iteration, {task}")


def _table(logs: Sequence[TrainingLog], names: Sequence[str]) -> Html:
    columns = [
        Column("training"), Column("steps", number=True), Column("loss", number=True, help="the last one recorded"),
        Column("best score", number=True, help="on validation images"), Column("best AP (%)", number=True),
        Column("s per step", number=True), Column("memory (GB)", number=True),
    ]  # fmt: skip
    rows = []
    for log, name in zip(logs, names):
        loss, score = total_loss(log), log.series.get("val/score")
        precisions = precision_series(log)
        precision = (precisions.get("segm") or precisions.get("bbox") or {}).get("AP")
        time, memory = log.series.get("seconds_per_step"), log.series.get("memory")
        rows.append(
            [
                Cell(element("bdi", name), name),
                number_cell(log.last_step, 0),
                number_cell(loss.values[-1] if loss and loss.values else None),
                number_cell(max(score.values) if score and score.values else None),
                number_cell(max(precision.values) if precision else None, 1),
                number_cell(sum(time.values) / len(time.values) if time and time.values else None),
                number_cell(max(memory.values) / 1024 if memory and memory.values else None, 1),
            ]
        )
    return table(columns, rows, caption="The trainings side by side")
