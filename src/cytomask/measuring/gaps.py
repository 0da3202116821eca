"""Gaps between objects, from edge to edge: of all pairs that lie within reach, and to the nearest of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cytomask.instances import Instances, intersections
from cytomask.measuring.outlines import Outlines, box_gap, nearest_points, outlines


def close_pairs(
    instances: Instances, reach: float, pixel_size: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of objects whose gap is at most ``reach``.

    Parameters
    ----------
    instances
        The objects; they may overlap.
    reach
        In the unit of the pixel size.
    pixel_size
        Length of a pixel along y and x.

    Returns
    -------
    i, j
        int64: positions of both objects, ``i < j``, sorted.
    gap
        float64, in the unit of the pixel size: the distance between the nearest points of both, 0 where they touch at a
        side or a corner, or overlap.
    shared
        int64: pixels that belong to both.

    Examples
    --------
    >>> close_pairs(Instances.from_labels(np.array([[1, 0, 2, 3]])), reach=1)
    (array([0, 1]), array([1, 2]), array([1., 0.]), array([0, 0]))
    """
    around = outlines(instances)
    a, b, pixels = intersections(instances, instances)
    first = a < b
    overlapping = a[first], b[first], pixels[first]
    rows = _as_rows(overlapping, len(instances))
    i, j, gaps = _pairs(around.points, around.starts, around.boxes, *rows[:2], reach, *pixel_size)
    order = np.lexsort((j, i))
    i, j, gaps = i[order], j[order], gaps[order]
    shared = np.zeros(len(i), np.int64)
    if len(overlapping[0]):
        n = len(instances)
        keys, wanted = overlapping[0] * n + overlapping[1], i * n + j
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        shared = np.where(keys[place] == wanted, overlapping[2][place], 0)
    return i, j, gaps, shared


