"""Objects that formats tell in several parts: a group of shapes, or polygons that add up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

#: A mask's crop, and the pixel ``(y, x)`` where its first pixel lies.
Part = tuple[np.ndarray, tuple[int, int]]


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
