"""Polygons cut into rows of trapezoids, and the area that two polygons share.

Corners are whole pixels. So between two whole rows no edge begins or ends: a polygon is there a few trapezoids, and
what two polygons share is the sum, over the rows they have in common, of what their trapezoids share.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
def cut_into_rows(corners, simple, top, bottom, first, spans, filled):  # type: ignore[no-untyped-def]
    """Cut one polygon into trapezoids; what its outline winds around (nonzero winding) is inside.

    Row ``r`` lies between the heights ``top + r`` and ``top + r + 1``; its trapezoids become
    ``spans[first[r]:first[r + 1]]``, each ``(left upper, left lower, right upper, right lower)``: where its two edges
    meet the upper and the lower side of the row. ``spans`` is used up to ``filled``; returns it, or a larger copy, and
    how far it is used then. ``simple`` says that the outline does not cross itself, and turns from x towards y.
    """
    rows = bottom - top
    down = 0
    for k in range(corners.shape[1]):
        down += max(corners[0, k] - corners[0, k - 1], 0)
    if filled + down > len(spans):
        grown = np.empty((2 * len(spans) + down, 4), np.float64)
        for s in range(filled):
            for side in range(4):
                grown[s, side] = spans[s, side]
        spans = grown
    if simple:
        return spans, _cut_simple(corners, top, rows, first, spans, filled)
    return spans, _cut_any(corners, top, rows, down, first, spans, filled)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cut_simple(corners, top, rows, first, spans, filled):  # type: ignore[no-untyped-def]
    """Left edges go up and right edges go down, by turns: the n-th of either kind bound the n-th trapezoid of a row."""
    n = corners.shape[1]
    for r in range(rows + 1):
        first[r] = 0
    for k in range(n):
        y0, y1 = corners[0, k - 1], corners[0, k]
        if y1 > y0:
            first[y0 - top] += 1
            first[y1 - top] -= 1
    crossings, total = 0, filled
    for r in range(rows + 1):
        crossings += first[r]
        total += crossings
        first[r] = total
    # Now first[r] is where row r ends. Right edges count it down to where the row begins, left edges up to the end.
    for k in range(n):
        y0, x0, y1, x1 = corners[0, k - 1], corners[1, k - 1], corners[0, k], corners[1, k]
        if y1 > y0:
            slope = (x1 - x0) / (y1 - y0)
            for r in range(y1 - y0):
                slot = first[y0 - top + r] - 1
                first[y0 - top + r] = slot
                spans[slot, 2], spans[slot, 3] = x0 + slope * r, x0 + slope * (r + 1)
    for k in range(n):
        y0, x0, y1, x1 = corners[0, k - 1], corners[1, k - 1], corners[0, k], corners[1, k]
        if y1 < y0:
            slope = (x1 - x0) / (y1 - y0)
            for r in range(y0 - y1):
                slot = first[y1 - top + r]
                first[y1 - top + r] = slot + 1
                spans[slot, 0], spans[slot, 1] = x1 + slope * r, x1 + slope * (r + 1)
    begin = filled
    for r in range(rows + 1):
        end = first[r]
        first[r] = begin
        if end - begin > 1:
            for side in (0, 2):
                for a in range(begin + 1, end):
                    upper, lower = spans[a, side], spans[a, side + 1]
                    b = a - 1
                    while b >= begin and spans[b, side] + spans[b, side + 1] > upper + lower:
                        spans[b + 1, side], spans[b + 1, side + 1] = spans[b, side], spans[b, side + 1]
                        b -= 1
                    spans[b + 1, side], spans[b + 1, side + 1] = upper, lower
        begin = end
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cut_any(corners, top, rows, down, first, spans, filled):  # type: ignore[no-untyped-def]
    n = corners.shape[1]
    for r in range(rows + 1):
        first[r] = 0
    for k in range(n):
        y0, y1 = corners[0, k - 1], corners[0, k]
        for r in range(min(y0, y1) - top, max(y0, y1) - top):
            first[r] += 1
    total = 0
    for r in range(rows + 1):
        total += first[r]
        first[r] = total
    # Each crossing of a row: x at the upper side, x at the lower side, direction.
    edges = np.empty((2 * down, 3), np.float64)
    for k in range(n):
        y0, x0, y1, x1 = corners[0, k - 1], corners[1, k - 1], corners[0, k], corners[1, k]
        if y0 == y1:
            continue
        direction = 1.0
        if y0 > y1:
            y0, x0, y1, x1, direction = y1, x1, y0, x0, -1.0
        slope = (x1 - x0) / (y1 - y0)
        for r in range(y1 - y0):
            slot = first[y0 - top + r] - 1
            first[y0 - top + r] = slot
            edges[slot, 0], edges[slot, 1], edges[slot, 2] = x0 + slope * r, x0 + slope * (r + 1), direction
    for r in range(rows):
        begin, end = first[r], first[r + 1]
        for a in range(begin + 1, end):
            upper, lower, direction = edges[a, 0], edges[a, 1], edges[a, 2]
            b = a - 1
            while b >= begin and edges[b, 0] + edges[b, 1] > upper + lower:
                edges[b + 1, 0], edges[b + 1, 1], edges[b + 1, 2] = edges[b, 0], edges[b, 1], edges[b, 2]
                b -= 1
            edges[b + 1, 0], edges[b + 1, 1], edges[b + 1, 2] = upper, lower, direction
        first[r] = filled
        winding = 0.0
        for a in range(begin, end):
            if winding == 0:
                spans[filled, 0], spans[filled, 1] = edges[a, 0], edges[a, 1]
            winding += edges[a, 2]
            if winding == 0:
                # Where the outline crosses itself inside the row, the larger of its two loops is kept.
                spans[filled, 2] = max(edges[a, 0], spans[filled, 0])
                spans[filled, 3] = max(edges[a, 1], spans[filled, 1])
                filled += 1
    first[rows] = filled
    return filled


@numba.njit(cache=True, nogil=True, error_model="numpy")
def share_more_than(enough, spans, first_a, top_a, bottom_a, first_b, top_b, bottom_b):  # type: ignore[no-untyped-def]
    """Whether two polygons, cut into rows in one buffer, share an area larger than ``enough``."""
    top, bottom = max(top_a, top_b), min(bottom_a, bottom_b)
    # The width that two trapezoids share is concave down the row, so the mean of its ends is never too much where both
    # are positive. That settles most pairs; edges that cross inside a row make the exact area dearer.
    area = 0.0
    for y in range(top, bottom):
        for a in range(first_a[y - top_a], first_a[y - top_a + 1]):
            for b in range(first_b[y - top_b], first_b[y - top_b + 1]):
                upper = min(spans[a, 2], spans[b, 2]) - max(spans[a, 0], spans[b, 0])
                lower = min(spans[a, 3], spans[b, 3]) - max(spans[a, 1], spans[b, 1])
                area += 0.5 * (upper + lower) if min(upper, lower) > 0 else 0.0
        if area > enough:
            return True
    area = 0.0
    for y in range(top, bottom):
        for a in range(first_a[y - top_a], first_a[y - top_a + 1]):
            for b in range(first_b[y - top_b], first_b[y - top_b + 1]):
                area += _shared_area(spans[a], spans[b])
        if area > enough:
            return True
    return False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _shared_area(a, b):  # type: ignore[no-untyped-def]
    """Area common to two trapezoids of one row: of ``b``, what is left of ``a``'s right edge but not of its left."""
    up_to_right = _positive(a[2] - b[0], a[3] - b[1]) - _positive(a[2] - b[2], a[3] - b[3])
    up_to_left = _positive(a[0] - b[0], a[1] - b[1]) - _positive(a[0] - b[2], a[1] - b[3])
    return up_to_right - up_to_left


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _positive(upper, lower):  # type: ignore[no-untyped-def]
    """Integrate the positive part of what runs linearly from ``upper`` to ``lower`` down a row."""
    if upper >= 0:
        return 0.5 * (upper + lower) if lower >= 0 else 0.5 * upper * upper / (upper - lower)
    return 0.5 * lower * lower / (lower - upper) if lower > 0 else 0.0
