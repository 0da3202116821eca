"""Objects as Labelbox tells them: polygons of one outline, boxes, and masks as pictures.

Coordinates are pixels from the image's upper left corner; a pixel belongs to an object if its centre lies inside.

A polygon of Labelbox is one outline. Objects in several pieces and with holes become one, too: a line that is walked
there and back, and so takes no pixel, joins their outlines. What is crossed an odd number of times on the way in is
inside.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from PIL import Image as Picture

from cytomask.errors import LabelError
from cytomask.formats.annotations.object_parts import NOTHING, Part, fill_parts
from cytomask.geometry.bit_mask_checks import check_room

#: Keys that tell an area, in exports and in imports.
_POLYGON, _BOXES, _MASKS = "polygon", ("bounding_box", "bbox"), ("mask", "composite_mask")
#: So many characters of a packed picture count as one number of an outline.
_PER_NUMBER = 100
_PICTURES = ("png", "imBytes", "im_bytes")


def kind_of(item: Mapping[str, Any]) -> str:
    """What an object is: ``"polygon"``, ``"box"``, ``"mask"``, ``"linked mask"`` (a picture elsewhere), ``"other"``.

    Examples
    --------
    >>> kind_of({"polygon": []}), kind_of({"mask": {"url": "https://…"}}), kind_of({"point": {}})
    ('polygon', 'linked mask', 'other')
    """
    if item.get(_POLYGON) is not None:
        return "polygon"
    if any(item.get(key) is not None for key in _BOXES):
        return "box"
    masks = [item[key] for key in _MASKS if item.get(key) is not None]
    if not masks:
        return "other"
    return "mask" if any(_picture(mask) for mask in masks) else "linked mask"


def picture_size(item: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Height and width of an object's mask as a picture; 0, 0 where it has none."""
    if kind_of(item) != "mask":
        return 0, 0
    with _open_picture(item, where) as picture:
        return picture.height, picture.width


def fill_objects(shape: tuple[int, int], items: Sequence[Mapping[str, Any]], where: str) -> list[Part]:
    """Find the pixels of objects.

    Parameters
    ----------
    shape
        Height and width of the image; what lies outside is cut off.
    items
        The objects, each a polygon, a box or a mask.
    where
        The file and the image, for errors.

    Raises
    ------
    LabelError
        If coordinates are missing or no numbers, or a mask is no picture of the image's size.
    """
    parts: list[Part] = [NOTHING] * len(items)
    outlines: dict[int, np.ndarray] = {}
    pixels = numbers = 0
    for i, item in enumerate(items):
        place = f"{where}, object {i + 1} ({item.get('feature_id') or item.get('uuid') or 'without id'})"
        kind = kind_of(item)
        if kind == "mask":
            parts[i] = _tight(_read_picture(item, shape, place))
            pixels, numbers = pixels + parts[i][0].size, numbers + len(_picture_text(item)) // _PER_NUMBER
            check_room(pixels, numbers, where)
        else:
            outlines[i] = _polygon(item[_POLYGON], place) if kind == "polygon" else _box(item, place)
    for i, part in zip(outlines, fill_parts(shape, list(outlines.values()), where)):
        parts[i] = part
    return parts


def one_outline(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Join the outlines of an object, as :meth:`Instances.to_polygons` gives them, to one that fills the same pixels.

    Parameters
    ----------
    rings
        One or more rings ``(V, 2)``, not closed.

    Returns
    -------
    numpy.ndarray
        One ring, not closed. Each further ring is reached from the point that is nearest to its first.

    Examples
    --------
    >>> from cytomask.instances import Instances
    >>> cells = Instances.from_labels(np.array([[1, 0, 1]]))
    >>> ring = one_outline(cells.to_polygons()[0])
    >>> Instances.from_polygons((1, 3), [ring]).to_labels()
    array([[1, 0, 1]], dtype=int32)
    """
    path = rings[0]
    for ring in rings[1:]:
        k = int(((path - ring[0]) ** 2).sum(axis=1).argmin())
        path = np.concatenate([path[: k + 1], ring, ring[:1], path[k:]])
    return path


def _fail(where: str, found: object, expected: str) -> NoReturn:
    raise LabelError(
        "an object is not as Labelbox writes it", where=where, found=str(found)[:80], expected=expected,
        fix="export the labels again",
    )  # fmt: skip


def _polygon(points: Any, where: str) -> np.ndarray:
    try:
        ring = np.array([(float(point["y"]), float(point["x"])) for point in points])
    except (KeyError, TypeError, ValueError, OverflowError):
        ring = np.zeros((0, 2))
    if len(ring) < 3 or not np.isfinite(ring).all():
        _fail(where, points, '"polygon": three points {"x": …, "y": …} or more')
    return ring - 0.5


def _box(item: Mapping[str, Any], where: str) -> np.ndarray:
    box = next(item[key] for key in _BOXES if item.get(key) is not None)
    try:
        top, left, height, width = (float(box[key]) for key in ("top", "left", "height", "width"))
    except (KeyError, TypeError, ValueError, OverflowError):
        top = left = height = width = math.nan
    if not all(map(math.isfinite, (top, left, height, width))):
        _fail(where, box, "numbers for top, left, height and width")
    y, x = (top - 0.5, top + height - 0.5), (left - 0.5, left + width - 0.5)
    return np.array([(y[0], x[0]), (y[0], x[1]), (y[1], x[1]), (y[1], x[0])])


def _picture(mask: Any) -> str:
    """The picture of a mask as text, empty if it is elsewhere."""
    if not isinstance(mask, dict):
        return ""
    for key in _PICTURES:
        if isinstance(mask.get(key), str):
            return mask[key]
    link = mask.get("instanceURI") or mask.get("url")
    return link if isinstance(link, str) and link.startswith("data:") else ""


def _picture_text(item: Mapping[str, Any]) -> str:
    return next(filter(None, (_picture(item.get(key)) for key in _MASKS)))


def _open_picture(item: Mapping[str, Any], where: str) -> Picture.Image:
    text = _picture_text(item)
    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        picture = Picture.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])
    except (binascii.Error, OSError, ValueError, Picture.DecompressionBombError) as error:
        _fail(where, error, "a PNG picture in base64")
    return picture


def _read_picture(item: Mapping[str, Any], shape: tuple[int, int], where: str) -> np.ndarray:
    colour = next((item[key].get("colorRGB") for key in _MASKS if isinstance(item.get(key), dict)), None)
    with _open_picture(item, where) as picture:
        if (picture.height, picture.width) != shape:
            _fail(where, f"a mask of {picture.height} x {picture.width}", f"{shape[0]} x {shape[1]}, as the image")
        try:
            pixels = np.asarray(picture.convert("RGB") if picture.mode not in ("1", "L", "I", "I;16") else picture)
        except (OSError, ValueError, SyntaxError) as error:
            _fail(where, error, "a PNG picture in base64")
    if pixels.ndim == 2:
        return np.asarray(pixels != 0)
    if isinstance(colour, list) and len(colour) == 3 and all(isinstance(value, int) for value in colour):
        return np.logical_and.reduce([pixels[:, :, k] == value for k, value in enumerate(colour)])
    return np.asarray(pixels.any(axis=2))


def _tight(mask: np.ndarray) -> Part:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return NOTHING
    y, x = int(rows[0]), int(columns[0])
    return mask[y : rows[-1] + 1, x : columns[-1] + 1], (y, x)
