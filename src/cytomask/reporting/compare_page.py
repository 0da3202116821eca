"""The page of a comparison: who is ahead, how sure that is, what each model gets wrong, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytomask.reporting import compare_sections as of
from cytomask.reporting.compare_pictures import Disagreement, side_by_side
from cytomask.reporting.compare_words import verdict
from cytomask.reporting.evaluation_words import KINDS
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import Section, badge, counted, tile, write_page
from cytomask.reporting.page_pictures import PictureBudget, left_out_note

__all__ = ["Disagreement", "write_compare_page"]

_LEADS = {
    "board": "The best first. Whiskers are intervals: what other images of the same kind might give.",
    "pairs": "Each two models on the same images. Read a row: how much better it is than the column's model.",
    "errors": "Every object has one fate.",
    "disagree": "Blue outlines were found; other colours went wrong. Dashed: true outlines. Click to enlarge.",
    "training": "How the models came to be.",
    "images": "Which model is best on which image. Click on a heading to sort.",
}


def write_compare_page(
    path: str | Path,
    table: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[Disagreement] = (),
    *,
    command: str | None = None,
) -> None:
    """Write the page: one file that works without a network.

    Parameters
    ----------
    path
        The file.
    table
        What ``comparison.json`` holds.
    rows
        What ``per_image.csv`` holds.
    pictures
        The images on which models disagree most.
    command
        The command that was given, to stand at the foot of the page; None for that of this process, if it is
        ``cytomask``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    grade, heading, told = verdict(table)
    bodies = (
        ("board", "Leaderboard", of.leaderboard(table)),
        ("pairs", "Is the difference real?", of.pairs(table)),
        ("errors", "What goes wrong", of.error_kinds(table)),
        ("disagree", "Where they disagree most", _disagreements(table, pictures)),
        ("sizes", "Small and large objects", of.by_size(table)),
        ("classes", "Classes", of.by_class(table)),
        ("groups", "Kinds of images", of.by_group(table)),
        ("costs", "What they cost", of.costs(table)),
        ("training", "Training", of.training(table)),
        ("images", "Every image", of.every_image(table, rows)),
    )
    sections = [Section(name, title, body, _LEADS.get(name)) for name, title, body in bodies if body is not None]
    write_page(
        path,
        title=f"Comparison: {heading}",
        kicker="comparison",
        heading=heading,
        lead=told,
        top=_top(table, grade),
        sections=sections,
        command=command,
    )


def _top(table: Mapping[str, Any], grade: str) -> Html:
    models, rank_by = table["models"], table["rank_by"]
    tiles = []
    for model in models[:4]:
        value, bounds = model["figures"][rank_by], model["confidence_intervals"][rank_by]
        told: list[object] = [table["figures"][rank_by]]
        if bounds and None not in bounds:
            level = f"{100 * table['confidence_intervals']['level']:g} % interval"
            told.insert(0, element("span", f"{bounds[0]:.3f} to {bounds[1]:.3f}", class_="range", title=level))
        shown = "–" if value is None or math.isnan(value) else f"{value:.3f}"
        tiles.append(tile(shown, element("bdi", model["name"]), join(told)))
    label = {"fine": "clear", "note": "open", "warning": "careful"}[grade]
    # Of too few images the lead tells already.
    said = {
        "fine": "The best model is better than the next by more than chance.",
        "note": "The two best cannot be told apart on these images." if len(models) > 1 else None,
    }.get(grade)
    notices = [element("p", f"{notice[:1].upper()}{notice[1:]}.") for notice in table["notices"]]
    if grade == "warning" and not notices:
        notices = [element("p", "Models have no image in common.")]
    box = element(
        "div",
        badge(grade, label),
        element("div", element("p", said) if said else None, *notices),
        class_=f"verdict {grade}",
    )
    facts = [
        element("dt", "Data"), element("dd", element("code", element("bdi", table["data"]))),
        *((element("dt", "Split"), element("dd", element("code", table["split"]))) if table["split"] else ()),
        element("dt", "Images"),
        element("dd", f"{counted(table['n_images'], 'image')}, {counted(table['n_true'], 'true object')}"),
    ]  # fmt: skip
    return join([element("div", *tiles, class_="tiles"), box, element("dl", *facts, class_="facts")])


def _disagreements(table: Mapping[str, Any], pictures: Sequence[Disagreement]) -> Html | None:
    budget = PictureBudget()
    title = str(table["figures"][table["rank_by"]]).split(",")[0].lower()
    cards = [card for k, one in enumerate(pictures) if (card := side_by_side(one, title, k, budget)) is not None]
    if not cards:
        return None
    legend = of.kinds_legend(list(KINDS))
    return join([legend, element("div", *cards, class_="under"), left_out_note(budget)])
