"""Single annotations of COCO as objects: what there is to draw, its box, score and id."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from cytomask.errors import LabelError
from cytomask.formats.annotations.object_parts import as_score
from cytomask.formats.limits import is_possible_size
from cytomask.instances import Instances

#: A box of the file is believed where no side is farther than this from the outline's or the mask's own, in pixels.
NEAR = 2.0
Boxes = Literal["near", "given", "masks"]


def many(count: int, what: str) -> str:
    """A number of things, in words.

    Examples
    --------
    >>> many(1, "object"), many(0, "object")
    ('1 object', '0 objects')
    """
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def as_key(value: Any) -> str | None:
    """Text by which ids are compared, since some programs write numbers, others the same numbers as text.

    Examples
    --------
    >>> as_key(5), as_key("5"), as_key(5.0), as_key(None)
    ('5', '5', '5', None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value).strip()


def by_number(key: str) -> tuple[int, str]:
    """What ids are sorted by: numbers by their size, before all others.

    Examples
    --------
    >>> sorted(["b", "10", "9", "a"], key=by_number)
    ['9', '10', 'a', 'b']
    """
    return (len(key.lstrip("0")), key.lstrip("0")) if key.isascii() and key.isdigit() else (sys.maxsize, key)


def as_count(value: Any) -> int | None:
    """A whole number above 0, also as text or as a float; None for anything else.

    Examples
    --------
    >>> as_count("520"), as_count(520.0), as_count(0), as_count("x")
    (520, 520, None, None)
    """
    key = as_key(value)
    if key is None or not key.isascii() or not key.isdigit() or len(key) > 18:
        return None
    return int(key) or None


def told_size(entry: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Height and width that the entry of an image tells; None where it does not.

    Raises
    ------
    LabelError
        If no image is that large.
    """
    height, width = as_count(entry.get("height")), as_count(entry.get("width"))
    if height is None or width is None:
        return None
    if not is_possible_size(height, width):
        raise LabelError("the size of an image is impossible", where=where, found=f"height {height}, width {width}")
    return height, width


def mask_size(entry: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Height and width of the image that an annotation's run-length code tells; None where it is no such code."""
    code = entry.get("segmentation")
    size = code.get("size") if isinstance(code, Mapping) else None
    if not isinstance(size, list) or len(size) != 2:
        return None
    return told_size({"height": size[0], "width": size[1]}, where)


def box_of(entry: Mapping[str, Any]) -> list[float] | None:
    """The four numbers of ``bbox``, whatever they mean; None where there are no such, or not finite ones.

    Examples
    --------
    >>> box_of({"bbox": [1, 2, 3, 4]}), box_of({"bbox": []}), box_of({})
    ([1.0, 2.0, 3.0, 4.0], None, None)
    """
    box = entry.get("bbox")
    if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 4:
        return None
    if not all(isinstance(v, int | float) and abs(v) < 1e9 for v in box):
        return None
    return [float(v) for v in box]


def drawable(entry: Mapping[str, Any]) -> tuple[Any, Literal["mask", "thin", "box", "nothing"]]:
    """What of an annotation can be drawn, in the form that :meth:`Instances.from_coco` takes.

    Polygons are accepted as COCO has them (a list of pieces), as one flat list, and as one list of pairs; pieces of one
    or two points, as stray clicks leave them, cover nothing and are passed over.

    Returns
    -------
    tuple
        The segmentation, and what it comes from: ``"mask"``; ``"thin"``, a mask of which pieces were passed over;
        ``"box"``, a rectangle, where there is no mask; ``"nothing"``.

    Examples
    --------
    >>> drawable({"segmentation": [0, 0, 2, 0, 2, 2]})
    ([[0, 0, 2, 0, 2, 2]], 'mask')
    >>> drawable({"segmentation": [], "bbox": [1, 2, 3, 4]})
    ([[1.0, 2.0, 4.0, 2.0, 4.0, 6.0, 1.0, 6.0]], 'box')
    """
    found = entry.get("segmentation")
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], Mapping):
        found = found[0]
    if isinstance(found, Mapping) and found:
        return found, "mask"
    if isinstance(found, list) and found:
        if not isinstance(found[0], list):
            found = [found]
        elif len(found) > 2 and all(isinstance(p, list) and len(p) == 2 for p in found):
            found = [[v for point in found for v in point]]
        # A piece of something else than numbers stays, so that reading it says what is wrong with it.
        pieces = [p for p in found if not isinstance(p, list) or len(p) >= 6 or len(p) % 2]
        if pieces:
            return pieces, "mask" if len(pieces) == len(found) else "thin"
        return None, "nothing"
    if found not in (None, [], {}):
        return found, "mask"
    box = box_of(entry)
    if box is None or box[2] <= 0 or box[3] <= 0:
        return None, "nothing"
    x0, y0, x1, y1 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    return [[x0, y0, x1, y0, x1, y1, x0, y1]], "box"


