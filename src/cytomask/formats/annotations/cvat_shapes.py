"""The shapes of CVAT's XML as masks: polygons, boxes, ellipses and run-length codes.

Coordinates are pixels from the image's upper left corner; a pixel belongs to a shape if its centre lies inside. Masks
are runs of background and object in turn, row by row through the mask's box, background first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from cytomask.errors import LabelError
from cytomask.formats.annotations.object_parts import NOTHING, Part, fill_parts, join_parts
from cytomask.geometry.bit_mask_checks import check_room

#: Elements that are objects.
SHAPES = ("polygon", "box", "ellipse", "mask")
#: An ellipse is reckoned in bands of so many pixels.
_BAND = 2**20


def read_shapes(
    shape: tuple[int, int], elements: Sequence[tuple[str, Mapping[str, str], int]], where: str
) -> tuple[list[Part], list[str]]:
    """Find the objects of an image: their masks and labels, from the bottom to the top.

    Parameters
    ----------
    shape
        Height and width of the image; what lies outside is cut off.
    elements
        Name, attributes and line of each element that is a shape. Those of one ``group_id`` and label are one object.
    where
        The file and the image, for errors.

    Raises
    ------
    LabelError
        If an attribute is missing or no number, or a run-length code does not fit its box.
    """
    ordered = sorted(elements, key=lambda element: _z_order(element[1]))
    parts: list[Part] = [NOTHING] * len(ordered)
    pixels = numbers = 0
    outlines: dict[int, np.ndarray] = {}
    owners: list[tuple[str, str, int]] = []
    for i, (kind, attributes, line) in enumerate(ordered):
        reader = _Attributes(attributes, f"{where}, line {line}, <{kind}>")
        if kind == "mask":
            parts[i] = _mask(shape, reader)
        elif kind == "ellipse":
            parts[i] = _ellipse(shape, reader)
        else:
            outlines[i] = _polygon(reader) if kind == "polygon" else _box(reader)
        pixels, numbers = pixels + parts[i][0].size, numbers + attributes.get("rle", "").count(",") + 1
        check_room(pixels, numbers, where)
        group = attributes.get("group_id", "0").strip()
        owners.append((group, reader.text("label"), i if group in ("", "0") else -1))
    for i, part in zip(outlines, fill_parts(shape, list(outlines.values()), where)):
        parts[i] = part
    objects, firsts = join_parts(parts, owners)
    return objects, [owners[i][1] for i in firsts]


def row_runs(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask's crop, row by row, background first.

    Examples
    --------
    >>> row_runs(np.array([[True, False], [True, True]]))
    [0, 1, 1, 2]
    """
    flat = mask.ravel()
    ends = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    runs = np.diff(ends).tolist()
    return [0, *runs] if flat[0] else runs


def _z_order(attributes: Mapping[str, str]) -> int:
    try:
        return int(attributes.get("z_order", "0"))
    except ValueError:
        return 0


class _Attributes:
    """The attributes of an element, made sure of."""

    def __init__(self, values: Mapping[str, str], where: str) -> None:
        self.values, self.where = values, where

    def text(self, name: str) -> str:
        if name not in self.values:
            self.fail(f"no attribute {name}", name)
        return self.values[name]

    def number(self, name: str, default: float | None = None) -> float:
        if name not in self.values and default is not None:
            return default
        try:
            number = float(self.text(name))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{name}={self.values[name]!r}", "a number")
        return number

    def whole(self, name: str) -> int:
        number = self.number(name)
        if number != int(number) or abs(number) > 2**31:
            self.fail(f"{name}={self.values[name]!r}", "a whole number")
        return int(number)

    def fail(self, found: str, expected: str) -> NoReturn:
        raise LabelError(
            "a shape is not as CVAT writes it", where=self.where, found=found, expected=expected,
            fix="export the annotations again as CVAT for images 1.1",
        )  # fmt: skip


def _polygon(attributes: _Attributes) -> np.ndarray:
    text = attributes.text("points")
    try:
        points = np.array([[float(n) for n in point.split(",")] for point in text.split(";") if point.strip()])
    except ValueError:
        points = np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 3 or not np.isfinite(points).all():
        attributes.fail(f"points={text[:60]!r}", "three points x,y or more, with ; between them")
    return points[:, ::-1] - 0.5


def _box(attributes: _Attributes) -> np.ndarray:
    x0, y0, x1, y1 = (attributes.number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    angle = math.radians(attributes.number("rotation", 0))
    if angle:
        # Clockwise on the screen, about the middle.
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        middle = corners.mean(axis=0)
        corners = (corners - middle) @ turn + middle
    return corners[:, ::-1] - 0.5


def _ellipse(shape: tuple[int, int], attributes: _Attributes) -> Part:
    cx, cy, rx, ry = (attributes.number(name) for name in ("cx", "cy", "rx", "ry"))
    if rx <= 0 or ry <= 0:
        return NOTHING
    angle = math.radians(attributes.number("rotation", 0))
    cos, sin = math.cos(angle), math.sin(angle)
    reach_y, reach_x = math.hypot(rx * sin, ry * cos), math.hypot(rx * cos, ry * sin)
    y0, y1 = (min(max(math.floor(v), 0), shape[0]) for v in (cy - reach_y, cy + reach_y + 1))
    x0, x1 = (min(max(math.floor(v), 0), shape[1]) for v in (cx - reach_x, cx + reach_x + 1))
    if y0 >= y1 or x0 >= x1:
        return NOTHING
    check_room((y1 - y0) * (x1 - x0), 4, attributes.where)
    mask = np.empty((y1 - y0, x1 - x0), bool)
    x = np.arange(x0, x1)[None, :] + (0.5 - cx)
    step = max(1, _BAND // (x1 - x0))
    for begin in range(y0, y1, step):
        y = np.arange(begin, min(begin + step, y1))[:, None] + (0.5 - cy)
        inside = ((x * cos + y * sin) / rx) ** 2 + ((y * cos - x * sin) / ry) ** 2 <= 1
        mask[begin - y0 : begin - y0 + len(inside)] = inside
    return mask, (y0, x0)


def _mask(shape: tuple[int, int], attributes: _Attributes) -> Part:
    left, top, width, height = (attributes.whole(name) for name in ("left", "top", "width", "height"))
    text = attributes.text("rle")
    try:
        runs = np.array([int(n) for n in text.split(",") if n.strip()], np.int64)
    except (ValueError, OverflowError):
        attributes.fail(f"rle={text[:60]!r}", "whole numbers with commas between them")
    # CVAT cuts masks at the image's border, so a box far larger than the image is no box.
    if width < 1 or height < 1 or width * height > 4 * shape[0] * shape[1] + 2**20:
        attributes.fail(f"a box of {width} x {height}", "a box in the image")
    if (runs.size and (runs.min() < 0 or runs.max() > width * height)) or runs.sum() != width * height:
        attributes.fail(f"a run-length code of {runs.sum()} pixels", f"{width * height}, {width} x {height}")
    check_room(width * height, len(runs), attributes.where)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    y0, x0 = min(max(-top, 0), height), min(max(-left, 0), width)
    y1, x1 = max(min(height, shape[0] - top), y0), max(min(width, shape[1] - left), x0)
    if y0 >= y1 or x0 >= x1:
        return NOTHING
    return flat.reshape(height, width)[y0:y1, x0:x1], (top + y0, left + x0)
