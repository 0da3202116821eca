"""Labelbox's NDJSON: its exports (version 2), and what its importer takes.

Read are both, one JSON object in each line, and lists of the same (``.json``). Polygons, boxes and masks that come with
the file as pictures are objects; points, lines and classifications are passed over. Masks in exports are links to
Labelbox's servers: they are not fetched, so that a file with any is refused. Of an image with several labels, by
several people, the first is taken; data rows without a label are left out, as nobody has said that they are empty.

Written is an export, with one polygon for each object. Labelbox itself does not import its exports: for that, end the
file's name in ``.import.ndjson``. Then each line is an object for Labelbox's importer, whose data row is told by the
image's file name as the global key; scores are confidences. Such a file tells neither sizes nor images without objects.
Objects without pixels are left out in both.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid5

from cytomask.errors import DataError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_names import listed_name
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.json_elements import JsonFile, look
from cytomask.formats.annotations.labelbox_objects import fill_objects, kind_of, one_outline, picture_size
from cytomask.formats.annotations.object_parts import as_score, objects_of_parts
from cytomask.formats.limits import is_possible_size
from cytomask.output import replacing

#: What the name of a file for Labelbox's importer ends in.
IMPORT_ENDING = ".import.ndjson"
_SUFFIXES = (".ndjson", ".jsonl", ".json")
#: Ids that follow from the image's name and the object's label.
_NAMESPACE = UUID("0f6e2b0d-0d55-5a55-8a5c-5d7a4f1f0b3e")
_TOLD = {
    "several": "images with several labels: {}; of each the first label is taken",
    "unlabelled": "data rows without a label are left out: {}",
    "other": "points, lines and the like are passed over: {}",
    "classifications": "classifications are passed over: {}",
}


@dataclass
class _Image:
    """Where an image's rows lie in the file, and what they tell."""

    line: int
    file_name: str
    other_name: str
    shape: tuple[int, int] | None
    spans: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Reader:
    path: Path
    file: JsonFile
    entries: dict[str, _Image]
    classes: tuple[str, ...]
    images: ImageFinder

    def read(self, name: str) -> Annotation:
        entry = self.entries[name]
        where = f"{self.path}, line {entry.line}, {entry.file_name}"
        rows = self.file.read(entry.spans)
        items = [item for row in rows for item in _items(row) if kind_of(item) != "other"]
        shape = entry.shape or self._shape(entry, items, where)
        parts = fill_objects(shape, items, where)
        instances = objects_of_parts(
            shape,
            parts,
            classes=[self.classes.index(_class_name(item)) + 1 for item in items],
            scores=[_score(item) for item in items],
            class_names=self.classes,
        )
        fields = rows[0].get("metadata_fields")
        facts = {
            str(fact["schema_name"]): str(fact["value"])
            for fact in (fields if isinstance(fields, list) else [])
            if isinstance(fact, dict) and "schema_name" in fact and "value" in fact
        }
        return Annotation(
            name, instances, file_name=entry.file_name, image=self.images.find_clear(entry.file_name), facts=facts
        )

    def _shape(self, entry: _Image, items: Sequence[Mapping[str, Any]], where: str) -> tuple[int, int]:
        """The size where the file does not tell it: of the image, or of a mask."""
        if self.images.find(entry.file_name) is None:
            for item in items:
                size = picture_size(item, where)
                if min(size) > 0:
                    return size
        return self.images.size_of(entry.file_name, self.path)


