"""Measure objects and their relations: neighbours, distances, containment, densities, colocalisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import ConfigError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.colocalisation import Threshold
from cytomask.measuring.containment import SHARE
from cytomask.measuring.neighbours import TOUCH
from cytomask.output import output_folder
from cytomask.progress import track
from cytomask.workflows.measure_inputs import Measured, as_instances, find_objects
from cytomask.workflows.measure_tables import Measurements, RelationSettings, Tables

PAGE_NAME = "measurements.html"
#: So many images are drawn on the page.
PICTURES = 6


def measure(
    objects: Instances | np.ndarray | str | Path | Sequence[str | Path],
    images: Image | np.ndarray | str | Path | None = None,
    out: str | Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    relations: str | Sequence[str] = "all",
    radius: float | None = None,
    touch: float = TOUCH,
    share: float = SHARE,
    channels: Sequence[str | int] | None = None,
    threshold: Threshold = "otsu",
    pixel_size: float | tuple[float, float] | None = None,
    split: str | None = None,
    group_by: str | None = None,
    table: str | Path | None = None,
    page: bool = True,
) -> Measurements:
    """Measure objects: place, size, shape, brightness, and how they lie to each other.

    Parameters
    ----------
    objects
        Objects in memory (a label image, or :class:`Instances`), or where they lie: label images, folders of them or
        of ``predict``, annotations of any format, data sets. Several places are several images; ``"NAME=PLACE"`` says
        that the objects of a place are of the class NAME, and several of these are classes of the same images.
    images
        The image, or the folder of images; None looks where they usually lie. Brightness and colocalisation need them.
    out
        Folder for the tables as CSV and ``measurements.html``; None writes nothing.
    classes
        Only objects of these classes.
    relations
        ``"all"``, or some of ``"neighbours"``, ``"distances"``, ``"containment"``, ``"density"`` and
        ``"colocalisation"``. Of ``"all"``, colocalisation is left out where there is no image of several channels, or a
        colour picture.
    radius
        Objects whose gap is at most this are neighbours: µm where the pixel size is known, else pixels; None for 10 µm
        or 20 pixels.
    touch
        Objects whose gap is at most so many pixels touch.
    share
        Part of an object's area that must lie in another one for that to hold it.
    channels
        Channels whose colocalisation is measured, by name or number; None for all.
    threshold
        Threshold of signal in colocalisation: ``"otsu"``, ``"costes"`` or ``"none"``.
    pixel_size
        µm per pixel, or µm along y and x, instead of the images'.
    split
        Only this split of a data set.
    group_by, table
        Column that says which group an image belongs to, of the data set's table or of this CSV file.
    page
        Whether to write ``measurements.html``.

    Returns
    -------
    Measurements
        Tables (pandas): ``objects``, ``pairs``, ``children``, ``parents``, ``images``, ``summary``, ``groups``,
        ``comparisons``.

    Raises
    ------
    DataError
        If something is missing, or does not belong together.
    LabelError
        If objects cannot be read, or do not fit their image.
    ConfigError
        If an option cannot be.
    OutputError
        If the results cannot be written.

    Examples
    --------
    >>> labels = np.zeros((20, 20), int)
    >>> labels[2:6, 2:6], labels[2:6, 6:10], labels[12:16, 12:16] = 1, 2, 3
    >>> found = measure(labels, radius=5)
    >>> found.objects[["id", "area_px", "touching", "nearest_object_px"]].round(2)
       id  area_px  touching  nearest_object_px
    0   1       16         1               0.00
    1   2       16         1               0.00
    2   3       16         0               6.32
    """
    kinds = tuple(part.strip() for part in relations.split(",")) if isinstance(relations, str) else tuple(relations)
    settings = RelationSettings(
        kinds, radius, touch, share, None if channels is None else tuple(channels), threshold
    )  # fmt: skip
    found, total = _inputs(objects, images, split, group_by, table)
    folder = None if out is None else output_folder(out)
    tables = Tables(settings)
    pictures: list[Any] = []
    for one in track(found, "measuring", total=total):
        chosen = one.objects if classes is None else only_classes(one.objects, classes)
        lines = tables.add(one.name, chosen, one.image, pixel_size, one.group)
        if folder is not None and page and len(pictures) < PICTURES and len(chosen):
            # Drawing is slow to import, and not needed without the page.
            from cytomask.reporting.measurement_pictures import draw_relations

            pictures.append(draw_relations(one.name, chosen, one.image, lines))
    result = tables.finish()
    if folder is not None:
        result.write(folder)
        if page:
            from cytomask.reporting.measurement_page import write_measurement_page

            write_measurement_page(folder / PAGE_NAME, result.tables(), result.unit, pictures)
    return result


def only_classes(objects: Instances, classes: Sequence[str]) -> Instances:
    """Keep the objects of some classes.

    Raises
    ------
    ConfigError
        If there is no such class.
    """
    folded = {name.casefold(): number for number, name in enumerate(objects.class_names, start=1)}
    unknown = [name for name in classes if name.strip().casefold() not in folded]
    if unknown or not classes:
        raise ConfigError(
            "there is no such class", where="--classes", found=", ".join(unknown) or "none",
            expected=", ".join(objects.class_names),
        )  # fmt: skip
    numbers = list(dict.fromkeys(folded[name.strip().casefold()] for name in classes))
    picked = objects.take(np.isin(objects.classes, numbers))
    new = np.zeros(len(objects.class_names) + 1, np.int32)
    new[numbers] = np.arange(1, len(numbers) + 1)
    names = tuple(objects.class_names[number - 1] for number in numbers)
    return replace(picked, classes=new[picked.classes], class_names=names)


def _inputs(
    objects: Any, images: Any, split: str | None, group_by: str | None, table: str | Path | None
) -> tuple[Iterable[Measured], int]:
    """Objects in memory, or those of files one by one; and how many images there are."""
    if isinstance(objects, Instances | np.ndarray):
        if group_by is not None or split is not None or table is not None:
            raise ConfigError("one image has neither groups nor splits", where="group_by, split, table")
        if isinstance(images, str | Path):
            from cytomask.formats.images import read_image

            images = read_image(images)
        elif isinstance(images, np.ndarray):
            images = Image.from_array(images)
        source = None if images is None else images.source
        name = "image" if source is None else Path(source).stem
        return [Measured(name, as_instances(objects), images)], 1
    if isinstance(images, Image | np.ndarray):
        raise ConfigError(
            "an image in memory goes with objects in memory",
            where="images",
            fix="read the objects first, or name files",
        )
    places = [objects] if isinstance(objects, str | Path) else list(objects)
    found = find_objects(places, images, split=split, group_by=group_by, table=table)
    return found.read(), len(found)
