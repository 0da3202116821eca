"""Sections of the page of a comparison. Each gives None where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cytomask.reporting.compare_words import COSTS, LEVEL, cost_text, difference, p_text, pair_of
from cytomask.reporting.evaluation_sections import kinds_legend
from cytomask.reporting.evaluation_words import KINDS, with_interval
from cytomask.reporting.figures_svg import Interval, Line, bar_chart, interval_chart, line_chart
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import counted
from cytomask.reporting.page_tables import Cell, Column, number_cell, table
from cytomask.reporting.parts_svg import stacked_bar

#: So many models are told apart by colour in one chart.
_MOST_SERIES = 6
#: So many images are in the table; per_image.csv holds all of them.
_MOST_ROWS = 1000
_SHORT = {
    "accuracy_50": "Accuracy, IoU 0.50", "mean_accuracy_50_90": "Accuracy, 0.50–0.90", "f1_50": "F1",
    "pq_50": "PQ", "aji": "AJI", "pixel_iou": "Pixel IoU, all", "pixel_iou_per_image": "Pixel IoU, per image",
    "coco_ap": "COCO AP", "coco_ap50": "COCO AP50",
}  # fmt: skip

__all__ = [
    "by_class", "by_group", "by_size", "costs", "error_kinds", "every_image", "kinds_legend", "leaderboard", "pairs",
    "training",
]  # fmt: skip


def leaderboard(told: Mapping[str, Any]) -> Html:
    """The figure by which models are ranked with its intervals, and all figures of all models."""
    models, rank_by = told["models"], told["rank_by"]
    rows = []
    for model in models:
        low, high = model["confidence_intervals"][rank_by] or (None, None)
        note = model["family"] or model["kind"]
        rows.append(Interval(model["name"], model["figures"][rank_by], low, high, note))
    title = str(told["figures"][rank_by])
    ends = [end for row in rows for end in (row.value, row.high) if end is not None]
    top = min(1.0, math.ceil(10 * max([*ends, 0.05])) / 10)
    chart = interval_chart(rows, title=title, x_label=title, x_range=(0.0, top))
    order = [rank_by, *(name for name in told["figures"] if name != rank_by)]
    names = [name for name in order if any(m["figures"].get(name) is not None for m in models)]
    columns = [
        Column("", number=True),
        Column("model"),
        *(Column(_SHORT.get(name, name), number=True, help=told["figures"][name]) for name in names),
        Column("images", number=True),
    ]
    lines = []
    for rank, model in enumerate(models, start=1):
        cells = [_figure_cell(model, name) for name in names]
        lines.append(
            [
                number_cell(rank),
                Cell(element("bdi", model["name"]), model["name"]),
                *cells,
                number_cell(model["n_images"]),
            ]
        )
    board = table(columns, lines, caption="All figures of all models", head_column=False)
    return join([element("div", chart, class_="card"), element("div", board, class_="under")])


def pairs(told: Mapping[str, Any]) -> Html | None:
    """A matrix of differences in the figure by which models are ranked, and a table of all."""
    models = [model["name"] for model in told["models"]]
    if len(models) < 2 or not told["pairs"]:
        return None
    columns = [Column("better by …"), *(Column(f"than {name}") for name in models)]
    rows = []
    for first in models:
        cells = [Cell(_name(first), first)]
        for second in models:
            pair = None if first == second else pair_of(told, told["rank_by"], first, second)
            cells.append(Cell("") if pair is None else _pair_cell(pair))
        rows.append(cells)
    title = told["figures"][told["rank_by"]]
    matrix = table(columns, rows, caption=f"Differences in {title}", sortable=False)
    smallest = told["smallest_p"]
    meaning = (
        "In brackets: 95 % interval of the difference, from images drawn again (paired bootstrap). p: how often "
        "exchanging the two models' results at random, image by image, makes a difference as large (permutation test), "
        f"corrected for {counted(len(models) * (len(models) - 1) // 2, 'pair')} (Holm). "
        f"{counted(told['n_images'], 'image')} can give no p below {smallest:.2g}."
    ).replace("95 %", f"{100 * told['confidence_intervals']['level']:g} %")
    every = table(
        [
            *(Column(title) for title in ("figure", "first", "second", "first less second")),
            *(Column(title, number=True) for title in ("p", "corrected p", "first better on", "second on")),
        ],
        [
            [
                Cell(_SHORT.get(pair["figure"], pair["figure"])),
                Cell(_name(pair["first"]), pair["first"]),
                Cell(_name(pair["second"]), pair["second"]),
                Cell(difference(pair), pair["difference"] if pair["difference"] is not None else math.nan),
                number_cell(pair["p"], 4),
                number_cell(pair["p_holm"], 4),
                number_cell(pair["first_better"]),
                number_cell(pair["second_better"]),
            ]
            for pair in told["pairs"]
        ],
        caption="Differences of each two models in every figure",
        head_column=False,
    )
    more = element("details", element("summary", "All figures of all pairs"), every)
    return join([matrix, element("p", meaning, class_="muted under"), more])


def _pair_cell(pair: Mapping[str, Any]) -> Cell:
    sure = pair["p_holm"] is not None and pair["p_holm"] < LEVEL
    shown = difference(pair)
    told = f"{p_text(pair['p_holm'])}; better on {pair['first_better']}, worse on {pair['second_better']}"
    parts = [element("b", shown) if sure else shown, element("br"), element("small", told)]
    return Cell(join(parts), pair["difference"] if pair["difference"] is not None else math.nan)


def error_kinds(told: Mapping[str, Any]) -> Html | None:
    """What became of the true objects, and what the predicted ones are, a bar for each model."""
    cards = []
    seen: set[str] = set()
    for side, title in (("truth", "What became of the true objects"), ("prediction", "What the predicted objects are")):
        bars: list[Html] = []
        for model in told["models"]:
            counts = model["error_kinds"][side]
            if sum(counts.values()):
                seen |= {kind for kind in counts if counts[kind]}
                parts = [(KINDS[kind][0], int(counts[kind]), f"kind-{kind}") for kind in KINDS if kind in counts]
                bars.append(element("p", _name(model["name"]), class_="bar-name"))
                bars.append(stacked_bar(parts, title=f"{title}: {model['name']}"))
        if bars:
            cards.append(element("div", element("h3", title), *bars, class_="card"))
    if not cards:
        return None
    kinds = [
        kind for kind in KINDS if any(kind in m["error_kinds"][s] for m in told["models"] for s in m["error_kinds"])
    ]
    columns = [Column("model"), *(Column(KINDS[kind][0], number=True, help=KINDS[kind][1]) for kind in kinds)]
    rows = []
    for model in told["models"]:
        both = model["error_kinds"]["prediction"] | model["error_kinds"]["truth"]
        rows.append([Cell(_name(model["name"]), model["name"]), *(number_cell(both.get(kind)) for kind in kinds)])
    counts_table = table(columns, rows, caption="Objects by what became of them; not real: predicted ones")
    legend = kinds_legend([kind for kind in KINDS if kind in seen])
    return join(
        [
            element("div", *cards, class_="columns even"),
            element("div", legend, class_="under"),
            element("div", counts_table, class_="under"),
        ]
    )


def by_size(told: Mapping[str, Any]) -> Html | None:
    """The part of the objects of each size that each model finds."""
    models = [m for m in told["models"] if m["by_size"]]
    bins = models[0]["by_size"] if models else []
    # An annotator of some of the images has other objects.
    models = [m for m in models if [b["diameter_px"] for b in m["by_size"]] == [b["diameter_px"] for b in bins]]
    if len(bins) < 2:
        return None
    names = ["–".join(f"{end:.3g}" for end in one["diameter_px"]) for one in bins]
    notes = [f"n = {one['n']:,}" for one in bins]
    charts = [
        bar_chart(
            names, [(m["name"], [one[key] for one in m["by_size"]]) for m in models[:_MOST_SERIES]], title=title,
            x_label="diameter of the true object, px", y_label="part of 1", notes=notes,
        )
        for key, title in (("recall", "Found, by size"), ("mean_iou", "Outline overlap, by size"))
    ]  # fmt: skip
    return element("div", *(element("div", chart, class_="card") for chart in charts), class_="columns even")


def by_class(told: Mapping[str, Any]) -> Html | None:
    """F1 and mean accuracy of each class."""
    names = list(dict.fromkeys(name for m in told["models"] for name in m["by_class"]))
    if not names:
        return None
    columns = [Column("class"), Column("model"), Column("true", number=True), Column("predicted", number=True)]
    columns += [Column("F1", number=True), Column("mean accuracy", number=True)]
    rows = [
        [
            Cell(_name(name), name),
            Cell(_name(m["name"]), m["name"]),
            *(number_cell(m["by_class"][name][key]) for key in ("n_true", "n_pred", "f1_50", "mean_accuracy_50_90")),
        ]
        for name in names
        for m in told["models"]
        if name in m["by_class"]
    ]
    return table(columns, rows, caption="Figures of each class and model", head_column=False)


def by_group(told: Mapping[str, Any]) -> Html | None:
    """F1 of the images that share a property, for each model."""
    parts = []
    for column in dict.fromkeys(name for m in told["models"] for name in m["by_group"]):
        models = [m for m in told["models"] if column in m["by_group"]]
        values = list(dict.fromkeys(value for m in models for value in m["by_group"][column]))
        columns = [Column(column), Column("images", number=True), *(Column(m["name"], number=True) for m in models)]
        rows = []
        for value in values:
            groups = [m["by_group"][column].get(value) for m in models]
            n = max(group["n_images"] for group in groups if group)
            rows.append([Cell(_name(value), value), number_cell(n), *(_group_cell(group) for group in groups)])
        parts.append(table(columns, rows, caption=f"F1 at IoU 0.50 by {column}, with its interval"))
    return join(element("div", part, class_="under") for part in parts) if parts else None


def _group_cell(group: Mapping[str, Any] | None) -> Cell:
    if group is None:
        return number_cell(None)
    value = group["figures"].get("f1_50")
    bounds = (group.get("confidence_intervals") or {}).get("f1_50")
    return Cell(with_interval(value, bounds), value if isinstance(value, float) else math.nan)


def costs(told: Mapping[str, Any]) -> Html | None:
    """Time, memory and size."""
    models = [m for m in told["models"] if m["kind"] == "model"]
    known = [(key, title) for key, title in COSTS if any(m[key] is not None for m in models)]
    if not known:
        return None
    columns = [Column("model"), Column("family"), *(Column(title, number=True) for _, title in known)]
    rows = [
        [Cell(element("bdi", m["name"]), m["name"]), Cell(m["family"] or "–")]
        + [Cell(cost_text(key, m[key]), m[key] if m[key] is not None else math.nan) for key, _ in known]
        for m in models
    ]
    how = (
        "Prediction: all images one after the other on this computer, reading not counted, after a first look that is "
        "not counted either. Memory: the most that a process of its own had (resident, Python and PyTorch included) "
        "while it predicted the largest image; memory of a GPU is not in it."
    )
    return join([table(columns, rows, caption="What each model costs"), element("p", how, class_="muted under")])


def training(told: Mapping[str, Any]) -> Html | None:
    """Validation score and training loss over the epochs."""
    charts = []
    for key, title in (
        ("val/score", "Validation score"),
        ("train/loss", "Training loss"),
        ("val/loss", "Validation loss"),
    ):
        lines = [
            Line(m["name"], m["training"]["epoch"], m["training"][key])
            for m in told["models"]
            if m["training"] and _known(m["training"].get(key))
        ][:_MOST_SERIES]
        if not lines:
            continue
        values = [v for line in lines for v in _known(line.y)]
        last = max(max(line.x) for line in lines)
        low, high = (0.0, max(0.1, min(1.0, 1.1 * max(values)))) if key == "val/score" else (0.0, 1.05 * max(values))
        charts.append(
            line_chart(
                lines, title=title, x_label="epoch", y_label=title.lower(), x_range=(0.0, max(1.0, float(last))),
                y_range=(min(low, *values), high or 1.0),
            )
        )  # fmt: skip
    if not charts:
        return None
    note = "Losses of different families mean different things: only the score can be compared between them."
    cards = element("div", *(element("div", chart, class_="card") for chart in charts), class_="columns")
    return join([cards, element("p", note, class_="muted under")])


def _known(values: Sequence[float | None] | None) -> list[float]:
    return [v for v in values or () if v is not None and math.isfinite(v)]


def every_image(told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Html | None:
    """The figure of each image and model; the best of each image in bold."""
    models = [m["name"] for m in told["models"]]
    values: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        values.setdefault(str(row["name"]), {})[str(row["model"])] = row
    if not values:
        return None
    best = {m: sum(v[m]["rank"] == 1 for v in values.values() if m in v) for m in models}
    rank_by = told["rank_by"]
    # The mean of single images is, of one image, the figure itself.
    key = "pixel_iou" if rank_by == "pixel_iou_per_image" else rank_by
    columns = [Column("image"), Column("true", number=True), *(Column(m, number=True) for m in models)]
    columns.append(Column("best"))
    lines = []
    for name, of_image in list(values.items())[:_MOST_ROWS]:
        cells = []
        for m in models:
            one = of_image.get(m)
            cell = number_cell(None if one is None else one[key])
            if one is not None and one["rank"] == 1 and len(of_image) > 1:
                cell = Cell(element("b", cell.content), cell.value)
            cells.append(cell)
        firsts = [m for m in models if m in of_image and of_image[m]["rank"] == 1]
        n_true = next(iter(of_image.values()))["n_true"]
        shown = _name(firsts[0]) if len(firsts) == 1 else "several"
        lines.append([Cell(_name(name), name), number_cell(n_true), *cells, Cell(shown, firsts[0])])
    wins = ", ".join(f"{m} on {best[m]}" for m in models)
    parts = [element("p", f"Best (or as good as the best): {wins} of {counted(len(values), 'image')}.")]
    if len(values) > _MOST_ROWS:
        parts.append(element("p", f"The first {_MOST_ROWS:,} images; per_image.csv holds all.", class_="muted"))
    caption = f"{told['figures'][rank_by]} of every image"
    return join([*parts, table(columns, lines, caption=caption, searchable=len(values) > 12)])


def _figure_cell(model: Mapping[str, Any], name: str) -> Cell:
    value = model["figures"].get(name)
    bounds = model["confidence_intervals"].get(name)
    return Cell(with_interval(value, bounds), value if isinstance(value, float) else math.nan)


def _name(name: object) -> Html:
    return element("bdi", name, class_="name")
