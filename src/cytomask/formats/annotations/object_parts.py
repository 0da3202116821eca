"""Objects from the parts in which formats tell them: outlines, crops of masks, and groups of these that add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cytomask.errors import LabelError
from cytomask.instances import Instances

#: A mask's crop, and the pixel ``(y, x)`` where its first pixel lies.
Part = tuple[np.ndarray, tuple[int, int]]
#: A part without pixels.
NOTHING: Part = (np.zeros((0, 0), bool), (0, 0))


def fill_parts(shape: tuple[int, int], outlines: Sequence[ArrayLike | Sequence[ArrayLike]], where: str) -> list[Part]:
    """Find the pixels in outlines, as :meth:`Instances.from_polygons` does.

    Parameters
    ----------
    shape
        Height and width of the image; what lies outside is cut off.
    outlines
        For each part a ring ``(V, 2)`` of points ``(y, x)``, centres at whole numbers, or a list of rings.
    where
        The file and the image, for errors.

    Raises
    ------
    LabelError
        If outlines are broken, or cover far more than can be meant.

    Examples
    --------
    >>> fill_parts((4, 4), [[(0.5, 0.5), (0.5, 2.5), (1.5, 2.5), (1.5, 0.5)]], "a.xml")
    [(array([[ True,  True]]), (1, 1))]
    """
    try:
        filled = Instances.from_polygons(shape, outlines)
    except LabelError as error:
        raise LabelError(error.what, where=where, found=error.found, expected=error.expected, fix=error.fix) from error
    return [(filled.mask(i), (int(y), int(x))) for i, (y, x) in enumerate(filled.windows[:, :2])]


def objects_of_parts(
    shape: tuple[int, int],
    parts: Sequence[Part],
    classes: Sequence[int] | None = None,
    scores: Sequence[float] | None = None,
    labels: Sequence[int] | None = None,
    class_names: Sequence[str] = ("object",),
) -> Instances:
    """Make one object of each part.

    Parameters
    ----------
    shape
        Height and width of the image; what lies outside is cut off.
    parts
        The objects.
    classes, scores, class_names
        As in :class:`Instances`.
    labels
        Ids of the objects as they are told, 0 where none is; they count where all are told and no two are alike.

    Examples
    --------
    >>> dot = np.ones((1, 1), bool)
    >>> objects_of_parts((3, 3), [(dot, (0, 0)), (dot, (2, 1))], labels=[7, 0]).to_labels()
    array([[1, 0, 0],
           [0, 0, 0],
           [0, 2, 0]], dtype=int32)
    """
    known = labels is not None and len(set(labels)) == len(labels) and min(labels, default=0) > 0
    return Instances.from_crops(
        shape,
        [crop for crop, _ in parts],
        np.array([origin for _, origin in parts], np.int32).reshape(-1, 2),
        classes=classes,
        scores=scores,
        ids=labels if known else None,
        class_names=class_names,
    )


def as_score(value: object) -> float | None:
    """A score that can be kept; None for what is no number, or none of 32 bits.

    Examples
    --------
    >>> as_score(1), as_score(1e39), as_score("0.5"), as_score(True)
    (1.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 3e38:
        return None
    return float(value)


def join_parts(parts: Sequence[Part], owners: Sequence[Hashable]) -> tuple[list[Part], list[int]]:
    """Put the parts of each object together; pixels of several parts count once.

    Parameters
    ----------
    parts
        The parts of all objects, inside the image.
    owners
        For each part what tells its object from others.

    Returns
    -------
    tuple
        The objects in the order of their first parts, and for each the position of its first part.

    Examples
    --------
    >>> dot = np.ones((1, 1), bool)
    >>> join_parts([(dot, (0, 0)), (dot, (5, 5)), (dot, (1, 1))], ["a", "b", "a"])
    ([(array([[ True, False], [False,  True]]), (0, 0)), (array([[ True]]), (5, 5))], [0, 1])
    """
    of_owner: dict[Hashable, list[int]] = defaultdict(list)
    for i, owner in enumerate(owners):
        of_owner[owner].append(i)
    objects, firsts = [], []
    for members in of_owner.values():
        firsts.append(members[0])
        objects.append(parts[members[0]] if len(members) == 1 else _union([parts[i] for i in members]))
    return objects, firsts


def _union(parts: Sequence[Part]) -> Part:
    parts = [part for part in parts if part[0].size] or list(parts[:1])
    y0, x0 = (min(origin[k] for _, origin in parts) for k in range(2))
    y1, x1 = (max(origin[k] + crop.shape[k] for crop, origin in parts) for k in range(2))
    whole = np.zeros((y1 - y0, x1 - x0), bool)
    for crop, (y, x) in parts:
        whole[y - y0 : y - y0 + crop.shape[0], x - x0 : x - x0 + crop.shape[1]] |= crop
    return whole, (y0, x0)
