"""What is wrong with a COCO file itself: ids, categories, boxes, polygons; found before any reader interprets them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding, many
from cytomask.errors import CytomaskError
from cytomask.formats.annotations.coco_objects import as_key, box_of, drawable, told_size
from cytomask.formats.annotations.image_finder import plain_name
from cytomask.formats.annotations.json_elements import JsonFile
from cytomask.instances import Instances

#: A point or a side of a box may lie so far outside the image without being told, in pixels.
SLACK = 1.0
#: A box fits its mask if no side is farther than this, in pixels, or the two overlap so much.
NEAR, OVERLAP = 3.0, 0.8
#: Boxes are given by two corners if so many of them fit only when read like that.
CONVENTION_SHARE = 0.5


@dataclass
class _OfImage:
    """What was found in the annotations of one image: ids of annotations by kind, and the largest measure."""

    ids: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    worst: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    windows: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)

    def add(self, kind: str, number: int, value: float = 1.0, window: tuple[int, int, int, int] | None = None) -> None:
        self.ids[kind].append(number)
        if value > self.worst[kind]:
            self.worst[kind] = value
            if window is not None:
                self.windows[kind] = window


def coco_faults(path: Path, split: str | None = None) -> list[Finding]:
    """Find what is wrong with a COCO file.

    Parameters
    ----------
    path
        The file.
    split
        The split that it is of.

    Returns
    -------
    list of Finding
        At most one of each kind for each image.

    Raises
    ------
    DataError
        If the file is no JSON.
    """
    file = JsonFile.of(path)
    images: dict[str, tuple[str, tuple[int, int] | None]] = {}
    doubled: list[str] = []
    categories: dict[str, str] = {}
    names: Counter[str] = Counter()
    for element in file.elements(("images", "annotations", "categories")):
        value = element.value
        if not isinstance(value, Mapping) or element.section not in ("images", "categories"):
            continue
        key = as_key(value.get("id"))
        if key is None:
            continue
        if element.section == "categories":
            categories[key] = str(value.get("name") or f"class {key}")
            continue
        name = str(value.get("file_name") or key)
        names[name] += 1
        if key in images or names[name] > 1:
            doubled.append(name)
        images[key] = name, _size(value)
    pass_ = _Annotations(images, categories)
    for element in file.elements(("images", "annotations", "categories")):
        if element.section == "annotations" and isinstance(element.value, Mapping):
            pass_.add(element.value, element.key)
    found = list(pass_.findings(path, split))
    if doubled:
        found.append(finding(
            "doubled-entry", f"{many(len(set(doubled)), 'image is', 'images are')} listed twice, such as {doubled[0]}",
            file=path, split=split, image=plain_name(doubled[0]), value=len(doubled),
        ))  # fmt: skip
    return found


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        return told_size(entry, "")
    except CytomaskError:
        return None


@dataclass
class _Annotations:
    """Goes through the annotations one by one."""

    images: Mapping[str, tuple[str, tuple[int, int] | None]]
    categories: Mapping[str, str]
    of_image: dict[str, _OfImage] = field(default_factory=lambda: defaultdict(_OfImage))
    seen: set[str] = field(default_factory=set)
    orphans: list[int] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    #: Boxes that fit, as they should be, as two corners, and how many could be compared.
    fitting: int = 0
    as_corners: int = 0
    compared: int = 0
    cornered: str | None = None

    def add(self, entry: Mapping[str, Any], place: str | int | None) -> None:
        key, image = as_key(entry.get("id")), as_key(entry.get("image_id"))
        number = int(key) if key is not None and key.isascii() and key.isdigit() else int(place or 0)
        category = as_key(entry.get("category_id"))
        if category is not None:
            self.used.add(category)
        if image is None or image not in self.images:
            self.orphans.append(number)
            return
        found = self.of_image[image]
        if key is not None:
            if key in self.seen:
                found.add("duplicate-ids", number)
            self.seen.add(key)
        if category not in self.categories and (category is not None or len(self.categories) > 1):
            found.add("unknown-category", number)
        thin = thin_pieces(entry)
        if thin:
            found.add("few-points", number, thin)
        if entry.get("iscrowd") not in (1, True, "1"):
            self._compare(entry, number, found, image, thin > 0)

    def _compare(self, entry: Mapping[str, Any], number: int, found: _OfImage, image: str, thin: bool) -> None:
        shape, origin = drawable(entry)
        size = self.images[image][1]
        if origin == "nothing":
            if not thin:
                found.add("empty-mask", number)
            return
        try:
            reach = _reach(shape, size)
        except (CytomaskError, TypeError, ValueError):
            found.add("broken-mask", number)
            return
        box = box_of(entry)
        if reach is None:
            found.add("empty-mask", number)
            return
        window = int(reach[0]), int(reach[1]), int(np.ceil(reach[2])), int(np.ceil(reach[3]))
        if size is not None and origin != "box":
            over = max(-reach[0], -reach[1], reach[2] - size[0], reach[3] - size[1])
            if over > SLACK:
                found.add("outside-image", number, over, _clipped(window, size))
        if box is None:
            return
        x, y, width, height = box
        told, corners = (y, x, y + height, x + width), (y, x, height, width)
        if origin == "box":
            # Without a mask, only the image's border can tell.
            if size is not None:
                out = max(told[2] - size[0], told[3] - size[1], -told[0], -told[1]) > SLACK
                in_as_corners = width > x and height > y and height <= size[0] + SLACK and width <= size[1] + SLACK
                self._count(not out, out and in_as_corners, image)
                if out and not in_as_corners:
                    over = max(told[2] - size[0], told[3] - size[1], -told[0], -told[1])
                    found.add("outside-image", number, over, _clipped(window, size))
            return
        right, wrong = _fits(told, reach), _fits(corners, reach)
        self._count(right, wrong and not right, image)
        if not right:
            off = max(abs(a - b) for a, b in zip(told, reach))
            found.add("box-mismatch", number, off, None if size is None else _clipped(window, size))

    def _count(self, right: bool, wrong: bool, image: str) -> None:
        self.compared += 1
        self.fitting += right
        self.as_corners += wrong
        if wrong and self.cornered is None:
            self.cornered = image

    def findings(self, path: Path, split: str | None) -> Iterator[Finding]:
        about: dict[str, Any] = {"file": path, "split": split}
        convention = self.as_corners >= max(3, CONVENTION_SHARE * self.compared)
        if convention and self.cornered is not None:
            yield finding(
                "box-convention",
                f"{self.as_corners:,} of {many(self.compared, 'box', 'boxes')} fit only if read as [x0, y0, x1, y1]; "
                f"{self.fitting:,} fit as [x, y, width, height]",
                image=plain_name(self.images[self.cornered][0]), value=self.as_corners, **about,
            )  # fmt: skip
        for key, found in self.of_image.items():
            for kind, ids in found.ids.items():
                if convention and kind == "box-mismatch":
                    continue
                yield finding(
                    kind, _message(kind, ids, found.worst[kind]), image=plain_name(self.images[key][0]), objects=ids,
                    window=found.windows.get(kind), value=found.worst[kind], **about,
                )  # fmt: skip
        if self.orphans:
            yield finding(
                "orphan-annotation",
                f"{many(len(self.orphans), 'annotation')} of images that the file does not list",
                objects=self.orphans, value=len(self.orphans), **about,
            )  # fmt: skip


def thin_pieces(entry: Mapping[str, Any]) -> int:
    """How many pieces of a polygon have fewer than three points.

    Examples
    --------
    >>> thin_pieces({"segmentation": [[1, 1, 5, 5], [0, 0, 4, 0, 4, 4]]}), thin_pieces({"segmentation": []})
    (1, 0)
    """
    pieces = entry.get("segmentation")
    if not isinstance(pieces, list) or not pieces:
        return 0
    if not isinstance(pieces[0], list):
        return int(not isinstance(pieces[0], Mapping) and len(pieces) < 6)
    if all(isinstance(p, list) and len(p) == 2 for p in pieces):
        return int(len(pieces) < 3)
    return sum(isinstance(piece, list) and len(piece) < 6 for piece in pieces)


def _reach(shape: Any, size: tuple[int, int] | None) -> tuple[float, float, float, float] | None:
    """The box ``(y0, x0, y1, x1)`` around a mask, in continuous pixels; None if it covers nothing."""
    if isinstance(shape, Mapping):
        told = shape.get("size")
        own = tuple(int(v) for v in told) if isinstance(told, Sequence) and len(told) == 2 else size
        if own is None:
            raise ValueError("no size")
        objects = Instances.from_rle((own[0], own[1]), [{**shape, "size": list(own)}])
        if not objects.areas()[0]:
            return None
        y0, x0, y1, x1 = (float(v) for v in objects.boxes[0])
        return y0, x0, y1, x1
    points = np.concatenate([np.asarray(piece, np.float64).reshape(-1, 2) for piece in shape])
    if not np.isfinite(points).all():
        raise ValueError("not finite")
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    if x1 <= x0 or y1 <= y0:
        return None
    return float(y0), float(x0), float(y1), float(x1)


def _fits(box: tuple[float, float, float, float], reach: tuple[float, float, float, float]) -> bool:
    if max(abs(a - b) for a, b in zip(box, reach)) <= NEAR:
        return True
    height = min(box[2], reach[2]) - max(box[0], reach[0])
    width = min(box[3], reach[3]) - max(box[1], reach[1])
    if height <= 0 or width <= 0 or box[2] <= box[0] or box[3] <= box[1]:
        return False
    union = (box[2] - box[0]) * (box[3] - box[1]) + (reach[2] - reach[0]) * (reach[3] - reach[1]) - height * width
    return height * width >= OVERLAP * union


def _clipped(window: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    y0, x0, y1, x1 = (min(max(v, 0), limit) for v, limit in zip(window, (*size, *size)))
    if y1 <= y0 or x1 <= x0:
        return None
    return max(y0 - 16, 0), max(x0 - 16, 0), min(y1 + 16, size[0]), min(x1 + 16, size[1])


def _message(kind: str, ids: Sequence[int], worst: float) -> str:
    count = len(ids)
    return {
        "duplicate-ids": f"{many(count, 'annotation')} with an id that another has, such as {ids[0]}",
        "unknown-category": f"{many(count, 'annotation')} of a category that the file does not list",
        "few-points": f"{many(count, 'annotation')} with pieces of one or two points",
        "empty-mask": f"{many(count, 'annotation')} that cover no pixel",
        "broken-mask": f"{many(count, 'annotation')} whose segmentation is broken, such as annotation {ids[0]}",
        "outside-image": f"{many(count, 'object reaches', 'objects reach')} up to {worst:.1f} px beyond the image",
        "box-mismatch": f"{many(count, 'box', 'boxes')} up to {worst:.0f} px off the mask",
    }[kind]