def recognise(path: Path) -> bool:
    """Whether a file begins like an export or import of Labelbox.

    Examples
    --------
    >>> recognise(Path("nowhere.ndjson"))
    False
    """
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return False
    begin = "".join(look(path)[0][:200_000].split())
    return begin.startswith(("{", "[{")) and (
        ('"data_row":{' in begin and ('"projects":{' in begin or '"media_attributes":{' in begin))
        or '"dataRow":{' in begin
        or ('"LabeledData":' in begin and '"Label":' in begin)
    )


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images and the classes, which are the objects' names in the order of the alphabet.

    Parameters
    ----------
    path
        The file.
    images
        Needed where the file does not tell the images' sizes, as those for the importer.

    Raises
    ------
    DataError
        If the file is no NDJSON of Labelbox, has masks that are links, is about videos, or tells an image twice.
    """
    told: Counter[str] = Counter()
    classes: set[str] = set()
    found: dict[str, _Image] = {}
    rows = 0
    for start, end, line, row in _rows(path):
        rows += 1
        where = f"{path}, line {line}"
        entry = _image(row, line, where)
        if "data_row" in row:
            labels = _labels(row)
            told["several"] += len(labels) > 1
            if not labels:
                told["unlabelled"] += 1
                continue
            told["classifications"] += _count(_annotations(labels[0], where).get("classifications"))
            if entry.file_name in found:
                entry.file_name = entry.other_name
            if entry.file_name in found:
                raise DataError(
                    "two data rows have the same name", where=where,
                    found=f"{entry.file_name}, as in line {found[entry.file_name].line}",
                    fix="give the data rows different external ids or global keys",
                )  # fmt: skip
        # Each row for the importer is one object; those of an image go together.
        found.setdefault(entry.file_name, entry).spans.append((start, end))
        for item in _items(row):
            kind = kind_of(item)
            told["classifications"] += _count(item.get("classifications"))
            if kind == "linked mask":
                raise DataError(
                    "a mask is a link to Labelbox's servers, which is not followed", where=where,
                    found=f"{_class_name(item)} in {entry.file_name}", expected="polygons, or masks in the file",
                    fix="fetch the masks with Labelbox's Python client, and read them as one binary mask per object",
                )  # fmt: skip
            if kind == "other":
                told["other"] += 1
            else:
                classes.add(_class_name(item))
    if not rows:
        raise DataError("the file has no data rows", where=path, expected="one JSON object in each line")
    names = tuple(sorted(classes)) or ("object",)
    entries: dict[str, _Image] = {}
    for entry in found.values():
        if entries.setdefault(plain_name(entry.file_name), entry) is not entry:
            raise DataError(
                "two images have the same name", where=f"{path}, line {entry.line}",
                found=f"{entry.file_name} and {entries[plain_name(entry.file_name)].file_name}",
                fix="give the data rows different external ids or global keys",
            )  # fmt: skip
    sentences = tuple(text.format(told[key]) for key, text in _TOLD.items() if told[key])
    return AnnotationSet(
        names, tuple(entries), _Reader(path, JsonFile.of(path), entries, names, images).read, sentences
    )


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write all objects as polygons.

    Parameters
    ----------
    path
        The file. Where its name ends in ``.import.ndjson``, it is one for Labelbox's importer.
    annotations
        What to write, looped over once.
    classes
        The names of the classes, in the order of the objects' class ids.

    Raises
    ------
    DataError
        If two images have the same name.
    OutputError
        If the file cannot be written.
    """
    names: set[str] = set()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for annotation in annotations:
            listed = listed_name(annotation)
            if listed in names:
                raise DataError("two images have the same name", where=path, found=listed, fix="rename one of them")
            names.add(listed)
            make = _import_rows if path.name.lower().endswith(IMPORT_ENDING) else _export_rows
            for row in make(annotation, listed, classes):
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _objects(annotation: Annotation, classes: Sequence[str]) -> Iterator[tuple[str, str, float, list[dict[str, int]]]]:
    """Id, class, score and outline of each object."""
    instances = annotation.instances.shifted(0, 0, annotation.instances.shape)
    for i, rings in enumerate(instances.to_polygons()):
        points = (one_outline(rings) + 0.5).astype(int).tolist()
        # The shortest number that is the same in 32 bits.
        score = float(str(instances.scores[i]))
        identity = str(uuid5(_NAMESPACE, f"{annotation.name}\n{instances.ids[i]}"))
        yield identity, classes[instances.classes[i] - 1], score, [{"x": x, "y": y} for y, x in points]


