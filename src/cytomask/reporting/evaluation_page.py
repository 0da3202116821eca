"""The page of an evaluation: how well the model does, how far to trust it, and what goes wrong, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytomask.reporting import evaluation_sections as of
from cytomask.reporting.evaluation_pictures import EvaluationPicture, close_views, large_figure, thumbnail
from cytomask.reporting.evaluation_words import (
    FIGURES,
    FOUND,
    KINDS,
    headline,
    interval_of,
    look_up,
    plural_of_objects,
    trust,
)
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import Section, badge, counted, tile, write_page
from cytomask.reporting.page_pictures import MOST_BYTES, PictureBudget, left_out_note
from cytomask.reporting.parts_svg import hundred_dots, percent, shares_of_hundred, stacked_bar

__all__ = ["EvaluationPicture", "write_evaluation_page"]

#: So many figures stand at the top.
_TILES = 4
#: The part of the room for pictures that large ones may take.
_LARGE_PART = 0.75
_LEADS = {
    "curves": "The fit that is asked for grows to the right. A curve that stays high means tight outlines.",
    "errors": "Every object has one fate. A click on a picture shows it large.",
    "worst": "Click or press enter to enlarge. There the wheel zooms, 1 to 4 change the layer, arrows turn the page.",
    "images": "The worst first. Click on a heading to sort.",
    "annotators": "Where people disagree, no model can agree with all of them.",
}


def write_evaluation_page(
    path: str | Path,
    metrics: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[EvaluationPicture] = (),
    *,
    command: str | None = None,
) -> None:
    """Write a page about an evaluation: one file that works without a network.

    Parameters
    ----------
    path
        The file.
    metrics
        What ``metrics.json`` holds. A part of the page is left out where its figures are.
    rows
        What ``per_image.csv`` holds, a dictionary for each image.
    pictures
        The images that went worst, the worst first.
    command
        The command that was given, to stand at the foot of the page; None for that of this process, if it is
        ``cytomask``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    # The large pictures are what people come for: they get most of the room, close views the rest.
    budget = PictureBudget(int(_LARGE_PART * MOST_BYTES))
    small = {picture.name: thumb for picture in pictures if (thumb := thumbnail(picture, budget)) is not None}
    worst = _worst(pictures, budget)
    budget.most = MOST_BYTES
    bodies = (
        ("errors", "What goes wrong", _error_kinds(metrics, pictures, budget)),
        ("worst", "The images that went worst", worst),
        ("curves", "How strict may one be?", of.curves(metrics)),
        ("sizes", "Small and large objects", of.by_size(metrics)),
        ("groups", "Kinds of images", of.by_group(metrics)),
        ("classes", "Classes", of.classes(metrics)),
        ("annotators", "Model and people", of.annotators(metrics)),
        ("images", "Every image", of.every_image(rows, small)),
        ("figures", "All figures", of.all_figures(metrics)),
    )
    sections = [Section(name, title, body, _LEADS.get(name)) for name, title, body in bodies if body is not None]
    heading, lead = headline(metrics)
    write_page(
        path,
        title=f"Evaluation: {heading}",
        kicker="evaluation",
        heading=heading,
        lead=lead,
        top=_top(metrics),
        sections=sections,
        command=command,
    )


def _top(metrics: Mapping[str, Any]) -> Html:
    grade, said = trust(metrics)
    notices = [element("p", f"{notice[:1].upper()}{notice[1:]}.") for notice in metrics.get("notices") or ()]
    label = {"fine": "solid", "note": "fair", "warning": "careful"}[grade]
    verdict = element(
        "div",
        badge(grade, label),
        element("div", *(element("p", sentence) for sentence in said), *notices),
        class_=f"verdict {grade}",
    )
    tiles = element("div", *headline_tiles(metrics), class_="tiles")
    return join([hundreds(metrics), tiles, verdict, _sources(metrics)])


def headline_tiles(metrics: Mapping[str, Any]) -> list[Html]:
    """The most telling figures with their intervals."""
    tiles = []
    level = percent(float(look_up(metrics, "confidence_intervals", "level") or 0.95))
    for figure in FIGURES[:_TILES]:
        value, bounds = look_up(metrics, *figure.place), interval_of(metrics, figure.place)
        if not isinstance(value, int | float):
            continue
        as_part = figure.name != "F1"
        told: list[object] = [figure.meaning]
        if bounds is not None:
            low, high = (f"{100 * b:.0f}" if as_part else f"{b:.3f}" for b in bounds)
            unit = " %" if as_part else ""
            told = [element("span", f"{low} to {high}{unit}", class_="range", title=f"{level} interval"), *told]
        tiles.append(tile(percent(value) if as_part else f"{value:.3f}", figure.name, join(told)))
    return tiles


