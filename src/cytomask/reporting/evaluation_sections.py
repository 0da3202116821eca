"""Sections of the page of an evaluation that show figures: curves, sizes, groups, classes, annotators, all images.

Each gives None where the metrics hold nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cytomask.reporting.evaluation_words import (
    FIGURES,
    FOUND,
    KINDS,
    SHORT_NAMES,
    interval_of,
    look_up,
    plural_of_objects,
    with_interval,
)
from cytomask.reporting.figures_svg import Interval, Line, bar_chart, interval_chart, line_chart
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import counted
from cytomask.reporting.page_tables import Cell, Column, number_cell, table
from cytomask.reporting.parts_svg import stacked_bar

#: So many of the images, the worst, are in the table; per_image.csv holds all of them.
MOST_ROWS = 2000
#: Points of a precision-recall curve.
_POINTS = 240
#: Columns of the table of images, where they are there: key, heading.
_COLUMNS = (
    ("n_true", "true"),
    ("n_pred", "predicted"),
    ("f1_50", "F1"),
    ("recall_50", "recall"),
    ("precision_50", "precision"),
    ("mean_matched_iou_50", "overlap"),
    ("accuracy_50", "accuracy"),
    ("truth_missed", "missed"),
    ("prediction_spurious", "not real"),
    ("truth_merged", "merged"),
    ("truth_split", "split"),
    ("truth_poor", "poor"),
)
#: Figures of groups that are in their table.
_OF_GROUPS = ("f1_50", "recall_50", "precision_50", "mean_matched_iou_50", "mean_accuracy_50_90")
#: Properties of images that are in their table.
_MOST_PROPERTIES = 3


def curves(metrics: Mapping[str, Any]) -> Html | None:
    """F1 and accuracy over the IoU, and precision over recall."""
    charts = []
    lines, where = _iou_lines(metrics)
    if lines:
        charts.append(
            line_chart(
                lines,
                title="F1 and accuracy, by the fit that is asked for",
                x_label="overlap (IoU) from which on an object counts as found",
                y_label="figure",
                x_range=where,
            )
        )
    lines = []
    for threshold, curve in (look_up(metrics, "curves", "precision_recall") or {}).items():
        points = _thinned(list(zip(curve["recall"], curve["precision"])))
        if points:
            lines.append(Line(f"found from IoU {threshold} on", [x for x, _ in points], [y for _, y in points]))
    if lines:
        charts.append(
            line_chart(
                lines,
                title="Precision and recall, as the score threshold falls",
                x_label="recall: part of the true objects that is found",
                y_label="precision: part that is right",
                x_range=(0.0, 1.0),
            )
        )
    cards = (element("div", chart, class_="card") for chart in charts)
    return element("div", *cards, class_="columns") if charts else None


def _iou_lines(metrics: Mapping[str, Any]) -> tuple[list[Line], tuple[float, float]]:
    """Lines over the IoU and the range of the axis; without curves, from the thresholds of the matching."""
    drawn = metrics.get("curves") or {}
    names = (("f1", "F1"), ("accuracy", "accuracy"))
    lines = []
    if drawn.get("iou"):
        for key, name in names:
            if drawn.get(key):
                bounds = look_up(drawn, "confidence_intervals", key)
                low, high = zip(*bounds) if bounds else (None, None)
                lines.append(Line(name, drawn["iou"], drawn[key], low, high))
        return lines, (0.0, 1.0)
    pooled = look_up(metrics, "matching", "pooled") or {}
    if len(pooled) > 1:
        lines = [Line(name, [float(t) for t in pooled], [at.get(key) for at in pooled.values()]) for key, name in names]
    return lines, (0.5, 1.0)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Fewer points of a curve, its ends among them."""
    if len(points) <= _POINTS:
        return points
    return [points[round(k * (len(points) - 1) / (_POINTS - 1))] for k in range(_POINTS)]


def by_size(metrics: Mapping[str, Any]) -> Html | None:
    """What became of small and of large objects."""
    bins = metrics.get("by_size") or []
    if not bins:
        return None
    names = ["–".join(_length(end) for end in one["diameter_px"]) for one in bins]
    series = [
        (what, [one.get(key) for one in bins])
        for key, what in (("recall", "found"), ("mean_iou", "overlap, 0 if missed"))
    ]
    chart = bar_chart(
        names,
        series,
        title="Found, and how well outlined, by size",
        x_label="diameter of the true object, px",
        y_label="part of 1",
        notes=[f"n = {one['n']:,}" for one in bins],
    )
    kinds = [name for name in KINDS if name != "hit" and any((one.get("kinds") or {}).get(name) for one in bins)]
    columns = [
        Column("diameter, px"),
        Column("objects", number=True),
        Column("found", number=True),
        Column("overlap", number=True, help="mean IoU with the best prediction, 0 where there is none"),
        *(Column(KINDS[name][0].lower(), number=True) for name in kinds),
    ]
    rows = [
        [
            Cell(name),
            number_cell(one["n"]),
            _interval_cell(one.get("recall"), look_up(one, "confidence_intervals", "recall")),
            _interval_cell(one.get("mean_iou"), look_up(one, "confidence_intervals", "mean_iou")),
            *(number_cell((one.get("kinds") or {}).get(kind)) for kind in kinds),
        ]
        for name, one in zip(names, bins)
    ]
    listing = table(columns, rows, caption="Figures by size of the true objects", sortable=False)
    cards = [element("div", chart, class_="card")]
    bars = [
        part
        for name, one in zip(names, bins)
        for part in _kinds_bar(f"{name} px", one.get("kinds") or {}, f"What became of objects of {name} px")
    ]
    if bars:
        title = element("h3", f"What became of the true {plural_of_objects(metrics)}, by size")
        legend = kinds_legend([name for name in KINDS if any(name in (one.get("kinds") or {}) for one in bins)])
        cards.append(element("div", title, *bars, legend, class_="card"))
    return join([element("div", *cards, class_="columns even"), element("div", listing, class_="under")])


