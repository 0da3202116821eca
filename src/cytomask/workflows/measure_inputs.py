"""What is to be measured: objects of images, in whatever form, with their images and these images' groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cytomask.data.tables import read_table, rows_by_name
from cytomask.errors import ConfigError, DataError, LabelError
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.images import IMAGE_SUFFIXES, read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers
from cytomask.progress import warn
from cytomask.workflows.evaluating.inputs import pair_names
from cytomask.workflows.evaluating.sides import UNNAMED, Entry, Side, What, open_side, plain_stem
from cytomask.workflows.predicting.result_names import RECORD_NAME


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The objects of one image.

    Attributes
    ----------
    name
        The image's name.
    objects
        Its objects, of all classes.
    image
        The image, where there is one.
    group
        The group that it belongs to; None where images are not grouped.
    """

    name: str
    objects: Instances
    image: Image | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """Objects of one image: the entries that they lie in, each with the numbers of its classes among all."""

    name: str
    entries: tuple[tuple[Entry, tuple[int, ...]], ...]
    image: Path | None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class MeasureInputs:
    """All images; reading happens when :meth:`read` is looped over.

    Attributes
    ----------
    classes
        Names of the classes.
    sources
        Where the objects of each image lie.
    """

    classes: tuple[str, ...]
    sources: list[_Source] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    def read(self) -> Iterator[Measured]:
        """Read image by image.

        Raises
        ------
        LabelError
            If a file is no label image, or objects and image differ in size; the files are named.
        """
        for source in self.sources:
            parts = [_with_classes(_instances(entry), numbers, self.classes) for entry, numbers in source.entries]
            for (entry, _), part in zip(source.entries, parts):
                if part.shape != parts[0].shape:
                    raise LabelError(
                        "annotations of one image differ in size",
                        where=f"{entry.place} and {source.entries[0][0].place}",
                        found=f"{part.shape[0]} x {part.shape[1]} pixels (height x width)",
                        expected=f"{parts[0].shape[0]} x {parts[0].shape[1]}",
                    )
            objects = Instances.concatenate(parts) if len(parts) > 1 else parts[0]
            image = None if source.image is None else read_image(source.image)
            if image is not None and image.shape != objects.shape:
                raise LabelError(
                    "the objects and their image differ in size",
                    where=f"{source.entries[0][0].place} and {source.image}",
                    found=f"objects of {objects.shape[0]} x {objects.shape[1]} pixels (height x width)",
                    expected=f"{image.height} x {image.width}, as the image",
                    fix="name the folder of the right images with --images",
                )
            yield Measured(source.name, objects, image, source.group)


def find_objects(
    labels: Sequence[str | Path],
    images: str | Path | None = None,
    *,
    split: str | None = None,
    group_by: str | None = None,
    table: str | Path | None = None,
) -> MeasureInputs:
    """Find what is to be measured.

    Parameters
    ----------
    labels
        Label images, folders of them, folders that predict wrote, annotations of any format, or data sets. Several are
        put together: their images are measured one by one. ``NAME=PLACE`` says that all objects of a place are of the
        class NAME; several of these are the classes of the same images, paired by name.
    images
        A folder of images, or one image; None looks where they usually lie.
    split
        Only this split of a data set.
    group_by
        Column that says which group an image belongs to: of the data set's table, or of ``table``.
    table
        CSV file with one row per image.

    Raises
    ------
    DataError
        If something does not exist, images cannot be paired, or an image has no group.
    ConfigError
        If classes are named for some places only, or a table is given without a column.
    """
    if not labels:
        raise ConfigError("there is nothing to measure", fix="name label images, a folder of them, or annotations")
    named = [_named(place) for place in labels]
    if any(name for name, _ in named) and not all(name for name, _ in named):
        raise ConfigError(
            "only some of the places say their class", where="LABELS", found=", ".join(map(str, labels)),
            expected="NAME=PLACE for all of them, or for none",
        )  # fmt: skip
    if table is not None and group_by is None:
        raise ConfigError("the table needs a column", where="--table", fix="say --group-by COLUMN")
    sides = [open_side(place, _kind(place, split), split) for _, place in named]
    finder = None if images is None else _finder(Path(images))
    if all(name for name, _ in named):
        inputs = _as_classes([name for name, _ in named], sides, finder, images)
    else:
        inputs = _side_by_side(sides, split, finder, images)
    return inputs if group_by is None else _grouped(inputs, group_by, table)


def _named(place: str | Path) -> tuple[str, Path]:
    name, sign, rest = str(place).partition("=")
    if isinstance(place, str) and sign and name and not Path(place).exists():
        return name.strip(), Path(rest)
    return "", Path(place)


def _kind(place: Path, split: str | None) -> What:
    """Whether a place is opened as a truth, which may be a data set, or as a prediction."""
    if (place / RECORD_NAME).is_file() or place.is_file():
        return "truth" if split is not None or place.suffix.lower() in (".yaml", ".yml") else "prediction"
    return "truth"


def _finder(place: Path) -> ImageFinder:
    if not place.exists():
        raise DataError("the images do not exist", where=place, fix="check the name and the folder")
    return ImageFinder([place])


