"""The shapes of an SVG drawing that outline objects, in pixels of the image that they were drawn on.

Polygons, polylines, paths, circles and ellipses count, wherever they are in groups, with their transforms; what is
hidden, and what only defines clips, masks and symbols, does not. Rectangles are no outlines of nuclei but frames and
backgrounds. Curves become lines that are nowhere further than 0.1 pixels away.

A file that declares entities is refused: they are how a small file asks for all the memory, or for other files. A bare
document type, as Adobe Illustrator writes it, is passed over; nothing is ever fetched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn
from xml.parsers import expat

import numpy as np

from cytomask.errors import LabelError
from cytomask.formats.annotations.svg_paths import LARGEST, PathError, Segment, flatten, read_path

_CHUNK = 2**16
_DEEPEST = 256
#: By so many pixels a drawing's size may differ from its image's for having been rounded.
_ROUNDED = 1.5
_MOST_POINTS = 20_000_000
_NOT_DRAWN = frozenset(
    {"defs", "clipPath", "mask", "symbol", "pattern", "marker", "metadata", "linearGradient", "filter"}
)
_GROUPS = frozenset({"g", "a", "svg", "switch"})
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = re.compile(_NUMBER, re.ASCII)
_LENGTH = re.compile(rf"\s*({_NUMBER})\s*(px|pt|pc|mm|cm|in)?\s*", re.ASCII)
#: CSS pixels per unit.
_UNITS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
_TRANSFORM = re.compile(r"[\s,]*(matrix|translate|scale|rotate|skewX|skewY)\s*\(([^)]*)\)[\s,]*")
_RULE = re.compile(r"\.([\w-]+)\s*\{([^}]*)\}")
#: A circle of radius 1 of four curves.
_REACH = 0.5522847498307936


@dataclass(frozen=True)
class Shape:
    """One outline.

    Attributes
    ----------
    rings
        Rings ``(V, 2)`` of points ``(y, x)`` in pixels, centres at whole numbers.
    rule
        What is inside of them.
    layer
        Which child of the drawing it is in, from 0; -1 for a shape that is a child itself.
    attributes
        As the file has them.
    """

    rings: list[np.ndarray]
    rule: Literal["nonzero", "even-odd"]
    layer: int
    attributes: Mapping[str, str]


@dataclass
class Drawing:
    """What an SVG file tells.

    Attributes
    ----------
    size
        Height and width in pixels of the image that was drawn on: as it is known, or of the picture in the file, or
        else of the drawing.
    own_size
        The same, as the file alone tells it.
    shapes
        The outlines that are to be seen, in the file's order.
    hidden
        How many outlines are hidden.
    attributes
        Those of the drawing itself.
    """

    size: tuple[float, float]
    own_size: tuple[float, float]
    shapes: list[Shape] = field(default_factory=list)
    hidden: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Style:
    matrix: np.ndarray
    rule: Literal["nonzero", "even-odd"] = "nonzero"
    visible: bool = True
    drawn: bool = True


def read_svg(path: Path, image_size: tuple[int, int] | None = None) -> Drawing:
    """Read the outlines of an SVG file.

    Parameters
    ----------
    path
        The file.
    image_size
        Height and width of the image in pixels, if known. Coordinates are brought to its pixels by the place of the
        picture in the drawing, or else by the drawing's size.

    Raises
    ------
    LabelError
        If the file is no SVG, is broken, or declares entities.
    """
    reader = _SvgReader(path)
    reader.parse()
    if reader.viewport is None:
        raise _broken(path, "it has no <svg>")
    return reader.drawing(image_size)


@dataclass
class _Raw:
    """A shape before it is known where the image lies."""

    segments: list[list[Segment]]
    rule: Literal["nonzero", "even-odd"]
    layer: int
    attributes: dict[str, str]


class _SvgReader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.viewport: tuple[float, float] | None = None
        self.root: dict[str, str] = {}
        self.pictures: list[tuple[np.ndarray, float, float]] = []
        self.raw: list[_Raw] = []
        self.hidden = 0
        self.classes: dict[str, str] = {}
        self.styles: list[_Style] = []
        self.layer, self.in_layer = -1, False
        self.css: list[str] | None = None
        self.parser = expat.ParserCreate()

    def parse(self) -> None:
        parser = self.parser
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = lambda *_: self._refuse("it declares entities")
        parser.ExternalEntityRefHandler = lambda *_: self._refuse("it refers to another file")
        parser.buffer_text = True
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    parser.Parse(chunk)
                parser.Parse(b"", True)
        except OSError as error:
            raise LabelError("the drawing cannot be read", where=self.path, found=error.strerror) from error
        except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: encodings that are not known
            raise _broken(self.path, str(error)) from error

    def _refuse(self, found: str) -> NoReturn:
        raise LabelError(
            "the drawing has a document type of its own", where=self.path, found=found, expected="plain SVG",
            fix="save it as plain SVG; in Illustrator, without Illustrator's editing capabilities",
        )  # fmt: skip

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if len(self.styles) >= _DEEPEST:
            raise self._wrong(f"elements are nested more than {_DEEPEST} deep")
        if not self.styles:
            if name != "svg":
                raise self._wrong(f"its outermost element is <{name[:40]}>")
            self.root = attributes
            self.viewport, matrix = self._viewport(attributes)
            self.styles.append(_Style(matrix))
            return
        if len(self.styles) == 1:
            self.layer += 1
            self.in_layer = name in _GROUPS
        if name == "style":
            self.css = []
        style = self._style(name, attributes)
        self.styles.append(style)
        if not style.drawn:
            return
        if name == "image":
            self._picture(attributes, style.matrix)
            return
        segments = self._segments(name, attributes)
        if not segments:
            return
        if not style.visible:
            self.hidden += 1
            return
        moved = [[segment @ style.matrix[:, :2].T + style.matrix[:, 2] for segment in part] for part in segments]
        self.raw.append(_Raw(moved, style.rule, self.layer if self.in_layer else -1, attributes))

    def _end(self, tag: str) -> None:
        self.styles.pop()
        if self.css is not None and tag.rpartition(":")[2] == "style":
            self.classes |= {found[1]: found[2] for found in _RULE.finditer("".join(self.css))}
            self.css = None

    def _text(self, text: str) -> None:
        if self.css is not None:
            self.css.append(text)

    def _style(self, name: str, attributes: Mapping[str, str]) -> _Style:
        above = self.styles[-1]
        properties = {key: attributes[key] for key in ("display", "visibility", "fill-rule") if key in attributes}
        blocks = [self.classes.get(c, "") for c in attributes.get("class", "").split()] + [attributes.get("style", "")]
        for declaration in ";".join(blocks).split(";"):
            key, colon, value = declaration.partition(":")
            if colon:
                properties[key.strip()] = value.strip()
        matrix = above.matrix
        if "transform" in attributes:
            matrix = _combine(matrix, self._transform(attributes["transform"]))
        rule = {"evenodd": "even-odd", "nonzero": "nonzero"}.get(properties.get("fill-rule", "").strip(), above.rule)
        hidden = properties.get("display") == "none" or properties.get("visibility") in ("hidden", "collapse")
        return _Style(
            matrix,
            "even-odd" if rule == "even-odd" else "nonzero",
            above.visible and not hidden,
            above.drawn and name not in _NOT_DRAWN,
        )

    def _viewport(self, attributes: Mapping[str, str]) -> tuple[tuple[float, float], np.ndarray]:
        """Height and width of the drawing, and how its own coordinates come to it."""
        box = [float(n) for n in _NUMBERS.findall(attributes.get("viewBox", ""))]
        known = len(box) == 4 and 0 < box[2] < LARGEST and 0 < box[3] < LARGEST
        width = _side(attributes, "width") or (box[2] if known else None)
        height = _side(attributes, "height") or (box[3] if known else None)
        if width is None or height is None:
            raise self._wrong("neither width and height nor a viewBox are told")
        scale_x, scale_y = (width / box[2], height / box[3]) if known else (1.0, 1.0)
        if attributes.get("preserveAspectRatio", "").strip().partition(" ")[0] != "none":
            scale_x = scale_y = min(scale_x, scale_y)
        matrix = np.array([[scale_x, 0, 0], [0, scale_y, 0]])
        if known:
            # What is left beside the box is shared equally, as nearly all drawings have it.
            matrix[0, 2] = (width - box[2] * scale_x) / 2 - box[0] * scale_x
            matrix[1, 2] = (height - box[3] * scale_y) / 2 - box[1] * scale_y
        return (height, width), matrix

    def _transform(self, text: str) -> np.ndarray:
        matrix, at = np.array([[1.0, 0, 0], [0, 1, 0]]), 0
        while at < len(text.rstrip()):
            found = _TRANSFORM.match(text, at)
            one = _one_transform(found[1], [float(n) for n in _NUMBERS.findall(found[2])]) if found else None
            if found is None or one is None or not np.abs(one).max() < LARGEST:
                raise self._wrong(f"the transform {text[at : at + 40]!r} is not understood")
            matrix, at = _combine(matrix, one), found.end()
        return matrix

    def _picture(self, attributes: Mapping[str, str], matrix: np.ndarray) -> None:
        width, height = _side(attributes, "width"), _side(attributes, "height")
        if width and height:
            place = np.array(
                [[1, 0, _length(attributes.get("x", "")) or 0], [0, 1, _length(attributes.get("y", "")) or 0]]
            )
            self.pictures.append((_combine(matrix, place), height, width))

    def _segments(self, name: str, attributes: Mapping[str, str]) -> list[list[Segment]]:
        if name == "path":
            try:
                return read_path(attributes.get("d", ""))
            except PathError as error:
                raise self._wrong(f"the data of a path are not understood: {error}") from error
        if name in ("polygon", "polyline"):
            numbers = np.array([float(n) for n in _NUMBERS.findall(attributes.get("points", ""))])
            points = numbers[: len(numbers) // 2 * 2].reshape(-1, 2)
            if not (np.abs(points) < LARGEST).all():
                raise self._wrong("a point lies beyond all bounds")
            return [[points[i : i + 2] for i in range(len(points) - 1)]] if len(points) > 2 else []
        if name in ("circle", "ellipse"):
            values = {key: _length(attributes.get(key, "")) or 0.0 for key in ("cx", "cy", "r", "rx", "ry")}
            radii = (values["r"], values["r"]) if name == "circle" else (values["rx"], values["ry"])
            return [_ellipse((values["cx"], values["cy"]), radii)] if min(radii) > 0 else []
        return []

    def drawing(self, image_size: tuple[int, int] | None) -> Drawing:
        """Bring all shapes to the pixels of the image."""
        assert self.viewport is not None
        height, width = self.viewport
        matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
        if len(self.pictures) == 1:
            # The one picture tells best where the image lies.
            place, height, width = self.pictures[0]
            linear = place[:, :2]
            if abs(np.linalg.det(linear)) > 1e-12:
                inverse = np.linalg.inv(linear)
                matrix = np.column_stack([inverse, -inverse @ place[:, 2]])
            else:
                height, width = self.viewport
        own_size = height, width
        if image_size is not None:
            scale = math.sqrt(image_size[0] * image_size[1] / (height * width))
            if max(abs(height * scale - image_size[0]), abs(width * scale - image_size[1])) > _ROUNDED:
                raise LabelError(
                    "the drawing is not of this image", where=self.path, found=f"{height:g} x {width:g}",
                    expected=f"{image_size[0]} x {image_size[1]}, as the image, or a size of that form",
                    fix="check which image the drawing is of",
                )  # fmt: skip
            matrix *= [[image_size[1] / width], [image_size[0] / height]]
            height, width = image_size
        found = Drawing((height, width), own_size, hidden=self.hidden, attributes=self.root)
        count = 0
        for raw in self.raw:
            rings = []
            for part in raw.segments:
                try:
                    ring = flatten([segment @ matrix[:, :2].T + matrix[:, 2] for segment in part])
                except PathError as error:
                    raise _broken(self.path, f"the data of a path are not understood: {error}") from error
                count += len(ring)
                if not (np.abs(ring) < LARGEST).all() or count > _MOST_POINTS:
                    raise _broken(self.path, "a point lies beyond all bounds, or curves need too many")
                if len(ring) > 2:
                    # The upper left corner of the image is 0 in drawings; here the first pixel's centre is.
                    rings.append(ring[:, ::-1] - 0.5)
            if rings:
                found.shapes.append(Shape(rings, raw.rule, raw.layer, raw.attributes))
        return found

    def _wrong(self, found: str) -> LabelError:
        return _broken(self.path, f"{found} (line {self.parser.CurrentLineNumber})")


def _combine(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """First ``inner``, then ``outer``: both ``(2, 3)``."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def _one_transform(name: str, n: list[float]) -> np.ndarray | None:
    if name == "matrix" and len(n) == 6:
        return np.array([[n[0], n[2], n[4]], [n[1], n[3], n[5]]])
    if name == "translate" and len(n) in (1, 2):
        return np.array([[1, 0, n[0]], [0, 1, n[1] if len(n) == 2 else 0]])
    if name == "scale" and len(n) in (1, 2):
        return np.array([[n[0], 0, 0], [0, n[-1], 0]])
    if name == "rotate" and len(n) in (1, 3):
        cos, sin = math.cos(math.radians(n[0])), math.sin(math.radians(n[0]))
        x, y = n[1:] if len(n) == 3 else (0.0, 0.0)
        return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])
    if name == "skewX" and len(n) == 1:
        return np.array([[1, math.tan(math.radians(n[0])), 0], [0, 1, 0]])
    if name == "skewY" and len(n) == 1:
        return np.array([[1, 0, 0], [math.tan(math.radians(n[0])), 1, 0]])
    return None


def _ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> list[Segment]:
    turn = np.array([[0, -1], [1, 0]])
    curve = np.array([[1, 0], [1, _REACH], [_REACH, 1], [0, 1]])
    return [(curve @ np.linalg.matrix_power(turn, k).T) * radii + centre for k in range(4)]


def _length(text: str) -> float | None:
    """A length in pixels; None for percentages and what is no length."""
    found = _LENGTH.fullmatch(text)
    value = float(found[1]) * _UNITS[found[2] or ""] if found else None
    return value if value is not None and abs(value) < LARGEST else None


def _side(attributes: Mapping[str, str], name: str) -> float | None:
    """A length above 0; None where there is none."""
    length = _length(attributes.get(name, ""))
    return length if length is not None and length > 0 else None


def _broken(path: Path, found: str) -> LabelError:
    return LabelError(
        "the drawing cannot be read", where=path, found=found, expected="SVG with an outline for each object",
        fix="save it again as plain SVG",
    )  # fmt: skip