def nearest_of_classes(
    instances: Instances, pixel_size: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Find, for each object, the nearest other object of every class, from edge to edge.

    Parameters
    ----------
    instances
        N objects of C classes; they may overlap.
    pixel_size
        Length of a pixel along y and x.

    Returns
    -------
    gap
        float64 ``(N, C)`` in the unit of the pixel size; 0 where they touch or overlap, NaN where there is no other
        object of the class.
    which
        int64 ``(N, C)``: the position of that object, -1 where there is none. Of several that are equally near, the one
        with the most shared pixels, then the first.

    Examples
    --------
    >>> gap, which = nearest_of_classes(Instances.from_labels(np.array([[1, 0, 2, 0, 0, 3]])))
    >>> gap.ravel(), which.ravel()
    (array([1., 1., 2.]), array([1, 0, 1]))
    """
    around = outlines(instances)
    a, b, pixels = intersections(instances, instances)
    other = a != b
    rows = _as_rows((a[other], b[other], pixels[other]), len(instances))
    gap, which = _nearest(
        around.points, around.starts, around.boxes, *rows, instances.classes.astype(np.int64),
        len(instances.class_names), *pixel_size,
    )  # fmt: skip
    return np.where(which < 0, np.nan, gap), which


def gap_between(a: Outlines, i: int, b: Outlines, j: int, pixel_size: tuple[float, float]) -> float:
    """Distance between one outline of ``a`` and one of ``b``; NaN where either has no points."""
    one, other = a.points[a.starts[i] : a.starts[i + 1]], b.points[b.starts[j] : b.starts[j + 1]]
    if not (len(one) and len(other)):
        return float("nan")
    points = np.concatenate([one, other])
    return float(nearest_points(points, 0, len(one), len(one), len(points), b.boxes[j], *pixel_size, np.inf))


def _as_rows(pairs: tuple[np.ndarray, np.ndarray, np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs sorted by their first object as the rows of a sparse matrix: starts, second objects, values."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(pairs[0], minlength=n))]).astype(np.int64)
    return starts, pairs[1].astype(np.int64), pairs[2].astype(np.int64)


@njit(cache=True, nogil=True)
def _gap(points: Any, starts: Any, boxes: Any, i: Any, j: Any, size_y: float, size_x: float, bound: float) -> float:
    # The object with fewer points is walked along.
    if starts[i + 1] - starts[i] > starts[j + 1] - starts[j]:
        i, j = j, i
    return nearest_points(points, starts[i], starts[i + 1], starts[j], starts[j + 1], boxes[j], size_y, size_x, bound)


@njit(cache=True, nogil=True)
def _pairs(
    points: np.ndarray, starts: np.ndarray, boxes: np.ndarray, overlap_starts: np.ndarray, overlap_with: np.ndarray,
    reach: float, size_y: float, size_x: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    n = len(boxes)
    order = np.argsort(boxes[:, 0])
    found = 0
    first, second, gaps = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.float64)
    bound = reach * (1 + 1e-9) + 1e-9  # its square is above that of the reach, also where that is 0
    for place in range(n):
        a = order[place]
        if boxes[a, 0] == np.inf:
            break
        for later in range(place + 1, n):
            b = order[later]
            if (boxes[b, 0] - boxes[a, 2]) * size_y > reach:
                break
            if box_gap(boxes[a], boxes[b], size_y, size_x) > reach:
                continue
            i, j = min(a, b), max(a, b)
            row = overlap_with[overlap_starts[i] : overlap_starts[i + 1]]
            at = np.searchsorted(row, j)
            shares = at < len(row) and row[at] == j
            gap = 0.0 if shares else _gap(points, starts, boxes, i, j, size_y, size_x, bound)
            if gap > reach:
                continue
            if found == len(first):
                first = np.concatenate((first, np.empty_like(first)))
                second = np.concatenate((second, np.empty_like(second)))
                gaps = np.concatenate((gaps, np.empty_like(gaps)))
            first[found], second[found], gaps[found] = i, j, gap
            found += 1
    return first[:found], second[:found], gaps[:found]


@njit(cache=True, nogil=True)
def _nearest(
    points: np.ndarray, starts: np.ndarray, boxes: np.ndarray, overlap_starts: np.ndarray, overlap_with: np.ndarray,
    overlap_pixels: np.ndarray, classes: np.ndarray, n_classes: int, size_y: float, size_x: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    n = len(boxes)
    gap, which = np.full((n, n_classes), np.inf), np.full((n, n_classes), -1)
    most = np.zeros(n_classes, np.int64)
    lower = np.empty(n, np.float64)
    for i in range(n):
        if starts[i] == starts[i + 1]:
            continue
        most[:] = 0
        for k in range(overlap_starts[i], overlap_starts[i + 1]):
            j = overlap_with[k]
            c = classes[j] - 1
            if overlap_pixels[k] > most[c]:
                most[c], gap[i, c], which[i, c] = overlap_pixels[k], 0.0, j
        # The object whose box is nearest gives a bound; only those with a nearer box can be nearer.
        nearest, at = np.full(n_classes, np.inf), np.full(n_classes, -1)
        for j in range(n):
            c = classes[j] - 1
            if j == i or starts[j] == starts[j + 1] or most[c]:
                continue
            lower[j] = box_gap(boxes[i], boxes[j], size_y, size_x)
            if lower[j] < nearest[c]:
                nearest[c], at[c] = lower[j], j
        for c in range(n_classes):
            if at[c] >= 0:
                gap[i, c] = _gap(points, starts, boxes, i, at[c], size_y, size_x, np.inf)
                which[i, c] = at[c]
        for j in range(n):
            c = classes[j] - 1
            if j == i or starts[j] == starts[j + 1] or most[c] or j == at[c] or lower[j] > gap[i, c]:
                continue
            found = _gap(points, starts, boxes, i, j, size_y, size_x, np.nextafter(gap[i, c], np.inf))
            if found < gap[i, c] or (found == gap[i, c] and j < which[i, c]):
                gap[i, c], which[i, c] = found, j
    return gap, which