def hundreds(metrics: Mapping[str, Any]) -> Html | None:
    """A hundred true and a hundred predicted objects, and what became of them."""
    at = look_up(metrics, "matching", "pooled", FOUND) or {}
    things = plural_of_objects(metrics)
    cards = []
    for side, key, count, whole, good, bad in (
        ("truth", "recall", at.get("n_true"), f"true {things}", "found", "missed"),
        ("prediction", "precision", at.get("n_pred"), f"{things} of the model", "right", "not real"),
    ):
        value = at.get(key)
        if not count or value is None:
            continue
        kinds = look_up(metrics, "error_kinds", side) or {}
        total = sum(kinds.values())
        lost = kinds.get("missed", 0) + kinds.get("spurious", 0)
        parts = [(good, float(value), "yes")]
        if total:
            between = max(0.0, 1 - value - lost / total)
            parts += [("badly outlined, split or merged", between, "partly"), (bad, 1 - value - between, "no")]
        else:
            parts += [("found by no outline that fits" if side == "truth" else "wrong", 1 - value, "no")]
        numbers = shares_of_hundred([part for _, part, _ in parts])
        shown = [(number, name) for number, (name, _, _) in zip(numbers, parts) if number]
        told = ", ".join(f"{number} {name}" for number, name in shown)
        words = [element("span", element("b", str(number)), f" {name}") for number, name in shown]
        drawn = hundred_dots(parts, title=f"Of 100 {whole}: {told}")
        caption = element("p", f"Of 100 {whole}: ", join(words, ", "), ".")
        cards.append(element("div", drawn, caption, class_="card hundred"))
    return element("div", *cards, class_="columns even") if cards else None


def _sources(metrics: Mapping[str, Any]) -> Html | None:
    facts: list[Html] = []
    for key, title in (("predictions", "Predictions"), ("truth", "Truth"), ("split", "Split")):
        if metrics.get(key):
            facts += [element("dt", title), element("dd", element("code", element("bdi", metrics[key])))]
    return element("dl", *facts, class_="facts") if facts else None


def _error_kinds(
    metrics: Mapping[str, Any], pictures: Sequence[EvaluationPicture], budget: PictureBudget
) -> Html | None:
    counts, things = metrics.get("error_kinds") or {}, plural_of_objects(metrics)
    bars = error_bars(metrics)
    if bars is None:
        return None
    cards = []
    for name, (title, meaning) in KINDS.items():
        side = "truth" if name in (counts.get("truth") or {}) else "prediction"
        of_side = counts.get(side) or {}
        if name == "hit" or not of_side.get(name):
            continue
        views = close_views(pictures, name, budget)
        whole = f"true {things}" if side == "truth" else f"{things} of the model"
        head = element(
            "div",
            of.swatch(name),
            element("h3", title),
            element("span", f"{of_side[name]:,} of {sum(of_side.values()):,} {whole}", class_="count"),
            class_="kind-head",
        )
        gallery = element("div", *views, class_="gallery small") if views else None
        cards.append(element("article", head, element("p", meaning), gallery, class_="card"))
    key = line_key() if pictures and cards else None
    return join([bars, key, *cards, left_out_note(budget)])


def error_bars(metrics: Mapping[str, Any]) -> Html | None:
    """What became of all true and of all predicted objects, a bar each."""
    counts, things = metrics.get("error_kinds") or {}, plural_of_objects(metrics)
    bars = [
        _bar(title, counts[side])
        for side, title in (
            ("truth", f"What became of the true {things}"),
            ("prediction", f"What the {things} of the model are"),
        )
        if sum((counts.get(side) or {}).values())
    ]
    return element("div", *bars, class_="columns even") if bars else None


def _bar(title: str, counts: Mapping[str, int]) -> Html:
    """All objects of a side in one bar, with the numbers beneath."""
    total = sum(counts.values())
    shown = {name: int(counts[name]) for name in KINDS if name in counts}
    entries = (
        element("li", of.swatch(name), f"{KINDS[name][0]} ", element("b", f"{n:,}"), f" ({percent(n / total)})")
        for name, n in shown.items()
    )
    bar = stacked_bar([(KINDS[name][0], n, f"kind-{name}") for name, n in shown.items()], title=title)
    return element("div", element("h3", title), bar, element("ul", *entries, class_="kinds"), class_="card")


def line_key() -> Html:
    """What lines and colours mean in the pictures."""
    entries = [element("li", _line(f"stroke-{name}"), KINDS[name][0].lower()) for name in KINDS]
    entries.append(element("li", _line("stroke-plain dashed"), "dashed: true outline"))
    entries.append(element("li", _line("stroke-plain"), "solid: the model's"))
    return element("ul", *entries, class_="swatches", aria_label="What the lines in the pictures mean")


def _line(style: str) -> Html:
    drawn = element("line", x1=1, x2=31, y1=8, y2=8, class_=style)
    return element("svg", drawn, viewBox="0 0 32 16", aria_hidden="true")


def _worst(pictures: Sequence[EvaluationPicture], budget: PictureBudget) -> Html | None:
    cards = []
    for place, picture in enumerate(pictures):
        figure = large_figure(picture, str(place), budget)
        if figure is None:
            continue
        head = element("h3", element("bdi", picture.name))
        cards.append(element("article", head, _chips(picture), figure, class_="card", id=f"worst-{place}"))
    return join([line_key(), element("div", *cards, class_="worst")]) if cards else None


def _chips(picture: EvaluationPicture) -> Html:
    """What stands above a picture: F1, and how many objects of each kind there are."""
    chips = [
        element("li", f"{title} ", element("b", f"{picture.figures[name]:.2f}"))
        for name, title in (("f1", "F1"), ("accuracy", "accuracy"))
        if name in picture.figures
    ][:1]
    counts = picture.counts()
    chips.append(element("li", counted(len(picture.truth), "true object")))
    for name, (title, _) in KINDS.items():
        if counts.get(name):
            chips.append(element("li", of.swatch(name), element("b", f"{counts[name]:,}"), f" {title.lower()}"))
    if picture.window is not None:
        y0, x0, y1, x1 = picture.window
        chips.append(element("li", f"shown: y {y0:,} to {y1:,}, x {x0:,} to {x1:,}"))
    return element("ul", *chips, class_="chips")