def _kinds_bar(name: str, counts: Mapping[str, int], title: str) -> list[Html]:
    """A name and a bar of what became of its objects; nothing where there are none."""
    if not sum(counts.values()):
        return []
    told = [(KINDS[kind][0], int(counts[kind]), f"kind-{kind}") for kind in KINDS if kind in counts]
    return [element("p", element("bdi", name), class_="bar-name"), stacked_bar(told, title=title)]


def _length(pixels: float) -> str:
    return f"{pixels:.1f}" if pixels < 9.95 else f"{pixels:,.0f}"


def by_group(metrics: Mapping[str, Any]) -> Html | None:
    """Figures of the images that share a property."""
    parts = []
    for column, groups in (metrics.get("by_group") or {}).items():
        intervals, bars = [], []
        for value, group in groups.items():
            low, high = look_up(group, "confidence_intervals", "f1_50") or (None, None)
            note = counted(int(group["n_images"]), "image") if "n_images" in group else ""
            intervals.append(Interval(value, look_up(group, "figures", "f1_50"), low, high, note))
            kinds = look_up(group, "error_kinds", "truth") or {}
            bars += _kinds_bar(value, kinds, f"What became of the true objects of {value}")
        shown = interval_chart(intervals, title=f"F1 by {column}, with its interval", x_label=f"F1 at IoU {FOUND}")
        cards = [element("div", shown, class_="card")]
        if bars:
            title = element("h3", f"What became of the true {plural_of_objects(metrics)}")
            known = {kind for group in groups.values() for kind in look_up(group, "error_kinds", "truth") or {}}
            legend = kinds_legend([kind for kind in KINDS if kind in known])
            cards.append(element("div", title, *bars, legend, class_="card"))
        chosen = [name for name in _OF_GROUPS if any(name in (g.get("figures") or {}) for g in groups.values())]
        columns = [
            Column(column),
            Column("images", number=True),
            Column("true", number=True),
            *(Column(SHORT_NAMES[name], number=True) for name in chosen),
        ]
        rows = [
            [
                Cell(value),
                number_cell(group.get("n_images")),
                number_cell(group.get("n_true")),
                *(
                    _interval_cell(look_up(group, "figures", name), look_up(group, "confidence_intervals", name))
                    for name in chosen
                ),
            ]
            for value, group in groups.items()
        ]
        parts.append(element("div", *cards, class_="columns even"))
        parts.append(element("div", table(columns, rows, caption=f"Figures by {column}"), class_="under"))
    return join(parts) if parts else None


def kinds_legend(names: Sequence[str]) -> Html:
    """The colours of some of the kinds."""
    entries = (element("li", swatch(name), KINDS[name][0]) for name in names)
    return element("ul", *entries, class_="kinds")


def swatch(kind: str) -> Html:
    """A small square in the colour of a kind."""
    square = element("rect", x=1, y=1, width=14, height=14, rx=3, class_=f"kind-{kind}")
    return element("svg", square, viewBox="0 0 16 16", class_="swatch", aria_hidden="true")


def classes(metrics: Mapping[str, Any]) -> Html | None:
    """Figures of each class."""
    known = metrics.get("classes") or {}
    if not known:
        return None
    figures = {
        "recall": "found",
        "precision": "right",
        "f1": "F1",
        "mean_matched_iou": "overlap",
        "accuracy": "accuracy",
    }
    columns = [
        Column("class"),
        Column("true", number=True),
        Column("predicted", number=True),
        *(Column(title, number=True) for title in figures.values()),
    ]
    rows = []
    for name, one in known.items():
        at = look_up(one, "matching", "pooled", FOUND) or {}
        bounds = look_up(metrics, "confidence_intervals", "classes", name, "matching", "pooled", FOUND) or {}
        # Where neither side has an object, a 0 would look like a failure.
        nothing = one.get("n_true") == 0 and one.get("n_pred") == 0
        cells = [_interval_cell(None if nothing else at.get(key), bounds.get(key)) for key in figures]
        rows.append([Cell(name), number_cell(one.get("n_true")), number_cell(one.get("n_pred")), *cells])
    return table(columns, rows, caption=f"Figures of each class at IoU {FOUND}")


