"""Sections of the report of a run that tell how good it is: figures at the top, groups, pictures, measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytomask.reporting import evaluation_sections as of
from cytomask.reporting.distribution_chart import distribution_chart
from cytomask.reporting.evaluation_page import line_key
from cytomask.reporting.evaluation_words import KINDS, look_up
from cytomask.reporting.figures_svg import Interval, interval_chart
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import counted
from cytomask.reporting.page_pictures import PictureBudget, layered_figure, left_out_note, picture_figure
from cytomask.reporting.page_tables import Cell, Column, number_cell, table
from cytomask.reporting.run_facts import RunFacts, StagePicture

_KINDS_OF_FILES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
#: Files of pictures that are larger than this are not read.
_MOST_BYTES = 8_000_000
#: Measurements of fewer objects on either side are not drawn.
_FEWEST_DRAWN = 10


def figures(metrics: Mapping[str, Any]) -> Html | None:
    """All figures with their intervals and what they mean."""
    return of.all_figures(metrics)


def integrated(metrics: Mapping[str, Any]) -> Html | None:
    """Precision integrated over the IoU that is asked for, of all images and of each group."""
    found = metrics.get("integrated_ap") or {}
    if found.get("overall") is None:
        return None
    bounds = look_up(metrics, "confidence_intervals", "integrated_ap") or {}
    rows = [Interval("all images", found["overall"], *_ends(bounds.get("overall")))]
    for column, one in (found.get("groups") or {}).items():
        of_column = look_up(bounds, "groups", column) or {}
        mean = Interval(f"mean over {column}", one.get("mean"), *_ends(of_column.get("mean")))
        groups = look_up(metrics, "by_group", column) or {}
        rows.append(mean)
        for value, score in one["values"].items():
            note = counted(int(groups[value]["n_images"]), "image") if value in groups else ""
            rows.append(Interval(value, score, *_ends(look_up(of_column, "values", value)), note))
    chart = interval_chart(
        rows, title="Precision integrated over the fit, with its interval", x_label="threshold-integrated mAP"
    )
    told = element(
        "p",
        "Precision is added up over the recall that is lost while the overlap (IoU) that is asked for grows from 0 to "
        "1 in 20 steps; 1 is perfect. The mean over groups weighs every group the same, however many images it has. "
        "This figure is called mAP by some nucleus pipelines; it uses no scores and is not COCO's AP.",
    )
    said = element("div", element("h3", "What it is"), told, class_="card titled")
    return element("div", element("div", chart, class_="card"), said, class_="columns")


def _ends(bounds: object) -> tuple[float | None, float | None]:
    if isinstance(bounds, Sequence) and len(bounds) == 2 and None not in bounds:
        return float(bounds[0]), float(bounds[1])
    return None, None


def layered_pictures(facts: RunFacts, group: str, budget: PictureBudget) -> Html | None:
    """The best or the worst images, each with truth, prediction and errors as layers."""
    cards = []
    for number, (folder, picture) in enumerate(facts.of_group(group)[: facts.shown]):
        figure = _layered(folder, picture, f"{group}-{number}", group, budget)
        if figure is None:
            continue
        head = element("h3", element("bdi", picture.name))
        cards.append(element("article", head, _chips(picture), figure, class_="card"))
    if not cards:
        return left_out_note(budget)
    return join([line_key(), element("div", *cards, class_="worst"), left_out_note(budget)])


def gallery(facts: RunFacts, group: str, budget: PictureBudget, style: str = "gallery") -> Html | None:
    """Pictures beside each other; each opens large."""
    shown = []
    for folder, picture in facts.of_group(group):
        source = _source(folder / picture.file, budget)
        if source is not None:
            caption = join([element("bdi", picture.name), f": {picture.caption}" if picture.caption else ""])
            size = (picture.height, picture.width)
            alt = f"{picture.name}: {picture.caption or group}"
            shown.append(picture_figure(source, size, alt, caption, group=group))
    if not shown:
        return left_out_note(budget)
    body = element("div", *shown, class_=style)
    return join([body, left_out_note(budget)])


def _layered(folder: Path, picture: StagePicture, name: str, group: str, budget: PictureBudget) -> Html | None:
    used, size = budget.used, (picture.height, picture.width)
    alt = f"{picture.name} with outlines of found, missed and false objects"
    if picture.ground is not None and picture.layers:
        base = _source(folder / picture.ground, budget)
        layers = [
            (key, title, source)
            for key, title, file in picture.layers
            if base is not None and (source := _source(folder / file, budget)) is not None
        ]
        if base is not None and len(layers) == len(picture.layers):
            return layered_figure(base, layers, size, alt, name=name, shown=picture.layers[-1][0], group=group)
        budget.used = used
        return None
    source = _source(folder / picture.file, budget)
    return None if source is None else picture_figure(source, size, alt, group=group)


def _source(path: Path, budget: PictureBudget) -> str | None:
    kind = _KINDS_OF_FILES.get(path.suffix.lower())
    try:
        if kind is None or path.stat().st_size > _MOST_BYTES:
            return None
        return budget.link(path.read_bytes(), kind)
    except OSError:
        return None


def _chips(picture: StagePicture) -> Html:
    chips = []
    if "f1" in picture.figures:
        chips.append(element("li", "F1 ", element("b", f"{picture.figures['f1']:.2f}")))
    if "true" in picture.counts:
        chips.append(element("li", counted(picture.counts["true"], "true object")))
    for name, (title, _) in KINDS.items():
        if picture.counts.get(name):
            chips.append(element("li", of.swatch(name), element("b", f"{picture.counts[name]:,}"), f" {title.lower()}"))
    if picture.caption:
        chips.append(element("li", picture.caption))
    return element("ul", *chips, class_="chips")


def measurements(facts: RunFacts) -> Html | None:
    """How areas, diameters, shapes and brightness of predicted objects compare with the annotated ones."""
    properties = (facts.measurements or {}).get("properties") or []
    cards, rows = [], []
    for one in properties:
        unit = f", {one['unit']}" if one.get("unit") else ""
        several = len(one["classes"]) > 1
        for name, found in one["classes"].items():
            title = f"{one['name'].capitalize()}{f' of {name}' if several else ''}"
            chart = distribution_chart(
                found, title=title, x_label=f"{one['name']}{unit}", logarithmic=bool(one.get("logarithmic"))
            )
            if min(found[side]["n"] for side in ("true", "predicted")) >= _FEWEST_DRAWN:
                cards.append(element("div", chart, class_="card"))
            rows.append([Cell(f"{title}{unit}"), *_medians(found)])
    if not rows:
        return None
    columns = [
        Column("measurement"),
        Column("median, true", number=True),
        Column("median, predicted", number=True),
        Column("difference", number=True),
        Column("true", number=True, help="objects that do not touch the border"),
        Column("predicted", number=True, help="objects that do not touch the border"),
    ]
    listing = table(columns, rows, caption="Medians of true and predicted objects", sortable=False)
    drawn = element("div", *cards, class_="columns two") if cards else None
    return join([drawn, element("div", listing, class_="under")])


def _medians(found: Mapping[str, Any]) -> list[Cell]:
    true, predicted = ((found[side].get("quartiles") or [None] * 3)[1] for side in ("true", "predicted"))
    cells = [_rounded(true), _rounded(predicted)]
    if true and predicted is not None:
        part = 100 * (predicted / true - 1)
        cells.append(Cell(f"{part:+.1f} %".replace("-", "−"), part))
    else:
        cells.append(number_cell(None))
    return [*cells, number_cell(found["true"]["n"]), number_cell(found["predicted"]["n"])]


def _rounded(value: float | None) -> Cell:
    if value is None:
        return number_cell(None)
    return Cell(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}", float(value))
