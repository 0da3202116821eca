"""The page of a measurement: what objects are like, how they lie to each other, and whether groups differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cytomask.reporting import measurement_sections as of
from cytomask.reporting.colours import class_colours
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.measurement_pictures import PALETTE, RelationPicture
from cytomask.reporting.page import Section, badge, counted, listed, tile, write_page
from cytomask.reporting.page_pictures import PictureBudget, layered_figure, left_out_note, picture_figure

_LEADS = {
    "pictures": "A click makes a picture large. Lines join the centres of neighbours: white where they touch, blue "
    "where they lie near; or those of objects and what holds them.",
    "shape": "A box holds the middle half of all objects, its line is the median, the whiskers hold 90 %. A dot is the "
    "mean of an image.",
    "neighbours": "Gaps are measured from edge to edge. Objects touch whose gap is at most a pixel or so.",
    "distances": "From the edge of each object to the edge of the nearest other one; 0 where they touch or overlap.",
    "containment": "An object lies in another one if half of its area or more does.",
    "density": "The index of Clark and Evans compares the distances to nearest centres with those of points at random: "
    "below 1, objects cluster; above 1, they keep apart.",
    "colocalisation": "Pearson's correlation of the channels' values, a mean over the images. Filled squares: they go "
    "together; open ones: they avoid each other.",
    "groups": "The unit is the image: objects of one image are not independent of each other. p is adjusted for the "
    "number of tests (Holm).",
}


def write_measurement_page(
    path: str | Path,
    tables: Mapping[str, pd.DataFrame],
    unit: str,
    pictures: Sequence[RelationPicture] = (),
    *,
    command: str | None = None,
) -> None:
    """Write a page about a measurement: one file that works without a network.

    Parameters
    ----------
    path
        The file.
    tables
        ``objects``, and whatever there is of ``pairs``, ``children``, ``parents``, ``images``, ``summary``, ``groups``
        and ``comparisons``.
    unit
        ``"um"`` or ``"px"``.
    pictures
        Some images with lines.
    command
        The command that was given; None for that of this process, if it is ``cytomask``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    objects, images = tables["objects"], tables.get("images", pd.DataFrame())
    bodies = (
        ("pictures", "The objects and their relations", _pictures(pictures)),
        ("groups", "Do the groups differ?", of.comparisons(tables.get("comparisons"), images)),
        ("shape", "Size and shape", of.shape(objects, unit)),
        ("neighbours", "Neighbours", of.neighbours(objects)),
        ("distances", "Distances", of.distances(objects, unit)),
        ("containment", "What lies in what", of.containment(tables, unit)),
        ("density", "Density", of.density(images, objects, unit)),
        ("brightness", "Brightness", of.brightness(objects)),
        ("colocalisation", "Colocalisation", of.colocalisation(images, objects)),
        ("images", "Every image", of.every_image(images)),
    )
    sections = [Section(name, title, body, _LEADS.get(name)) for name, title, body in bodies if body is not None]
    counts = objects["class"].value_counts(sort=False) if len(objects) else pd.Series(dtype=int)
    heading = f"{counted(len(objects), 'object')} in {counted(len(images), 'image')}"
    lead = listed([f"{count:,} × {name}" for name, count in counts.items()]) if len(counts) > 1 else None
    write_page(
        path,
        title=f"Measurements: {heading}",
        kicker="measurements",
        heading=heading,
        lead=f"{lead}." if lead else "What they are like, and how they lie to each other.",
        top=_top(tables, unit),
        sections=sections,
        command=command,
    )


def _top(tables: Mapping[str, pd.DataFrame], unit: str) -> Html:
    objects, images = tables["objects"], tables.get("images", pd.DataFrame())
    tiles = []
    area = "area_um2" if unit == "um" else "area_px"
    if len(objects):
        shown = "µm²" if unit == "um" else "px"
        tiles.append(tile(f"{objects[area].median():,.4g} {shown}", "median area", "of all objects"))
    if "touching" in objects and len(objects):
        tiles.append(tile(f"{100 * (objects['touching'] > 0).mean():.0f} %", "touch another one"))
    children = tables.get("children")
    if children is not None and len(children):
        sure = int((children["parent_id"] > 0).sum())
        unsure = int((children["ambiguous"] != "").sum())
        told = f"{counted(unsure, 'is', 'are')} not certain" if unsure else "each in one"
        tiles.append(tile(f"{sure:,}", "lie in an object of another class", told))
    groups = images["group"].nunique() if "group" in images else 0
    if groups:
        tiles.append(tile(f"{groups}", "groups of images", f"{len(images) / groups:.3g} images each, on average"))
    notes = []
    if unit == "px":
        notes.append(
            "The pixel size is not known: lengths are in pixels, areas in pixels, densities per million pixels."
        )
    edge = float(objects["touches_border"].mean()) if len(objects) else 0.0
    if edge > 0.1:
        notes.append(f"{100 * edge:.0f} % of the objects reach the rim of their image and may be cut off there: sizes, "
                     "neighbours and distances of these are too small or too large.")  # fmt: skip
    if groups and images.groupby("group").size().min() < 3:
        notes.append("A group has fewer than three images: no test can tell whether it differs.")
    if len(images) == 1 and len(objects):
        notes.append("All objects are of one image: their spread tells nothing about other images.")
    verdict = None
    if notes:
        verdict = element(
            "div", badge("note", "read this"), element("div", *(element("p", note) for note in notes)),
            class_="verdict note",
        )  # fmt: skip
    return join([element("div", *tiles, class_="tiles") if tiles else None, verdict])


def _pictures(pictures: Sequence[RelationPicture]) -> Html | None:
    budget = PictureBudget()
    cards = []
    for place, one in enumerate(pictures):
        base = budget.photo(one.picture)
        if base is None:
            continue
        size = (one.picture.shape[0], one.picture.shape[1])
        layers = []
        for key, (title, codes) in enumerate(one.layers.items()):
            source = budget.layer(codes, PALETTE)
            if source is not None:
                layers.append((f"lines{key}", title, source))
        alt = f"{one.name} with {counted(one.n_objects, 'object')} outlined"
        figure = (
            layered_figure(base, layers, size, alt, name=f"m{place}", shown=layers[0][0])
            if layers
            else picture_figure(base, size, alt)
        )
        head = element("h3", element("bdi", one.name), element("small", f" {one.note}") if one.note else None)
        cards.append(element("article", head, figure, class_="card"))
    names = max((one.class_names for one in pictures), key=len, default=())
    return join([_key(names), element("div", *cards, class_="worst"), left_out_note(budget)]) if cards else None


def _key(names: Sequence[str]) -> Html | None:
    """The colours of the classes in the pictures."""
    if len(names) < 2:
        return None
    items = []
    for name, (red, green, blue) in zip(names, class_colours(len(names)).tolist()):
        drawn = element("line", x1=1, x2=31, y1=8, y2=8, stroke=f"rgb({red},{green},{blue})")
        items.append(element("li", element("svg", drawn, viewBox="0 0 32 16", aria_hidden="true"), name))
    return element("ul", *items, class_="swatches", aria_label="The colours of the classes")