def annotators(metrics: Mapping[str, Any]) -> Html | None:
    """How far the model agrees with each annotator, and they with each other."""
    pairs = look_up(metrics, "annotators", "pairs") or []
    if not pairs:
        return None
    model = look_up(metrics, "annotators", "prediction")
    intervals = []
    for one in pairs:
        low, high = look_up(one, "confidence_intervals", "f1_50") or (None, None)
        name = f"{one['first']}, model" if one["second"] == model else f"{one['first']}, {one['second']}"
        note = "human and model" if one["second"] == model else "two humans"
        intervals.append(Interval(name, look_up(one, "figures", "f1_50"), low, high, note))
    chart = interval_chart(intervals, title="F1 between each two", x_label=f"F1 at IoU {FOUND}")
    chosen = [name for name in SHORT_NAMES if any(name in (one.get("figures") or {}) for one in pairs)]
    columns = [
        Column("between"),
        Column("images", number=True),
        Column("objects", number=True),
        *(Column(SHORT_NAMES[name], number=True) for name in chosen),
    ]
    rows = [
        [
            Cell(join([element("bdi", one["first"]), " and ", element("bdi", one["second"])])),
            number_cell(one.get("n_images")),
            Cell(f"{one.get('n_first', 0):,} and {one.get('n_second', 0):,}", float(one.get("n_first", 0))),
            *(
                _interval_cell(look_up(one, "figures", name), look_up(one, "confidence_intervals", name))
                for name in chosen
            ),
        ]
        for one in pairs
    ]
    said = element("div", element("h3", "The ceiling"), element("p", _ceiling(metrics)), class_="card titled")
    cards = element("div", element("div", chart, class_="card"), said, class_="columns")
    return join([cards, element("div", table(columns, rows, caption="Agreement between each two"), class_="under")])


def _ceiling(metrics: Mapping[str, Any]) -> str:
    people = look_up(metrics, "annotators", "ceiling", "f1_50")
    model = look_up(metrics, "annotators", "model", "f1_50")
    if people is None or model is None:
        return "People disagree, too: no model can agree with one of them better than they agree with each other."
    end = "as well as they do" if abs(model - people) < 0.01 else "better" if model > people else "less well"
    return (
        f"People agree with each other at an F1 of {people:.3f}, which is as far as a model can be asked to. "
        f"The model agrees with them at {model:.3f}: {end}."
    )


def every_image(rows: Sequence[Mapping[str, Any]], small: Mapping[str, Html]) -> Html | None:
    """The table of all images, the worst first, with small pictures of some by their names."""
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    plain = {"name"} | {key for row in rows for key, value in row.items() if isinstance(value, int | float)}
    properties = [key for key in keys if key not in plain and any(row.get(key) for row in rows)][:_MOST_PROPERTIES]
    known = [(key, title) for key, title in _COLUMNS if key in keys]
    columns = [
        Column("image"),
        *([Column("")] if small else []),
        *(Column(name) for name in properties),
        *(Column(title, number=True) for _, title in known),
    ]
    lines = []
    for row in sorted(rows, key=_goodness)[:MOST_ROWS]:
        name = str(row.get("name", ""))
        lines.append(
            [
                Cell(element("bdi", name, class_="name"), name),
                *([Cell(small.get(name, ""), "")] if small else []),
                *(Cell(row.get(key, "")) for key in properties),
                *(number_cell(row.get(key), 2) for key, _ in known),
            ]
        )
    note = None
    if len(rows) > MOST_ROWS:
        said = f"The worst {MOST_ROWS:,} of {len(rows):,} images; per_image.csv holds all."
        note = element("p", said, class_="muted")
    return join([table(columns, lines, caption="Figures of every image", searchable=len(rows) > 12), note])


def _goodness(row: Mapping[str, Any]) -> float:
    """By which images are sorted; what cannot go wrong comes last."""
    value = row.get("f1_50")
    if not row.get("n_true") and not row.get("n_pred"):
        return math.inf
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.inf


def all_figures(metrics: Mapping[str, Any]) -> Html | None:
    """Every figure with what it means."""
    rows = []
    for figure in FIGURES:
        value = look_up(metrics, *figure.place)
        if isinstance(value, int | float):
            shown = _interval_cell(value, interval_of(metrics, figure.place))
            rows.append([Cell(figure.name), shown, Cell(figure.meaning)])
    if not rows:
        return None
    columns = [Column("figure"), Column("value", number=True), Column("what it means")]
    parts = [table(columns, rows, caption="All figures with their meaning", sortable=False)]
    definitions = metrics.get("definitions") or {}
    if definitions:
        entries = [part for name, text in definitions.items() for part in (element("dt", name), element("dd", text))]
        told = element("dl", *entries, class_="facts")
        parts.append(element("details", element("summary", "How they are defined"), told))
    return join(parts)


def _interval_cell(value: object, bounds: object) -> Cell:
    number = float(value) if isinstance(value, int | float) else math.nan
    return Cell(with_interval(value, bounds), number)
