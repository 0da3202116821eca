"""A data set at a glance: its splits and classes, the sizes and numbers of its objects, and what its images are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cytomask.reporting.figures_svg import Interval, histogram, interval_chart
from cytomask.reporting.markup import Html, element
from cytomask.reporting.page_tables import Cell, Column, number_cell, table

#: Statistics of the images that are told in words, by the name of the thing.
_FACTS = (
    ("how_split", "Splits"),
    ("shapes", "Image sizes (y by x, px)"),
    ("dtypes", "Number types"),
    ("channels", "Channels"),
    ("pixel_size", "Pixel size"),
)
#: So many different values of a fact are told.
_VALUES = 12


def data_overview(statistics: Mapping[str, Any]) -> Html:
    """Show the statistics of a data set as cards.

    Parameters
    ----------
    statistics
        As in :class:`~cytomask.data.check.finding.CheckReport`; what is missing is left out.

    Examples
    --------
    >>> data_overview({"images": {"all": 12, "train": 12}}).count('data-value="12.0"')
    1
    """
    diameter, per_image = statistics.get("diameter"), statistics.get("objects_per_image")
    bodies = [
        _diameters(diameter) if isinstance(diameter, Mapping) else None,
        _splits_table(statistics),
        _classes(statistics.get("classes")),
        _per_image(per_image) if isinstance(per_image, Mapping) else None,
        _facts(statistics),
        *(_settings(str(family), chosen) for family, chosen in statistics.get("settings", {}).items()),
    ]
    return element("div", *(element("div", body, class_="card") for body in bodies if body), class_="columns pair")


def whole_count(counts: Any) -> int | None:
    """How many there are in all splits together."""
    if isinstance(counts, Mapping):
        return int(counts.get("all", sum(counts.values())))
    return int(counts) if isinstance(counts, int) else None


def split_counts(counts: Any) -> dict[str, int]:
    """How many there are in each split."""
    if not isinstance(counts, Mapping):
        return {}
    return {str(split): int(count) for split, count in counts.items() if split != "all"}


def _splits_table(statistics: Mapping[str, Any]) -> Html | None:
    both = ("images", "objects")
    splits = list(dict.fromkeys(split for what in both for split in split_counts(statistics.get(what))))
    if not splits:
        return None
    columns = [Column("split"), Column("images", number=True), Column("objects", number=True)]
    rows = [
        [Cell(split), *(number_cell(split_counts(statistics.get(what)).get(split)) for what in both)]
        for split in splits
    ]
    if len(rows) > 1:
        rows.append([Cell("together"), *(number_cell(whole_count(statistics.get(what))) for what in both)])
    listing = table(columns, rows, caption="Images and objects of each split", sortable=False)
    return element("div", element("h3", "Splits"), listing, class_="titled")


def _classes(classes: Any) -> Html | None:
    """Objects of each class and split; nothing where there is one class, of which the splits tell."""
    if not isinstance(classes, Mapping) or len(classes) < 2:
        return None
    splits = list(dict.fromkeys(split for counts in classes.values() for split in split_counts(counts)))
    splits = splits if len(splits) > 1 else []
    columns = [
        Column("class"),
        *(Column(split, number=True) for split in splits),
        Column("objects", number=True),
    ]
    rows = [
        [Cell(name), *(number_cell(split_counts(counts).get(s, 0)) for s in splits), number_cell(whole_count(counts))]
        for name, counts in classes.items()
    ]
    listing = table(columns, rows, caption="Objects of each class")
    return element("div", element("h3", "Classes"), listing, class_="titled")


def _settings(family: str, chosen: Mapping[str, Any]) -> Html | None:
    """What training would choose for a family of models, and why."""
    reasons = chosen.get("reasons")
    if not reasons:
        return None
    listed = element("ul", *(element("li", str(reason)) for reason in reasons))
    title = f"What training a {family} model would choose"
    return element("div", element("h3", title), listed, class_="titled")


def _per_image(per_image: Mapping[str, Any]) -> Html | None:
    if not {"min", "median", "max"} <= per_image.keys():
        return None
    least, middle, most = (float(per_image[key]) for key in ("min", "median", "max"))
    return interval_chart(
        [Interval("least, median, most", middle, least, most)],
        title=f"Objects in an image: {least:,g} to {most:,g}, median {middle:,g}",
        x_label="objects in an image",
        x_range=(0.0, max(most, 1.0)),
    )


def _diameters(diameter: Mapping[str, Any]) -> Html | None:
    shape, middle = diameter.get("histogram", diameter), diameter.get("p50")
    if not shape.get("counts"):
        return None
    edges = [float(edge) for edge in shape["edges"]]
    steps = np.diff(edges)
    chart = histogram(
        edges,
        shape["counts"],
        title="Size of the objects" + (f": half of them below {middle:.3g} px" if middle else ""),
        x_label="diameter of a circle of the same area, px",
        y_label="objects",
        logarithmic=edges[0] > 0 and float(steps.max()) > 1.5 * float(steps.min()),
    )
    known = [(part, diameter.get(key)) for part, key in (("5 %", "p5"), ("95 %", "p95"))]
    told = ", ".join(f"{part} below {value:.3g} px" for part, value in known if value)
    note = element("p", element("small", f"{told}. The last bar holds all that are larger.")) if told else None
    return element("div", chart, note, class_="titled")


def _facts(statistics: Mapping[str, Any]) -> Html | None:
    facts: list[Html] = []
    for key, title in _FACTS:
        value = statistics.get(key)
        if isinstance(value, Mapping) and value:
            told = [element("li", _counted(name, value[name])) for name in list(value)[:_VALUES]]
            if len(value) > _VALUES:
                told.append(element("li", f"and {len(value) - _VALUES} more"))
            facts += [element("dt", title), element("dd", element("ul", *told, class_="plain"))]
        elif value:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            facts += [element("dt", title), element("dd", shown)]
    if not facts:
        return None
    return element("div", element("h3", "The images"), element("dl", *facts, class_="facts"), class_="titled")


def _counted(name: object, count: object) -> Html:
    if not isinstance(count, int):
        return element("span", f"{name}: {count}")
    plural = "image" if count == 1 else "images"
    return element("span", element("bdi", name), " ", element("small", f"{count:,} {plural}"))
