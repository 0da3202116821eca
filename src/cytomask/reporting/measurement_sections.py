"""The parts of a page about measurements."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.measurement_charts import Box, box_chart, cloud_chart, correlation_matrix
from cytomask.reporting.page_tables import Cell, Column, number_cell, table

#: So many charts stand in a section at most.
_CHARTS = 12
_UNITS = {"um": "µm", "px": "px"}


def shape(objects: pd.DataFrame, unit: str) -> Html | None:
    """Area, shape, and one against the other."""
    area, size = ("area_um2", "µm²") if unit == "um" else ("area_px", "px")
    charts = [
        _boxes(objects, area, "Area", size, wide=True),
        _boxes(objects, "circularity", "Circularity", "1 for a disc"),
        _boxes(objects, "solidity", "Solidity", "area over that of the convex hull"),
        cloud_chart(
            [(str(name), part[area], part["circularity"]) for name, part in objects.groupby("class", sort=False)],
            title="Area and circularity", x_label=f"area, {size}", y_label="circularity",
        ),
    ]  # fmt: skip
    return _columns(charts)


def neighbours(objects: pd.DataFrame) -> Html | None:
    """How many objects touch and are near, and how much of outlines is shared."""
    return _columns([
        _boxes(objects, "touching", "Objects that it touches", "objects"),
        _boxes(objects, "neighbours", "Neighbours within the radius", "objects"),
        _boxes(objects, "shared_border", "Part of the outline that touches others", "part of the outline"),
    ])  # fmt: skip


def distances(objects: pd.DataFrame, unit: str) -> Html | None:
    """Gaps to the nearest object of each class."""
    found = [re.fullmatch(rf"nearest_(.+)_{unit}", name) for name in objects.columns]
    kinds = [match[1] for match in found if match and not match[1].endswith("_centre")]
    charts = [
        _boxes(objects, f"nearest_{kind}_{unit}", f"Gap to the nearest {kind.replace('_', ' ')}", _UNITS[unit])
        for kind in kinds
    ]
    return _columns(charts)


def containment(tables: Mapping[str, pd.DataFrame], unit: str) -> Html | None:
    """What objects hold, and how deep it lies in them."""
    parents, children, objects = (tables.get(name) for name in ("parents", "children", "objects"))
    if parents is None or children is None or objects is None or not len(parents):
        return None
    rows, charts = [], []
    kinds = [name.removesuffix("_count") for name in parents.columns if name.endswith("_count")]
    for holder, own in parents.groupby("class", sort=False):
        for kind in kinds:
            count = own[f"{kind}_count"]
            if count.isna().all() or not count.sum():
                continue
            edge = own.get(f"{kind}_mean_edge_distance_{unit}", pd.Series(dtype=float))
            rows.append([
                Cell(f"{kind.replace('_', ' ')} in {holder}"), number_cell(int(count.sum()), 0),
                number_cell(float(count.mean()), 2), number_cell(float(100 * (count > 0).mean()), 1),
                number_cell(float(100 * own[f"{kind}_area_fraction"].mean()), 2), number_cell(float(edge.mean()), 2),
            ])  # fmt: skip
    columns = [
        Column("child in parent"), Column("children", True), Column("per parent", True, "mean over all parents"),
        Column("parents with any, %", True), Column("area, %", True, "of the parent's area, mean over all parents"),
        Column(f"to the edge, {_UNITS[unit]}", True, "from the child's edge to the parent's, mean"),
    ]  # fmt: skip
    for kind in kinds:
        words = kind.replace("_", " ")
        charts += [
            _boxes(objects, f"holds_{kind}_count", f"Count of {words} in each parent", "objects"),
            _boxes(objects, f"holds_{kind}_area_fraction", f"Part of the parent that is {words}", "part of the area"),
        ]
    for name in objects.columns:
        match = re.fullmatch(rf"in_(.+)_edge_distance_{unit}", name)
        if match:
            charts.append(_boxes(objects, name, f"From the edge of {match[1].replace('_', ' ')}", _UNITS[unit]))
    several, straddling = ((children["ambiguous"] == word).sum() for word in ("several", "straddles"))
    note = None
    if several or straddling:
        note = element(
            "p", f"Not certain: {several:,} lie in several objects of a class, {straddling:,} in none but in "
            "several together (column ambiguous of children.csv).", class_="muted",
        )  # fmt: skip
    return join([table(columns, rows, caption="What objects hold"), note, _columns(charts, "under")])


def density(images: pd.DataFrame, objects: pd.DataFrame, unit: str) -> Html | None:
    """Density, cover and clustering of each class, and the density around objects."""
    per, words = ("mm2", "mm²") if unit == "um" else ("mpx", "million px")
    kinds = [name.removesuffix(f"_per_{per}") for name in images.columns if name.endswith(f"_per_{per}")]
    if not kinds:
        return None
    rows = []
    for kind in kinds:
        index = images[f"{kind}_clark_evans"].dropna()
        told = "–"
        if len(index):
            clear = images[f"{kind}_clark_evans_p"].reindex(index.index) < 0.05
            low, high = int((clear & (index < 1)).sum()), int((clear & (index > 1)).sum())
            told = f"clustered in {low}, apart in {high} of {len(index)} (p < 0.05)"
        rows.append([
            Cell(kind.replace("_", " ")), number_cell(float(images[f"{kind}_count"].mean()), 1),
            number_cell(float(images[f"{kind}_per_{per}"].mean()), 1),
            number_cell(float(100 * images[f"{kind}_covered"].mean()), 2),
            number_cell(float(index.mean()), 2), Cell(told),
        ])  # fmt: skip
    columns = [
        Column("class"), Column("per image", True), Column(f"per {words}", True), Column("covered, %", True),
        Column("Clark–Evans", True, "mean over the images with five objects or more"), Column("images"),
    ]  # fmt: skip
    chart = _boxes(objects, f"local_density_{per}", "Density around each object", f"objects per {words}")
    return join([table(columns, rows, caption="Densities, mean over the images"), _columns([chart], "under")])


def brightness(objects: pd.DataFrame) -> Html | None:
    """Mean values of each channel."""
    names = [name for name in objects.columns if name.startswith("intensity_mean_")]
    titles = [name.removeprefix("intensity_mean_").replace("_", " ") for name in names]
    return _columns([_boxes(objects, name, title, "mean value", wide=True) for name, title in zip(names, titles)])


def colocalisation(images: pd.DataFrame, objects: pd.DataFrame) -> Html | None:
    """Correlation of all channels, in whole images and in objects."""
    titles = [name.removesuffix("_threshold_1") for name in images.columns if name.endswith("_threshold_1")]
    if not titles:
        return None
    names = _channel_names(titles)
    drawings = []
    for label, title in (("", "Pearson, whole images"), ("in_objects_", "Pearson, in objects")):
        values = np.full((len(names), len(names)), np.nan)
        for i, a in enumerate(names):
            for j, b in enumerate(names):
                column = f"{a}_{b}_{label}pearson"
                if column in images:
                    values[i, j] = values[j, i] = images[column].mean()
        drawings.append(correlation_matrix(names, values.tolist(), title=title))
    columns = [Column("channels")]
    figures = ("pearson", "spearman", "m1", "m2", "overlap", "icq")
    columns += [Column(name, True) for name in ("Pearson", "Spearman", "M1", "M2", "overlap", "ICQ", "in objects")]
    rows = []
    words = [f"{a} and {b}" for i, a in enumerate(names) for b in names[i + 1 :]] or titles
    for title, told in zip(titles, words):
        cells = [number_cell(float(images[f"{title}_{figure}"].mean())) for figure in figures]
        rows.append([Cell(told), *cells, number_cell(float(objects[f"{title}_pearson"].mean()))])
    columns[-1] = Column("Pearson per object", True, "mean over all objects")
    means = sorted(titles, key=lambda t: -abs(np.nan_to_num(objects[f"{t}_pearson"].mean())))
    spoken = dict(zip(titles, words))
    charts = [_boxes(objects, f"{t}_pearson", f"Each object: {spoken[t]}", "Pearson's correlation") for t in means[:4]]
    return join([
        _columns(drawings), element("div", table(columns, rows, caption="Colocalisation, mean over the images"),
                                    class_="under"), _columns(charts, "under"),
    ])  # fmt: skip


def comparisons(found: pd.DataFrame | None, images: pd.DataFrame) -> Html | None:
    """Tests of groups, the clearest difference first."""
    if found is None or "group" not in images:
        return None
    if not len(found):
        return element("p", "There are not three images in two groups, so nothing was tested.", class_="muted")
    rows = [
        [
            Cell(f"{row['measurement']} of {row['class']}"), number_cell(float(row["p_holm"]), 4),
            number_cell(float(row["p"]), 4), number_cell(float(row["effect"]), 2), Cell(row["effect_name"]),
            Cell(row["test"]), Cell(row["n_images"]),
        ]
        for _, row in found.sort_values(["p", "effect"]).iterrows()
    ]  # fmt: skip
    columns = [
        Column("measurement"), Column("p, adjusted", True), Column("p", True), Column("effect", True), Column("kind"),
        Column("test"), Column("images"),
    ]  # fmt: skip
    return table(columns, rows, caption="Comparison of groups by the means of images", searchable=True)


def every_image(images: pd.DataFrame) -> Html | None:
    """Every image with its counts and densities."""
    if not len(images):
        return None
    kept = [
        name for name in images.columns
        if name in ("image", "group", "objects") or name.endswith(("_count", "_per_mm2", "_per_mpx", "_covered"))
    ]  # fmt: skip
    columns = [Column(name.replace("_", " "), name not in ("image", "group")) for name in kept]
    rows = [
        [
            Cell(str(value)) if isinstance(value, str) else number_cell(value if pd.notna(value) else None)
            for value in row
        ]
        for row in images[kept].astype(object).itertuples(index=False)
    ]
    return table(columns, rows, caption="Every image", searchable=len(rows) > 8)


def _boxes(objects: pd.DataFrame, column: str, title: str, unit: str, *, wide: bool = False) -> Html | None:
    """A row for each class that has values, or for each of its groups."""
    if column not in objects:
        return None
    by = ["class", "group"] if "group" in objects else ["class"]
    rows: list[Box] = []
    groups = sorted(objects["group"].unique()) if "group" in objects else []
    kinds = list(dict.fromkeys(objects["class"]))
    for key, part in objects.groupby(by, sort=False):
        values = part[column].astype(float)
        means = part.assign(value=values).groupby("image", sort=False)["value"].mean()
        style = groups.index(key[1]) + 1 if groups else kinds.index(key[0]) + 1
        rows.append(Box(str(key[0]), values.to_list(), means.to_list(), str(key[1]) if groups else "", style))
    rows.sort(key=lambda row: (kinds.index(row.name), row.note))
    chart = box_chart(rows, title=title, x_label=unit, wide=wide)
    return None if chart is None else element("div", chart, class_="card")


def _columns(charts: Sequence[Html | None], style: str = "") -> Html | None:
    kept = [chart for chart in charts if chart is not None][:_CHARTS]
    cards = [chart if chart.startswith('<div class="card"') else element("div", chart, class_="card") for chart in kept]
    return element("div", *cards, class_=f"{style} worst".strip()) if cards else None


def _channel_names(titles: Sequence[str]) -> list[str]:
    """The channels of pairs ``A_B``: the first pairs share the first channel.

    Examples
    --------
    >>> _channel_names(["a_b_c", "a_b_d", "c_d"]), _channel_names(["x_y"])
    (['a_b', 'c', 'd'], ['x', 'y'])
    """
    # n channels make n (n - 1) / 2 pairs; the last pair is of the last two, the first n - 1 begin with the first.
    n = round((1 + (1 + 8 * len(titles)) ** 0.5) / 2)
    for cut in (k for k, letter in enumerate(titles[0]) if letter == "_"):
        first = titles[0][:cut]
        if not all(title.startswith(f"{first}_") for title in titles[: n - 1]):
            continue
        names = [first, *(title[cut + 1 :] for title in titles[: n - 1])]
        if [f"{a}_{b}" for i, a in enumerate(names) for b in names[i + 1 :]] == list(titles):
            return names
    return []
