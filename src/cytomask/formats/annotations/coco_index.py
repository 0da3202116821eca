"""Which annotations of a COCO file belong to which image: found in one pass, without holding any of them.

Of each annotation only its image, its id and its place in the file are kept, about twenty bytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.coco_objects import (
    as_key,
    by_number,
    drawable,
    many,
    mask_size,
    read_objects,
    told_size,
)
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.json_elements import Element, JsonFile

#: The fact under which an image keeps its id in the file.
IMAGE_ID = "coco_id"
#: Where instance ids stand that are not the annotations' own.
INSTANCE_ID = "instance_id"
_HIGHEST = int(np.iinfo(np.int32).max)
_IMAGE_KEYS = frozenset(("id", "width", "height", "file_name", "license"))
_KNOWN = frozenset(
    ("id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", "score", "file_name", INSTANCE_ID)
)


@dataclass(frozen=True)
class CocoImage:
    """The entry of one image: its id as text, its name, what it tells, and which rows of the index are its objects."""

    key: str
    file_name: str | None
    size: tuple[int, int] | None
    facts: Mapping[str, str]
    rows: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class CocoIndex:
    """A COCO file that was looked through; called with a name, it reads that image's annotation.

    Attributes
    ----------
    file, finder
        The file, and the images on the disk.
    images
        Images by name, in the order of the file.
    starts, ends, ids
        Places of the annotations in the file, and their instance ids, image by image.
    categories
        Class of each of the file's categories, whose ids are text here.
    classes
        Names of the classes.
    told
        What was understood or passed over.
    """

    file: JsonFile
    finder: ImageFinder
    images: Mapping[str, CocoImage]
    starts: np.ndarray
    ends: np.ndarray
    ids: np.ndarray
    categories: Mapping[str, int]
    classes: tuple[str, ...]
    told: tuple[str, ...]

    def __call__(self, name: str) -> Annotation:
        """Read the annotation of one image."""
        image = self.images[name]
        first, last = image.rows
        entries = self.file.read(zip(self.starts[first:last].tolist(), self.ends[first:last].tolist()))
        changed = next((e for e in entries if not isinstance(e, dict) or as_key(e.get("image_id")) != image.key), None)
        if changed is not None:
            raise DataError("the file has changed since it was opened", where=self.file.path, fix="open it again")
        where = f"{self.file.path}, image {image.file_name or name}"
        ids = self.ids[first:last]
        objects = read_objects(
            entries, self._shape(image, entries), [self._class(entry, where) for entry in entries], ids, self.classes,
            where,
        )  # fmt: skip
        crowd = frozenset(i for i, entry in zip(ids.tolist(), entries) if entry.get("iscrowd") in (1, True, "1"))
        path = self.finder.find_clear(image.file_name) if image.file_name else None
        return Annotation(name, objects, crowd, image.file_name, path, image.facts)

    def _class(self, entry: Mapping[str, Any], where: str) -> int:
        key = as_key(entry.get("category_id"))
        if key is None and len(self.classes) == 1:
            return 1
        found = self.categories.get(key or "")
        if found is None:
            raise LabelError(
                "an annotation is of a category that the file does not list",
                where=f"{where}, annotation {entry.get('id', '?')}", found=f"category_id {entry.get('category_id')!r}",
                expected=", ".join(f"{k} ({self.classes[c - 1]})" for k, c in self.categories.items()),
                fix="add the category to the file's list",
            )  # fmt: skip
        return found

    def _shape(self, image: CocoImage, entries: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        if image.size is not None:
            return image.size
        sizes = (mask_size(entry, str(self.file.path)) for entry in entries)
        found = next((size for size in sizes if size is not None), None)
        return found or self.finder.size_of(image.file_name or image.key, self.file.path)


def index_coco(path: Path, finder: ImageFinder) -> CocoIndex:
    """Look through a COCO file.

    Raises
    ------
    DataError
        If it is no JSON, lists no images, lists one twice, or all annotations are of other images.
    """
    file = JsonFile.of(path)
    pass_ = _Pass(path)
    for element in file.elements(("images", "annotations", "categories", "licenses")):
        pass_.add(element)
    images = pass_.named_images()
    categories, classes = pass_.classes()
    rows, starts, ends, ids = pass_.sorted_rows({image.key: i for i, image in enumerate(images.values())})
    begins = np.searchsorted(rows, np.arange(len(images) + 1)).tolist()
    placed = {
        name: CocoImage(image.key, image.file_name, image.size, image.facts, (begins[i], begins[i + 1]))
        for i, (name, image) in enumerate(images.items())
    }
    return CocoIndex(file, finder, placed, starts, ends, ids, categories, classes, tuple(pass_.told()))


@dataclass
class _Pass:
    """What is gathered while the file is looked through."""

    path: Path
    images: list[CocoImage] = field(default_factory=list)
    category_names: dict[str, str] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    used: Counter[str | None] = field(default_factory=Counter)
    keys: dict[str, int] = field(default_factory=dict)
    rows: array[int] = field(default_factory=lambda: array("i"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    ids: array[int] = field(default_factory=lambda: array("q"))
    kinds: Counter[str] = field(default_factory=Counter)
    other_keys: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add(self, element: Element) -> None:
        if element.section not in ("images", "annotations", "categories", "licenses"):
            if element.section == "":
                self._refuse("a list", element)
            return
        if element.key is None:
            if element.value is not None:
                self._refuse(f"{element.section!r} is neither a list nor a dictionary", element)
            return
        value = element.value
        if element.section == "categories" and isinstance(value, str):
            value = {"id": element.key, "name": value}
        if not isinstance(value, Mapping):
            self._refuse(f"element {element.key} of {element.section!r} is no dictionary", element)
        key = as_key(value.get("id", element.key if isinstance(element.key, str) else None))
        if element.section == "annotations":
            self._add_annotation(value, key, element)
        elif key is None:
            if element.section != "licenses":
                self._refuse(f"element {element.key} of {element.section!r} has no id", element)
        elif element.section == "images":
            self._add_image(value, key)
        elif element.section == "categories":
            name = value.get("name")
            self.category_names[key] = str(name) if name not in (None, "") else f"class {key}"
        elif isinstance(value.get("name"), str):
            self.licences[key] = value["name"]

    def _refuse(self, found: str, element: Element) -> None:
        raise DataError(
            "this is not what a COCO file holds", where=self.path, found=f"{found} (byte {element.start})",
            expected='{"images": [{"id": …, "file_name": …}], "annotations": […], "categories": […]}',
        )  # fmt: skip

    def _add_image(self, entry: Mapping[str, Any], key: str) -> None:
        name = entry.get("file_name")
        if not isinstance(name, str) or not plain_name(name):
            name = None
        facts = {IMAGE_ID: key}
        for what, value in entry.items():
            if what not in _IMAGE_KEYS and isinstance(value, str | int | float) and value != "":
                facts[str(what)] = str(value)
        licence = as_key(entry.get("license"))
        if licence not in (None, "0"):
            facts["license"] = str(licence)
        self.images.append(CocoImage(key, name, told_size(entry, f"{self.path}, image {name or key}"), facts))

    def _add_annotation(self, entry: Mapping[str, Any], key: str | None, element: Element) -> None:
        image = as_key(entry.get("image_id"))
        if image is None:
            self._refuse(f"annotation {key if key is not None else element.key} without image_id", element)
        assert image is not None
        kind = drawable(entry)[1]
        self.kinds[kind] += 1
        if not entry.keys() <= _KNOWN:
            self.other_keys.update(str(k) for k in entry.keys() - _KNOWN)
        if kind == "nothing":
            return
        own = as_key(entry.get(INSTANCE_ID))
        number = own if own is not None else key
        whole = number is not None and number.isascii() and number.isdigit() and len(number) < 19
        self.rows.append(self.keys.setdefault(image, len(self.keys)))
        self.starts.append(element.start)
        self.ends.append(element.end)
        self.ids.append(int(number) if whole and number is not None else -1)
        self.used[as_key(entry.get("category_id"))] += 1

    def named_images(self) -> dict[str, CocoImage]:
        """Images by name; files that differ in their suffix only keep it."""
        by_key: dict[str, CocoImage] = {}
        for image in self.images:
            before = by_key.setdefault(image.key, image)
            if before is not image and before != image:
                self._refuse_twice(f"the id {image.key}", [before, image])
        images = list(by_key.values())
        if not images:
            raise DataError(
                "the COCO file lists no images", where=self.path, found='no "images", or none in them',
                expected='"images": [{"id": 1, "file_name": "a.tif", "width": …, "height": …}]',
            )  # fmt: skip
        plain = [plain_name(image.file_name) if image.file_name else image.key for image in images]
        often = Counter(plain)
        named: dict[str, CocoImage] = {}
        for name, image in zip(plain, images):
            if often[name] > 1 and image.file_name:
                whole = "/".join(p for p in image.file_name.replace("\\", "/").split("/") if p not in ("", ".", ".."))
                if whole in named:
                    self._refuse_twice(f"the file name {image.file_name}", [named[whole], image])
                name = whole
            if name in named:
                self._refuse_twice(f"the name {name}", [named[name], image])
            licence = self.licences.get(image.facts.get("license", ""))
            facts = {**image.facts, "license": licence} if licence else image.facts
            named[name] = CocoImage(image.key, image.file_name, image.size, facts)
        return named

    def _refuse_twice(self, what: str, images: Sequence[CocoImage]) -> None:
        raise DataError(
            "two images of the COCO file cannot be told apart", where=self.path,
            found=f"{what} of " + " and ".join(f"image {i.key} ({i.file_name})" for i in images),
            fix="remove one of them, or name their folders in file_name",
        )  # fmt: skip

    def classes(self) -> tuple[dict[str, int], tuple[str, ...]]:
        """Classes from 1 in the order of the file's ids, with names of which no two are alike."""
        names = self.category_names
        if not names:
            keys = sorted((k for k in self.used if k is not None), key=by_number)
            if len(keys) <= 1:
                return dict.fromkeys(keys, 1), ("object",)
            self.notes.append(f"the file does not name its categories {', '.join(keys)}: they are called by number")
            names = {key: f"class {key}" for key in keys}
        keys = sorted(names, key=by_number)
        often = Counter(names.values())
        chosen = tuple(names[k] if often[names[k]] == 1 else f"{names[k]} ({k})" for k in keys)
        twice = sorted(name for name, count in often.items() if count > 1)
        if twice:
            self.notes.append(
                f"several categories are called {', '.join(twice)}: they stay apart, with their numbers behind the name"
            )
        if keys != [str(i + 1) for i in range(len(keys))]:
            listed = ", ".join(f"{k} is {i + 1} ({n})" for i, (k, n) in enumerate(zip(keys, chosen)))
            self.notes.append(f"the file's categories are numbered from 1: {listed}")
        if None in self.used and len(keys) == 1:
            self.notes.append(f"{many(self.used[None], 'annotation')} without a category: taken for {chosen[0]}")
        return {key: i + 1 for i, key in enumerate(keys)}, chosen

    def sorted_rows(self, of_key: Mapping[str, int]) -> tuple[np.ndarray, ...]:
        """Image, place and instance id of each annotation, image by image; those of unlisted images are left out."""
        number = np.array([of_key.get(key, -1) for key in self.keys], np.int64)
        columns = [np.array(c, np.int64) for c in (self.rows, self.starts, self.ends, self.ids)]
        rows = number[columns[0]] if len(number) else columns[0]
        strangers = int((rows < 0).sum())
        if strangers:
            some = ", ".join([key for key in self.keys if key not in of_key][:5])
            if strangers == len(rows):
                raise DataError(
                    "all annotations are of images that the COCO file does not list", where=self.path,
                    found=f"image_id {some}", expected=f"such as {next(iter(of_key))}",
                )  # fmt: skip
            self.notes.append(f"{many(strangers, 'annotation')} of images that the file does not list: image_id {some}")
        order = np.argsort(rows, kind="stable")[strangers:]
        rows, starts, ends, ids = (column[order] for column in (rows, *columns[1:]))
        by_id = np.lexsort((ids, rows))
        twice = (np.diff(rows[by_id]) == 0) & (np.diff(ids[by_id]) == 0)
        odd = np.unique(np.concatenate([rows[(ids < 1) | (ids > _HIGHEST)], rows[by_id][1:][twice]]))
        if len(odd):
            renumbered = np.isin(rows, odd)
            within = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
            ids = np.where(renumbered, within, ids)
            self.notes.append(
                f"the annotations of {many(len(odd), 'image')} are numbered anew from 1, since their ids are missing, "
                f"appear twice in an image, or are not between 1 and {_HIGHEST}"
            )
        return rows, starts, ends, ids.astype(np.int32)

    def told(self) -> list[str]:
        told = list(self.notes)
        if self.kinds["box"]:
            told.append(f"{many(self.kinds['box'], 'annotation')} with a box only: taken for rectangles")
        if self.kinds["thin"]:
            told.append(
                f"pieces with fewer than three points cover nothing and are left out: in "
                f"{many(self.kinds['thin'], 'annotation')}"
            )
        if self.kinds["nothing"]:
            told.append(f"{many(self.kinds['nothing'], 'annotation')} without an outline or a box: left out")
        if self.other_keys:
            keys = sorted(self.other_keys)
            told.append(f"not used of the annotations: {', '.join(keys[:8])}{' …' if len(keys) > 8 else ''}")
        return told