def read_objects(
    entries: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    classes: Sequence[int],
    ids: np.ndarray | None,
    class_names: Sequence[str],
    where: str,
    boxes: Boxes = "near",
) -> Instances:
    """Draw the annotations of one image.

    Parameters
    ----------
    entries
        Annotations as COCO has them.
    shape
        Height and width of the image.
    classes, ids, class_names
        As in :class:`Instances`.
    where
        File and image, named in errors.
    boxes
        Whether to believe ``bbox`` (x, y, width, height): ``"given"``; ``"near"``, where it fits the outline or the
        mask; ``"masks"``, never.

    Raises
    ------
    LabelError
        If an annotation is broken, with its id.
    """
    shapes = [drawable(entry)[0] for entry in entries]
    for i, one in enumerate(shapes):
        if isinstance(one, Mapping) and "size" not in one:
            shapes[i] = {**one, "size": list(shape)}
    try:
        objects = Instances.from_coco(
            shape, shapes, classes=classes, scores=_scores(entries, where), ids=ids, class_names=class_names
        )
    except LabelError as error:
        # The error names the place in the list: "segmentations[3]", or a piece of it.
        found = re.match(r"\w+\[(\d+)\]", str(error.where))
        name = ""
        if found is not None:
            number = int(found[1])
            name = f", annotation {entries[number].get('id', f'number {number + 1} of the image')}"
        raise LabelError(
            error.what, where=f"{where}{name}", found=error.found, expected=error.expected, fix=error.fix
        ) from error
    given = np.array([_box(entry, boxes) for entry in entries], np.float64).reshape(-1, 4)
    tight = objects.boxes.astype(np.float64)
    known = np.isfinite(given).all(1) & (given[:, 2] > given[:, 0]) & (given[:, 3] > given[:, 1])
    if boxes == "near":
        # Thin spikes of an outline cover no pixels, so that it may reach farther than its mask.
        drawn = np.array([_reach(one) for one in shapes]).reshape(-1, 4)
        known &= (np.abs(given - tight) <= NEAR).all(1) | (np.abs(given - drawn) <= NEAR).all(1)
    return replace(objects, boxes=np.where(known[:, None], given, tight).astype(np.float32))


def _scores(entries: Sequence[Mapping[str, Any]], where: str) -> list[float]:
    scores = [entry.get("score", 1.0) for entry in entries]
    scores = [1.0 if score is None else score for score in scores]
    for entry, score in zip(entries, scores):
        if as_score(score) is None:
            raise LabelError(
                "the score of an annotation is no number", where=f"{where}, annotation {entry.get('id', '?')}",
                found=repr(score)[:40],
            )  # fmt: skip
    return scores


def _reach(shape: Any) -> list[float]:
    """The box ``(y0, x0, y1, x1)`` around the points of polygons; not a number for other shapes."""
    if isinstance(shape, Mapping):
        return [np.nan] * 4
    points = np.concatenate([np.reshape(np.asarray(piece, np.float64), (-1, 2)) for piece in shape])
    low, high = points.min(0), points.max(0)
    return [float(v) for v in (low[1], low[0], high[1], high[0])]


def _box(entry: Mapping[str, Any], boxes: Boxes) -> list[float]:
    """The box as ``(y0, x0, y1, x1)``; not a number where there is none."""
    box = box_of(entry)
    if box is None or boxes == "masks":
        return [np.nan] * 4
    x0, y0, width, height = box
    return [y0, x0, y0 + height, x0 + width]
