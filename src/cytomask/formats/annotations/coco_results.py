"""COCO results: the list of found objects that evaluation servers take, each with its image, mask and score.

The masks are run-length codes; boxes are x, y, width, height. Files whose boxes are two corners instead are told by
their masks and read, too. The list knows images by number: their names come from ``file_name`` beside each number, from
the ``run.json`` that prediction writes, or from the annotations that the results are of.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytomask.errors import CytomaskError, DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.coco_index import IMAGE_ID, index_coco
from cytomask.formats.annotations.coco_objects import (
    as_count,
    as_key,
    box_of,
    by_number,
    drawable,
    many,
    mask_size,
    read_objects,
    told_size,
)
from cytomask.formats.annotations.coco_writing import classes_in, coco_box, image_id, plain_number, told_file_name
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.json_elements import JsonFile, look
from cytomask.instances import Instances
from cytomask.output import replacing

#: What prediction writes beside its results.
RECORD_NAME = "run.json"
#: So many objects are looked at to tell what the boxes mean, and so large a part of them must agree.
_LOOKED_AT, _AGREED = 200, 0.9
_MOST_CLASSES = 1000
_OBJECT = re.compile(r'\[\s*\{\s*"')


@dataclass(frozen=True)
class _Image:
    key: str
    file_name: str | None = None
    size: tuple[int, int] | None = None
    rows: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class _Results:
    """Results that were looked through; called with a name, it reads that image's objects."""

    file: JsonFile
    finder: ImageFinder
    images: Mapping[str, _Image]
    starts: np.ndarray
    ends: np.ndarray
    categories: Mapping[str, int]
    classes: tuple[str, ...]
    boxes: Literal["xywh", "xyxy", "masks"] = "xywh"

    def __call__(self, name: str) -> Annotation:
        image = self.images[name]
        entries = self.entries(range(*image.rows))
        where = f"{self.file.path}, image {image.file_name or name}"
        if any(not isinstance(e, dict) or as_key(e.get("image_id")) != image.key for e in entries):
            raise DataError("the file has changed since it was opened", where=self.file.path, fix="open it again")
        classes = []
        for i, entry in enumerate(entries):
            found = self.categories.get(as_key(entry.get("category_id", 1)) or "")
            if found is None:
                raise LabelError(
                    "an object is of a category that the annotations do not list", where=f"{where}, number {i + 1}",
                    found=f"category_id {entry.get('category_id')!r}", expected=", ".join(self.categories),
                )  # fmt: skip
            classes.append(found)
        objects = read_objects(
            entries, self._shape(image, entries), classes, None, self.classes, where,
            "masks" if self.boxes == "masks" else "given",
        )  # fmt: skip
        path = self.finder.find_clear(image.file_name) if image.file_name else None
        return Annotation(name, objects, file_name=image.file_name, image=path, facts={IMAGE_ID: image.key})

    def entries(self, rows: Iterable[int]) -> list[Any]:
        """The entries of these rows, their boxes as x, y, width, height."""
        entries = self.file.read([(int(self.starts[i]), int(self.ends[i])) for i in rows])
        if self.boxes == "xyxy":
            for entry in entries:
                box = box_of(entry)
                if box is not None:
                    entry["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        return entries

    def _shape(self, image: _Image, entries: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        if image.size is not None:
            return image.size
        sizes = (mask_size(entry, str(self.file.path)) for entry in entries)
        found = next((size for size in sizes if size is not None), None)
        return found or self.finder.size_of(image.file_name or image.key, self.file.path)


def recognise(path: Path) -> bool:
    """Whether a file is a list of COCO results, also in a zip."""
    if not path.is_file() or path.suffix.lower() not in (".json", ".zip"):
        return False
    begin = look(path)[0]
    has_shape = '"segmentation"' in begin or '"bbox"' in begin
    return _OBJECT.match(begin) is not None and '"image_id"' in begin and '"category_id"' in begin and has_shape


def open_annotations(path: Path, images: ImageFinder, truth: Path | None = None) -> AnnotationSet:
    """Find the images that results speak of; each one's objects are read when asked for.

    Parameters
    ----------
    path
        The list, or a zip that holds it.
    images
        Where the images are.
    truth
        The annotations that the results are of: COCO JSON, or a list of ``{"id", "file_name", "height", "width"}``.
        Images and categories are called as there, and images without results are images without objects.

    Raises
    ------
    DataError
        If it is no such list, or speaks of no image of the truth. Broken objects raise a
        :class:`cytomask.errors.LabelError` when they are read.

    Examples
    --------
    >>> import json, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "results.json"
    >>> mask = {"size": [2, 3], "counts": [2, 1, 1, 2]}
    >>> _ = path.write_text(json.dumps([{"image_id": 4, "category_id": 1, "segmentation": mask, "score": 0.5}]))
    >>> found = open_annotations(path, ImageFinder())
    >>> found.names, found.read("4").instances.scores
    (('4',), array([0.5], dtype=float32))
    """
    path = Path(path)
    file = JsonFile.of(path)
    keys: dict[str, int] = {}
    names: dict[str, str] = {}
    used: Counter[str] = Counter()
    labels: dict[str, str] = {}
    rows, starts, ends = array("i"), array("q"), array("q")
    boxes_only = nothing = 0
    for element in file.elements(()):
        entry = element.value
        key = as_key(entry.get("image_id")) if isinstance(entry, Mapping) and element.section == "" else None
        if key is None:
            raise DataError(
                "this is no list of COCO results", where=path, found=f"no image_id in what begins at byte "
                f"{element.start}", expected='[{"image_id": …, "category_id": …, "segmentation": …, "score": …}]',
            )  # fmt: skip
        kind = drawable(entry)[1]
        boxes_only, nothing = boxes_only + (kind == "box"), nothing + (kind == "nothing")
        number = keys.setdefault(key, len(keys))
        if isinstance(entry.get("file_name"), str):
            names.setdefault(key, entry["file_name"])
        if kind == "nothing":
            continue
        rows.append(number)
        starts.append(element.start)
        ends.append(element.end)
        category = as_key(entry.get("category_id", 1)) or "?"
        used[category] += 1
        if isinstance(entry.get("category_name"), str):
            labels.setdefault(category, entry["category_name"])
    told: list[str] = []
    if boxes_only:
        told.append(f"{many(boxes_only, 'object')} with a box only: taken for rectangles")
    if nothing:
        told.append(f"{many(nothing, 'object')} without an outline or a box: left out")
    found = _from_truth(truth) if truth is not None else _from_record(path, keys, told)
    listed = found[0] if found else _from_entries(keys, names)
    categories, classes = (found and found[1]) or _classes(used, labels)
    of_key = {image.key: i for i, image in enumerate(listed.values())}
    strangers = [key for key in keys if key not in of_key]
    if strangers:
        if len(strangers) == len(keys):
            raise DataError(
                "the results are of none of the images of the truth", where=path,
                found=f"image_id {', '.join(strangers[:5])}", expected=f"such as {next(iter(of_key), 'none')}",
            )  # fmt: skip
        told.append(f"results of images that the truth does not list are left out: image_id {', '.join(strangers[:5])}")
    image_of = np.array([of_key.get(key, -1) for key in keys], np.int64)[np.array(rows, np.int64)]
    order = np.argsort(image_of, kind="stable")[int((image_of < 0).sum()) :]
    begins = np.searchsorted(image_of[order], np.arange(len(listed) + 1)).tolist()
    placed = {
        name: _Image(image.key, image.file_name, image.size, span)
        for (name, image), span in zip(listed.items(), pairwise(begins))
    }
    arrays = (np.array(starts, np.int64)[order], np.array(ends, np.int64)[order])
    results = _Results(file, images, placed, *arrays, categories, classes)
    meaning = _box_meaning(results)
    if meaning != "xywh":
        told.append(
            "boxes are two corners (x, y, x, y), as the masks show" if meaning == "xyxy"
            else "boxes fit the masks neither as x, y, width, height nor as two corners: the masks' own are taken"
        )  # fmt: skip
    results = _Results(file, images, placed, *arrays, categories, classes, meaning)
    return AnnotationSet(classes, tuple(placed), results, tuple(told))


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write a list of COCO results: masks as compressed run-length codes, boxes as x, y, width, height.

    Beside the usual members, each object has its image's ``file_name`` and its ``category_name``. An image keeps its id
    where it has one that is free.

    Raises
    ------
    DataError
        If two images have one name.
    OutputError
        If the file cannot be written.
    """
    path, used, names = Path(path), set[int](), set[str]()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        lead = "[\n"
        for annotation in annotations:
            if annotation.name in names:
                raise DataError("two images have one name", where=path, found=annotation.name, fix="rename one of them")
            names.add(annotation.name)
            number, file_name = image_id(annotation, used), told_file_name(annotation)
            objects = annotation.instances
            numbers = classes_in(objects, classes, annotation.name)
            for i, code in enumerate(objects.to_rle()):
                entry = {
                    "image_id": number,
                    "file_name": file_name,
                    "category_id": numbers[i],
                    "category_name": classes[numbers[i] - 1],
                    "segmentation": code,
                    "bbox": coco_box(objects.boxes[i]),
                    "score": plain_number(objects.scores[i]),
                }
                file.write(lead + json.dumps(entry, ensure_ascii=False))
                lead = ",\n"
        file.write("[]\n" if lead == "[\n" else "\n]\n")


_Known = tuple[dict[str, _Image], tuple[dict[str, int], tuple[str, ...]] | None]


def _from_truth(truth: Path) -> _Known:
    """Images by name, and categories, of a COCO file, or of a bare list of images."""
    if look(truth)[0].startswith("{"):
        index = index_coco(truth, ImageFinder())
        images = {name: _Image(one.key, one.file_name, one.size) for name, one in index.images.items()}
        return images, (dict(index.categories), index.classes)
    images = {}
    for element in JsonFile.of(truth).elements(()):
        entry = element.value if isinstance(element.value, Mapping) else {}
        key, file_name = as_key(entry.get("id")), entry.get("file_name")
        name = plain_name(file_name) if isinstance(file_name, str) else ""
        if key is None or not name or name in images:
            raise DataError(
                "this is no list of images", where=truth, found=f"element {element.key}: {str(entry)[:60]}",
                expected='[{"id": 1, "file_name": "a.tif", "height": …, "width": …}], no name twice',
            )  # fmt: skip
        images[name] = _Image(key, file_name, told_size(entry, f"{truth}, image {file_name}"))
    return images, None


def _from_record(path: Path, keys: Mapping[str, int], told: list[str]) -> _Known | None:
    """Images and classes as prediction wrote them beside its results; None without such a record of these results."""
    record = path.with_name(RECORD_NAME)
    if path.suffix.lower() != ".json" or not record.is_file():
        return None
    try:
        whole = json.loads(record.read_text(encoding="utf-8"))
        entries = whole["images"]
        images = {
            str(entry["name"]): _Image(
                str(entry["image_id"]), re.split(r"[\\/]", entry["file"])[-1], told_size(entry, str(record))
            )
            for entry in entries
        }
        # Older records tell the classes by the objects that they count only.
        counted = [{"id": i, "name": name} for i, name in enumerate(entries[0]["objects"], start=1)]
        named = {str(one["id"]): str(one["name"]) for one in whole.get("categories", counted)}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, CytomaskError):
        return None
    if not keys.keys() <= {image.key for image in images.values()}:
        told.append(f"{RECORD_NAME} beside it is of other results, and is not used")
        return None
    return images, ({key: i + 1 for i, key in enumerate(named)}, tuple(named.values()))


def _from_entries(keys: Iterable[str], file_names: Mapping[str, str]) -> dict[str, _Image]:
    """Images named by their file names, or by number where these are missing or shared."""
    names = {key: plain_name(file_names.get(key, "")) or key for key in keys}
    often = Counter(names.values())
    return {name if often[name] == 1 else key: _Image(key, file_names.get(key)) for key, name in names.items()}


def _classes(used: Mapping[str, int], labels: Mapping[str, str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Classes of the categories that appear: their own numbers where these count from 1."""
    numbers = [as_count(key) for key in used]
    if all(number is not None and number <= _MOST_CLASSES for number in numbers):
        highest = max((number for number in numbers if number is not None), default=1)
        names = [labels.get(str(c), f"class {c}") for c in range(1, highest + 1)]
        keys = [str(c) for c in range(1, highest + 1)]
    else:
        keys = sorted(used, key=by_number)
        names = [labels.get(key, f"class {key}") for key in keys]
    if len(keys) == 1 and not labels:
        names = ["object"]
    return {key: i + 1 for i, key in enumerate(keys)}, tuple(names)


def _box_meaning(results: _Results) -> Literal["xywh", "xyxy", "masks"]:
    """What the boxes mean, which some objects are asked: COCO's sizes, or corners that come nearer to the masks."""
    votes: Counter[str] = Counter()
    step = max(1, len(results.starts) // _LOOKED_AT)
    for entry in results.entries(range(0, len(results.starts), step)):
        box, size = box_of(entry), mask_size(entry, str(results.file.path))
        if box is None or size is None:
            continue
        try:
            _, _, y1, x1 = Instances.from_rle(size, [entry["segmentation"]]).boxes[0].tolist()
        except LabelError:
            # Reading it says what is wrong with it.
            continue
        far = max(abs(box[0] + box[2] - x1), abs(box[1] + box[3] - y1))
        far_corner = max(abs(box[2] - x1), abs(box[3] - y1))
        if abs(far - far_corner) > 2:
            votes["xyxy" if far_corner < far else "xywh"] += 1
    corners = votes["xyxy"] / max(1, votes.total())
    return "xyxy" if corners >= _AGREED else "xywh" if corners <= 1 - _AGREED else "masks"
