"""Write annotations as COCO JSON, image by image."""

from __future__ import annotations

import json
import shutil
import tempfile
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from cytomask._version import __version__
from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.coco_index import IMAGE_ID, INSTANCE_ID
from cytomask.formats.annotations.coco_objects import as_count
from cytomask.formats.annotations.image_finder import plain_name
from cytomask.instances import Instances
from cytomask.output import replacing

_OWN_KEYS = frozenset(("id", "file_name", "width", "height", "license", IMAGE_ID))


def write_coco(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write all annotations; they are looped over once, and one image is held at a time."""
    writer = _Writer(path, tuple(classes))
    with replacing(path) as temporary, tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as spool:
        for annotation in annotations:
            writer.add(annotation, spool)
        spool.seek(0)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(
                '{\n"info": ' + _line({"description": "", "version": "", "contributor": f"cytomask {__version__}"})
            )
            file.write(',\n"licenses": ' + _block(writer.licences()))
            file.write(',\n"categories": ' + _block(writer.categories()))
            file.write(',\n"images": ' + _block(writer.images))
            file.write(',\n"annotations": [\n')
            shutil.copyfileobj(spool, file)
            file.write("\n]\n}\n")


@dataclass
class _Writer:
    path: Path
    classes: tuple[str, ...]
    images: list[dict[str, Any]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    image_ids: set[int] = field(default_factory=set)
    licence_ids: dict[str, int] = field(default_factory=dict)
    #: Ranges of annotation ids that were given out, each of one image; no two overlap.
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, annotation: Annotation, spool: IO[str]) -> None:
        objects = annotation.instances
        image = self._image(annotation)
        classes = classes_in(objects, self.classes, annotation.name)
        numbers = self._numbers(objects.ids)
        shapes = segmentations(objects, annotation.crowd)
        columns = (numbers, objects.ids.tolist(), classes, shapes, objects.areas().tolist(), objects.scores)
        for i, (number, own, category, shape, area, score) in enumerate(zip(*columns)):
            entry: dict[str, Any] = {
                "id": number,
                "image_id": image,
                "category_id": category,
                "segmentation": shape,
                "area": area,
                "bbox": coco_box(objects.boxes[i]),
                "iscrowd": int(own in annotation.crowd),
            }
            if score != 1:
                entry["score"] = plain_number(score)
            if own != number:
                entry[INSTANCE_ID] = own
            spool.write(("" if spool.tell() == 0 else ",\n") + _line(entry))

    def _image(self, annotation: Annotation) -> int:
        """Add the entry of an image, and give its id."""
        if annotation.name in self.names:
            raise DataError(
                "two images have one name", where=self.path, found=annotation.name, fix="rename one of them"
            )
        self.names.add(annotation.name)
        number = image_id(annotation, self.image_ids)
        height, width = annotation.instances.shape
        entry: dict[str, Any] = {
            "id": number,
            "file_name": told_file_name(annotation),
            "width": width,
            "height": height,
        }
        licence = annotation.facts.get("license")
        if licence:
            entry["license"] = self.licence_ids.setdefault(licence, len(self.licence_ids) + 1)
        entry |= {k: v for k, v in annotation.facts.items() if k not in _OWN_KEYS}
        self.images.append(entry)
        return number

    def _numbers(self, ids: np.ndarray) -> list[int]:
        """Annotation ids of an image's objects, which no other image of the file has: their own where they are free."""
        if not len(ids):
            return []
        low, high = int(ids.min()), int(ids.max())
        place = bisect_left(self.ranges, (low, low))
        before_ends = self.ranges[place - 1][1] if place else 0
        after_begins = self.ranges[place][0] if place < len(self.ranges) else high + 1
        numbers = ids.tolist()
        if before_ends >= low or after_begins <= high:
            first = self.ranges[-1][1] + 1
            numbers = list(range(first, first + len(ids)))
        insort(self.ranges, (min(numbers), max(numbers)))
        return numbers

    def categories(self) -> list[dict[str, Any]]:
        return [{"id": i + 1, "name": name, "supercategory": ""} for i, name in enumerate(self.classes)]

    def licences(self) -> list[dict[str, Any]]:
        return [{"id": number, "name": name, "url": ""} for name, number in self.licence_ids.items()]


def image_id(annotation: Annotation, used: set[int]) -> int:
    """Id of an image that no other has: its own where that is free; added to the used ones."""
    number = as_count(annotation.facts.get(IMAGE_ID)) or len(used) + 1
    if number in used:
        number = max(used) + 1
    used.add(number)
    return number


def segmentations(objects: Instances, crowd: frozenset[int] = frozenset()) -> list[Any]:
    """Each object as polygons where these give the same mask back, else as a run-length code.

    Examples
    --------
    >>> segmentations(Instances.from_labels(np.array([[0, 1, 1]])))
    [[[1, 0, 3, 0, 3, 1, 1, 1]]]
    """
    codes = objects.to_rle()
    outlines = [
        # From centres at whole numbers, (y, x), to corners at whole numbers, x before y.
        [(ring[:, ::-1] + np.float32(0.5)).astype(np.int64).ravel().tolist() for ring in rings]
        for rings in objects.to_polygons(holes=False)
    ]
    redrawn = Instances.from_coco(objects.shape, outlines).to_rle()
    long = objects.take(np.isin(objects.ids, list(crowd))).to_rle(compressed=False) if crowd else []
    counted = iter(long)
    found: list[Any] = []
    for i, number in enumerate(objects.ids.tolist()):
        if number in crowd:
            found.append(next(counted))
        else:
            found.append(outlines[i] if outlines[i] and redrawn[i] == codes[i] else codes[i])
    return found


def classes_in(objects: Instances, classes: Sequence[str], name: str) -> list[int]:
    """Number of each object's class among the written ones.

    Raises
    ------
    LabelError
        If a class is not among them.
    """
    if tuple(objects.class_names) == tuple(classes):
        return objects.classes.tolist()
    numbers = {c: i + 1 for i, c in enumerate(classes)}
    names = [objects.class_names[c - 1] for c in objects.classes.tolist()]
    missing = next((n for n in names if n not in numbers), None)
    if missing is not None:
        raise LabelError(
            "an object is of a class that is not among those to write", where=name, found=missing,
            expected=", ".join(classes),
        )  # fmt: skip
    return [numbers[n] for n in names]


def told_file_name(annotation: Annotation) -> str:
    """File name of an image from which its name comes back.

    Examples
    --------
    >>> told_file_name(Annotation("a/b", Instances.empty((2, 2)), file_name="b.png"))
    'a/b.png'
    """
    name, told = annotation.name, annotation.file_name
    if told is not None and name in (plain_name(told), told):
        return told
    file = told or (annotation.image.name if annotation.image is not None else "")
    last = PurePosixPath(file.replace("\\", "/")).name
    return name + last[len(plain_name(last)) :] if file else name


def coco_box(box: np.ndarray) -> list[int | float]:
    """A box ``(y0, x0, y1, x1)`` as COCO's x, y, width and height.

    Examples
    --------
    >>> coco_box(np.array([1, 2, 4, 6.5], np.float32))
    [2, 1, 4.5, 3]
    """
    y0, x0, y1, x1 = (float(str(v)) for v in box.astype(np.float32))
    if (y0, x0) == (y1, x1):
        # An object without pixels is nowhere.
        return [0, 0, 0, 0]
    return [plain_number(v) for v in (x0, y0, round(x1 - x0, 6), round(y1 - y0, 6))]


def plain_number(value: float | np.floating[Any]) -> int | float:
    """The shortest number that gives the same float32 back."""
    short = float(str(np.float32(value)))
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def _block(rows: Sequence[Mapping[str, Any]]) -> str:
    return "[\n" + ",\n".join(_line(row) for row in rows) + "\n]" if rows else "[]"
