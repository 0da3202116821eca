"""Remove specks: connected parts of objects that are too small to be seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from cytomask.geometry.union_find import root as find_root


def drop_specks(labels: npt.NDArray[np.int32], min_pixels: int) -> npt.NDArray[np.int32]:
    """Make every connected part of an object with fewer than ``min_pixels`` pixels background.

    Pixels of one label that touch by an edge or a corner are connected. Larger parts of an object that is in several
    pieces keep their common label.

    Parameters
    ----------
    labels
        int32 ``(Y, X)``, 0 for background.
    min_pixels
        Smallest part that stays.

    Returns
    -------
    numpy.ndarray
        int32 ``(Y, X)``, a new array.

    Examples
    --------
    >>> drop_specks(np.array([[1, 1, 0, 1], [2, 1, 0, 0]], np.int32), 2)
    array([[1, 1, 0, 0],
           [0, 1, 0, 0]], dtype=int32)
    """
    labels = np.ascontiguousarray(labels, np.int32)
    out = labels.copy()
    if min_pixels > 1 and out.size:
        _drop(labels, min_pixels, out)
    return out


@njit(cache=True, nogil=True)
def _drop(labels, min_pixels, out):  # type: ignore[no-untyped-def]
    """Join runs of equal labels in neighbouring rows (union-find), and count the pixels of each part."""
    height, width = labels.shape
    part = np.zeros((height, width), np.int32)
    parents = np.zeros(height * width + 1, np.int32)
    sizes = np.zeros(height * width + 1, np.int32)
    parts = 0
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            own = 0
            if x > 0 and labels[y, x - 1] == label:
                own = part[y, x - 1]
            else:
                parts += 1
                own = parts
                parents[own] = own
            part[y, x] = own
            sizes[own] += 1
            if y > 0:
                for neighbour in range(max(x - 1, 0), min(x + 2, width)):
                    if labels[y - 1, neighbour] == label:
                        a, b = find_root(parents, own), find_root(parents, part[y - 1, neighbour])
                        if a != b:
                            parents[max(a, b)] = min(a, b)
    # A part's root has the smallest number, so going down adds every part to its root.
    for node in range(parts, 0, -1):
        root = find_root(parents, node)
        if root != node:
            sizes[root] += sizes[node]
    for y in range(height):
        for x in range(width):
            if part[y, x] and sizes[find_root(parents, part[y, x])] < min_pixels:
                out[y, x] = 0
