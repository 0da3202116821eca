"""Objects as outlines in an SVG drawing: one polygon or path for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from cytomask.errors import LabelError
from cytomask.formats.annotations.object_parts import Part, objects_of_parts
from cytomask.formats.annotations.svg_shapes import Drawing, Shape, read_svg
from cytomask.formats.limits import is_possible_size
from cytomask.geometry.bit_mask_checks import check_room
from cytomask.geometry.winding_fill import fill_rings
from cytomask.instances import Instances
from cytomask.output import replacing

#: What the drawings that are written here say of themselves, and the attribute with an object's id.
_EXACT_NAME, _EXACT_VALUE = "data-outlines", "pixel edges"
_EXACT = f'{_EXACT_NAME}="{_EXACT_VALUE}"'
_ID = "data-id"
#: Which child of the drawing the data set's own converter takes the nuclei from.
_FOURTH = 3


def is_exact(path: Path) -> bool:
    """Whether a drawing says that its outlines follow the edges of pixels, so that nothing is lost in it."""
    try:
        with path.open("rb") as file:
            return _EXACT.encode() in file.read(2048)
    except OSError:
        return False


def read_svg_masks(path: Path, image_size: tuple[int, int] | None = None) -> Instances:
    """Read the objects of a drawing.

    Parameters
    ----------
    path
        The SVG file.
    image_size
        Height and width of the image in pixels; None takes those of the picture in the drawing, or of the drawing.

    Returns
    -------
    Instances
        In the drawing's order, without those that no pixel's centre lies in. Where all outlines have an id that was
        written here, with these ids.

    Raises
    ------
    LabelError
        If the drawing cannot be read, its outlines are hidden, or lie in several layers.
    """
    drawing = read_svg(path, image_size)
    shape = image_size if image_size is not None else _whole_size(drawing, path)
    if drawing.attributes.get(_EXACT_NAME) == _EXACT_VALUE and drawing.own_size != shape:
        raise LabelError(
            "the drawing is not of this image", where=path, found=" x ".join(f"{n:g}" for n in drawing.own_size),
            expected=f"{shape[0]} x {shape[1]}, as the image", fix="check which image the drawing is of",
        )  # fmt: skip
    shapes = _in_one_layer(drawing, path)
    parts: list[Part] = []
    ids: list[int] = []
    size = points = 0
    for one in shapes:
        try:
            crop, origin = fill_rings(shape, one.rings, one.rule)
        except LabelError as error:
            raise LabelError(
                error.what, where=path, found=error.found, expected=error.expected, fix=error.fix
            ) from error
        if crop.any():
            parts.append((crop, origin))
            ids.append(_own_id(one))
        size, points = size + crop.size, points + sum(map(len, one.rings))
        check_room(size, points, str(path))
    return objects_of_parts(shape, parts, labels=ids)


def write_svg_masks(path: Path, objects: Instances, title: str, picture: str | None = None) -> None:
    """Write objects as outlines along the edges of their pixels, so that overlap, holes and pieces are kept.

    Parameters
    ----------
    path
        The SVG file.
    objects
        The objects; those without pixels are left out.
    title
        What the drawing is called.
    picture
        Name of a picture beside the file, to be shown below the outlines.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.svg"
    >>> write_svg_masks(path, Instances.from_labels(np.array([[0, 7], [7, 7]])), "a")
    >>> read_svg_masks(path).to_labels()
    array([[0, 7],
           [7, 7]], dtype=int32)
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for line in _lines(objects, title, picture):
            file.write(line + "\n")


def _lines(objects: Instances, title: str, picture: str | None) -> Iterator[str]:
    height, width = objects.shape
    size = f'width="{width}" height="{height}"'
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{size} viewBox="0 0 {width} {height}" {_EXACT}>'
    )
    yield f"<title>{escape(_printable(title))}</title>"
    yield "<desc>One outline for each object, along the edges of its pixels.</desc>"
    image = f'<image xlink:href={quoteattr(quote(picture))} x="0" y="0" {size}/>' if picture is not None else ""
    yield f'<g id="image">{image}</g>'
    yield '<g id="objects" fill="#00ff00" fill-opacity="0.3" stroke="#800080" stroke-width="0.5" fill-rule="evenodd">'
    for number, rings in zip(objects.ids.tolist(), objects.to_polygons()):
        corners = [(ring[:, ::-1] + 0.5).astype(np.int64).tolist() for ring in rings]
        marks = f'id="object-{number}" {_ID}="{number}"'
        if len(corners) == 1:
            yield f'<polygon {marks} points="{" ".join(f"{x},{y}" for x, y in corners[0])}"/>'
        elif corners:
            data = " ".join("M" + " ".join(f"{x},{y}" for x, y in ring) + "Z" for ring in corners)
            yield f'<path {marks} d="{data}"/>'
    yield "</g>"
    yield "</svg>"


def _in_one_layer(drawing: Drawing, path: Path) -> list[Shape]:
    layers = sorted({shape.layer for shape in drawing.shapes})
    if not layers and drawing.hidden:
        raise LabelError(
            "all outlines in the drawing are hidden", where=path, found=f"{drawing.hidden} outlines",
            fix="show the layer with the outlines, and save the drawing again",
        )  # fmt: skip
    if len(layers) < 2:
        return drawing.shapes
    if _FOURTH not in layers:
        raise LabelError(
            "there are outlines in several layers of the drawing", where=path,
            found=", ".join(f"{sum(s.layer == k for s in drawing.shapes)} in {_called(k)}" for k in layers),
            expected="one layer of outlines", fix="hide or remove the layers that are not meant",
        )  # fmt: skip
    return [shape for shape in drawing.shapes if shape.layer == _FOURTH]


def _called(layer: int) -> str:
    return f"child {layer + 1} of the drawing" if layer >= 0 else "no layer"


def _whole_size(drawing: Drawing, path: Path) -> tuple[int, int]:
    height, width = (round(side) for side in drawing.size)
    if not is_possible_size(height, width):
        raise LabelError("the drawing has no size that an image could have", where=path, found=f"{height} x {width}")
    return height, width


def _own_id(shape: Shape) -> int:
    text = shape.attributes.get(_ID, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _printable(text: str) -> str:
    """Text without the characters that XML cannot have."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