def _image_of(
    entry: Entry, name: str, finder: ImageFinder | None, images: str | Path | None, alone: bool
) -> Path | None:
    if finder is None:
        return _recorded(entry.place) or entry.find_image()
    if alone and images is not None and Path(images).is_file():
        return Path(images)
    found = finder.find(name) or finder.find_clear(plain_stem(entry.place))
    if found is None:
        raise DataError(
            "an image is missing", where=images, found=f"no image called {name}", expected="one for all objects",
            fix="name the folder that holds it, or leave --images out",
        )  # fmt: skip
    return found


def _recorded(labels: Path) -> Path | None:
    """The image that predict made a label image of, as its record tells."""
    record = labels.parent / RECORD_NAME
    if labels.suffix.lower() not in IMAGE_SUFFIXES or not record.is_file():
        return None
    try:
        for image in json.loads(record.read_text(encoding="utf-8"))["images"]:
            if labels.name.startswith(f"{image['name']}_labels.") and Path(image["file"]).exists():
                return Path(image["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def _side_by_side(
    sides: Sequence[Side], split: str | None, finder: ImageFinder | None, images: str | Path | None
) -> MeasureInputs:
    """Several places hold several images; classes of one name are the same."""
    names = list(dict.fromkeys(name for side in sides for name in side.classes))
    sources, taken = [], set()
    for side in sides:
        numbers = tuple(names.index(name) + 1 for name in side.classes)
        entries = {n: e for n, e in side.entries.items() if split is None or e.split == split}
        if split is not None and not entries:
            raise ConfigError(
                "there is no such split", where="--split", found=split, expected=", ".join(side.splits) or "no split"
            )
        for name, entry in entries.items():
            called = name if name not in taken else f"{side.place.stem}/{name}"
            if called in taken:
                raise DataError("two images have the same name", where=side.place, found=called)
            taken.add(called)
            image = _image_of(entry, name, finder, images, len(sides) == len(side.entries) == 1)
            sources.append(_Source(called, ((entry, numbers),), image))
    return MeasureInputs(tuple(names), sources)


def _as_classes(
    names: Sequence[str], sides: Sequence[Side], finder: ImageFinder | None, images: str | Path | None
) -> MeasureInputs:
    """Every place holds the objects of one class, of the same images."""
    if len(set(names)) < len(names):
        raise ConfigError("a class is named twice", where="LABELS", found=", ".join(names))
    for name, side in zip(names, sides):
        if side.classes != UNNAMED and len(side.classes) > 1:
            raise ConfigError(
                "objects that have classes are called by another name", where=side.place,
                found=", ".join(side.classes), expected="objects without classes",
                fix=f"leave out {name}=, and give this place alone",
            )  # fmt: skip
    alone = all(len(side.entries) == 1 for side in sides)
    sources = []
    every = list(dict.fromkeys(name for side in sides for name in side.entries))
    first = list(sides[0].entries)
    partners = [
        {first[0]: next(iter(side.entries))} if alone else pair_names(every, list(side.entries)) for side in sides
    ]
    for name in first if alone else every:
        entries = [
            (side.entries[partner[name]], (number,))
            for number, (side, partner) in enumerate(zip(sides, partners), start=1)
            if name in partner
        ]
        if len(entries) < len(sides):
            missing = ", ".join(n for n, partner in zip(names, partners) if name not in partner)
            warn(f"{name} has no objects of {missing}: there is no such file")
        image = _image_of(entries[0][0], name, finder, images, alone)
        sources.append(_Source(name, tuple(entries), image))
    return MeasureInputs(tuple(names), sources)


def _grouped(inputs: MeasureInputs, column: str, table: str | Path | None) -> MeasureInputs:
    names = [source.name for source in inputs.sources]
    if table is not None:
        read = read_table(Path(table))
        key = read.column(column)
        rows, _ = rows_by_name(read, None, names)
        groups = {name: row.get(key, "") for name, row in rows.items()}
    else:
        groups = {s.name: str(s.entries[0][0].group.get(column, "")) for s in inputs.sources}
        if not any(groups.values()):
            known = sorted({key for source in inputs.sources for key in source.entries[0][0].group})
            raise DataError(
                "nothing tells the groups of the images", where="--group-by", found=column,
                expected=", ".join(known) or "a table with one row per image",
                fix="name the table with --table, and its column with --group-by",
            )  # fmt: skip
    missing = [name for name in names if not groups.get(name)]
    if missing:
        raise DataError(
            "an image has no group", where=table or "--group-by",
            found=", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else ""),
            expected=f"a row with a value in column {column} for every image",
        )  # fmt: skip
    return replace(inputs, sources=[replace(s, group=groups[s.name]) for s in inputs.sources])


def as_instances(objects: np.ndarray | Instances | LabelLayers) -> Instances:
    """Objects in the form that is measured."""
    if isinstance(objects, Instances):
        return objects
    return objects.to_instances() if isinstance(objects, LabelLayers) else Instances.from_labels(objects)


def _instances(entry: Entry) -> Instances:
    read = entry.read()
    objects, crowd = as_instances(read.objects), list(read.crowd)
    if isinstance(read.objects, LabelLayers):
        crowd += list(read.objects.crowd)
    # Regions of many are no objects.
    return objects.take(~np.isin(objects.ids, crowd)) if crowd else objects


def _with_classes(objects: Instances, numbers: Sequence[int], names: tuple[str, ...]) -> Instances:
    table = np.array([0, *numbers], np.int32)
    return replace(objects, classes=table[objects.classes], class_names=names)