def _export_rows(annotation: Annotation, listed: str, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    height, width = annotation.instances.shape
    objects = [
        {
            "feature_id": identity, "name": name, "value": "_".join(name.lower().split()),
            "annotation_kind": "ImagePolygon", "classifications": [], "polygon": points,
        }
        for identity, name, _, points in _objects(annotation, classes)
    ]  # fmt: skip
    identity = str(uuid5(_NAMESPACE, annotation.name))
    label = {
        "label_kind": "Default", "version": "1.0.0", "id": identity,
        "annotations": {"objects": objects, "classifications": [], "relationships": []},
    }  # fmt: skip
    yield {
        "data_row": {"id": identity, "global_key": annotation.name, "external_id": listed},
        "media_attributes": {"height": height, "width": width},
        "metadata_fields": [
            {"schema_name": key, "schema_kind": "CustomMetadataString", "value": value}
            for key, value in annotation.facts.items()
        ],
        "projects": {"cytomask": {"name": "cytomask", "labels": [label]}},
    }


def _import_rows(annotation: Annotation, listed: str, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for identity, name, score, points in _objects(annotation, classes):
        row: dict[str, Any] = {"uuid": identity, "dataRow": {"globalKey": listed}, "name": name, "polygon": points}
        if score != 1 and math.isfinite(score):
            row["confidence"] = score
        yield row


def _rows(path: Path) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """Every row with its place in the file, in bytes, and its line or its number in a list."""
    if look(path)[0].startswith("["):
        for number, element in enumerate(JsonFile.of(path).elements([]), start=1):
            yield element.start, element.end, number, _checked(element.value, f"{path}, element {number}")
        return
    try:
        with path.open("rb") as file:
            start = 0
            for number, line in enumerate(file, start=1):
                begin, start = start, start + len(line)
                mark = line.startswith(b"\xef\xbb\xbf") and number == 1
                if not (text := line[3 if mark else 0 :].strip()):
                    continue
                where = f"{path}, line {number}"
                try:
                    row = json.loads(text.decode("utf-8"))
                except (ValueError, RecursionError) as error:
                    raise DataError(
                        "a line is not proper JSON", where=where, found=error,
                        expected="one JSON object in each line", fix="the file may be cut off; export it again",
                    ) from error  # fmt: skip
                yield begin + 3 * mark, start, number, _checked(row, where)
    except OSError as error:
        raise DataError("the file cannot be read", where=path, found=error.strerror) from error


def _checked(row: Any, where: str) -> dict[str, Any]:
    if isinstance(row, dict) and "Labeled Data" in row:
        raise DataError(
            "this is an export of Labelbox's first version", where=where, expected="an export of version 2",
            fix="export the labels again from the project in Labelbox",
        )  # fmt: skip
    if not isinstance(row, dict) or not isinstance(row.get("data_row", row.get("dataRow")), dict):
        raise DataError(
            "a row is not as Labelbox writes it", where=where, found=str(row)[:80],
            expected='{"data_row": {...}, "projects": {...}}, or {"dataRow": {...}, "name": …, "polygon": […]}',
        )  # fmt: skip
    return row


def _image(row: Mapping[str, Any], line: int, where: str) -> _Image:
    data = row["data_row"] if "data_row" in row else row["dataRow"]
    link = data.get("row_data")
    last = unquote(link.split("?")[0].rsplit("/", 1)[-1]) if isinstance(link, str) else None
    told = [data.get("external_id"), data.get("global_key"), data.get("globalKey"), last, data.get("id")]
    names = [str(name) for name in told if name not in (None, "") and plain_name(str(name))]
    if not names:
        raise DataError(
            "a data row has no name", where=where, found=str(data)[:80], expected="external_id, global_key or id"
        )
    size = row.get("media_attributes")
    shape = None
    if isinstance(size, dict) and size.get("height") is not None and size.get("width") is not None:
        height, width = size["height"], size["width"]
        if not (isinstance(height, int) and isinstance(width, int) and is_possible_size(height, width)):
            raise DataError("an image has no size", where=where, found=str(size)[:80], expected="height and width")
        shape = height, width
    # Of two data rows with one external id, the global keys differ.
    return _Image(line, names[0], names[min(1, len(names) - 1)], shape)


def _labels(row: Mapping[str, Any]) -> list[Any]:
    projects = row.get("projects")
    found = []
    for project in projects.values() if isinstance(projects, dict) else ():
        labels = project.get("labels") if isinstance(project, dict) else None
        found += [label for label in labels if isinstance(label, dict)] if isinstance(labels, list) else []
    return found


def _annotations(label: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    annotations = label.get("annotations")
    if isinstance(annotations, dict) and "frames" in annotations:
        raise DataError("this label is about a video", where=where, expected="labels of images")
    return annotations if isinstance(annotations, dict) else {}


def _items(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The objects of a row."""
    if "data_row" not in row:
        return [row]
    labels = _labels(row)
    objects = _annotations(labels[0], "").get("objects") if labels else None
    return [item for item in objects if isinstance(item, dict)] if isinstance(objects, list) else []


def _count(found: Any) -> int:
    return len(found) if isinstance(found, list) else 0


def _class_name(item: Mapping[str, Any]) -> str:
    return str(item.get("name") or item.get("title") or item.get("value") or item.get("schemaId") or "object")


def _score(item: Mapping[str, Any]) -> float:
    score = as_score(item.get("confidence"))
    return 1.0 if score is None else score
