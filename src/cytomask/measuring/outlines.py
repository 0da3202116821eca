"""Outlines of bit-packed masks as points between the pixels, from which exact distances between objects follow.

A pixel is a square. The distance between two objects is that between the nearest points of their squares: 0 where they
touch or overlap, 1 where one pixel lies between. As all squares lie on one grid, the nearest points are corners of
pixels, so that it is enough to look at the corners along the outlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from cytomask.instances import Instances


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """The corners of pixels along the outlines of N objects, row by row.

    Attributes
    ----------
    points
        int32 ``(P, 2)``: y and x, the image's upper left corner being ``(0, 0)``.
    starts
        int64 ``(N + 1,)``: where the points of each object begin, and the end.
    boxes
        float64 ``(N, 4)``: y0, x0, y1, x1 around the points; an empty box at infinity for an object without points.
    """

    points: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray


def outlines(instances: Instances, *, open_rim: bool = False) -> Outlines:
    """Find the corners of pixels at which an object ends.

    Parameters
    ----------
    instances
        N objects.
    open_rim
        Whether the image's rim is left out: what lies beyond it is unknown, so that an object that is cut there does
        not end there.

    Examples
    --------
    >>> outlines(Instances.from_labels(np.array([[1, 1]]))).points.tolist()
    [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    """
    windows = instances.windows.astype(np.int64)
    height, width = instances.shape
    counts = _corners(windows, instances.bits, instances.offsets, height, width, open_rim, np.zeros((0, 2), np.int32))
    starts = np.concatenate([[0], np.cumsum(counts)])
    points = np.empty((starts[-1], 2), np.int32)
    _corners(windows, instances.bits, instances.offsets, height, width, open_rim, points)
    boxes = np.full((len(instances), 4), np.inf)
    for i in np.flatnonzero(counts):
        own = points[starts[i] : starts[i + 1]]
        boxes[i] = (own[0, 0], own[:, 1].min(), own[-1, 0], own[:, 1].max())
    return Outlines(points, starts, boxes)


@njit(cache=True, nogil=True)
def holds(bits: Any, start: Any, window: Any, y: Any, x: Any) -> bool:
    """Whether a mask has a pixel, which may lie outside its window."""
    if y < window[0] or y >= window[2] or x < window[1] or x >= window[3]:
        return False
    k = (y - window[0]) * (window[3] - window[1]) + x - window[1]
    return ((bits[start + (k >> 3)] >> (7 - (k & 7))) & 1) != 0


@njit(cache=True, nogil=True)
def _corners(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, height: int, width: int, open_rim: bool,
    points: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Count the corners of each mask; write them, too, where ``points`` has room."""
    counts = np.zeros(len(windows), np.int64)
    place = 0
    for i in range(len(windows)):
        window = windows[i]
        if window[2] <= window[0] or window[3] <= window[1]:
            continue
        for y in range(window[0], window[2] + 1):
            # The four pixels around a corner; those on the right become those on the left of the next one.
            above = below = False
            for x in range(window[1], window[3] + 1):
                right_above = holds(bits, offsets[i], window, y - 1, x)
                right_below = holds(bits, offsets[i], window, y, x)
                held = int(above) + int(below) + int(right_above) + int(right_below)
                around = 4
                if open_rim and (y == 0 or y == height):
                    around = 2
                if open_rim and (x == 0 or x == width):
                    around //= 2
                if 0 < held < around:
                    counts[i] += 1
                    if place < len(points):
                        points[place, 0], points[place, 1] = y, x
                        place += 1
                above, below = right_above, right_below
    return counts


@njit(cache=True, nogil=True)
def box_gap(a: Any, b: Any, size_y: float, size_x: float) -> float:
    """Distance between two boxes."""
    dy = max(a[0] - b[2], b[0] - a[2], 0.0) * size_y
    dx = max(a[1] - b[3], b[1] - a[3], 0.0) * size_x
    return np.sqrt(dy * dy + dx * dx)


@njit(cache=True, nogil=True)
def nearest_points(
    points: np.ndarray, start_a: Any, stop_a: Any, start_b: Any, stop_b: Any, box_b: Any, size_y: float, size_x: float,
    bound: float,
) -> float:  # fmt: skip
    """Distance between two sets of points in rows, or ``bound`` if it is not below.

    Rows of the second set are looked at from the one at the point's height outwards, as far as they can be nearer.
    """
    best = bound * bound  # squares are compared, which is faster
    found = False
    for p in range(start_a, stop_a):
        y, x = points[p, 0], points[p, 1]
        dy = max(box_b[0] - y, y - box_b[2], 0.0) * size_y
        dx = max(box_b[1] - x, x - box_b[3], 0.0) * size_x
        if dy * dy + dx * dx >= best:
            continue
        low, high = start_b, stop_b
        while low < high:
            middle = (low + high) >> 1
            if points[middle, 0] < y:
                low = middle + 1
            else:
                high = middle
        for q in range(low, stop_b):
            dy = (points[q, 0] - y) * size_y
            if dy * dy >= best:
                break
            dx = (points[q, 1] - x) * size_x
            if dy * dy + dx * dx < best:
                best, found = dy * dy + dx * dx, True
        for q in range(low - 1, start_b - 1, -1):
            dy = (points[q, 0] - y) * size_y
            if dy * dy >= best:
                break
            dx = (points[q, 1] - x) * size_x
            if dy * dy + dx * dx < best:
                best, found = dy * dy + dx * dx, True
        if best == 0.0:
            return 0.0
    return np.sqrt(best) if found else bound
