"""Non-maximum suppression of star-convex polygons: of many that claim one object, keep the best.

A polygon goes when a better one covers it, or is covered by it, for more than a given share of the smaller of the two
(Schmidt et al. 2018). As in the reference implementation, corners are first truncated to whole pixels. That makes
exact areas cheap: between two whole rows no edge begins or ends, so a polygon is there a few trapezoids, and what
two polygons share is the sum, over the rows they have in common, of what their trapezoids share.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from cytomask.geometry.star import ray_directions

#: Corners farther out than this many pixels are moved here: no image is as large, and rows are counted one by one.
_FARTHEST = 1 << 20

#: A kept polygon that covers more cells of the search grid than this is listed apart.
_MANY_CELLS = 256


def polygon_nms(
    points: npt.NDArray[np.floating] | npt.NDArray[np.integer],
    distances: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    threshold: float,
) -> npt.NDArray[np.bool_]:
    """Choose the polygons to keep, greedily by descending score.

    Parameters
    ----------
    points
        Centres ``(N, 2)``, each ``(y, x)`` in pixels.
    distances
        Distances along the rays ``(N, n_rays)``, in pixels.
    scores
        ``(N,)``; of equal scores the one that comes first is better.
    threshold
        The largest tolerated overlap: the common area over the smaller of the two areas, 0 to 1.

    Returns
    -------
    numpy.ndarray
        bool ``(N,)``, true for the polygons to keep. A polygon without area overlaps nothing and is kept.

    Raises
    ------
    ValueError
        When the arrays do not fit together, or hold values that are not finite.

    Notes
    -----
    Time grows with the number of polygons times the kept polygons around each; memory with the rows that the kept
    polygons span.

    Examples
    --------
    Three squares on their corners; the first two share more than half of their area.

    >>> points = np.array([[20, 20], [20, 22], [20, 34]])
    >>> distances = np.full((3, 4), 8.0)
    >>> polygon_nms(points, distances, np.array([0.7, 0.9, 0.8]), threshold=0.5)
    array([False,  True,  True])
    """
    points = np.ascontiguousarray(points, np.float32)
    distances = np.ascontiguousarray(distances, np.float32)
    scores = np.asarray(scores)
    count = len(points)
    if points.shape != (count, 2) or distances.ndim != 2 or len(distances) != count or scores.shape != (count,):
        raise ValueError(
            "points (N, 2), distances (N, rays) and scores (N,) do not fit: "
            f"{points.shape}, {distances.shape} and {scores.shape}"
        )
    if count == 0:
        return np.zeros(0, np.bool_)
    for name, values in (("points", points), ("distances", distances), ("scores", scores)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(values))} of {values.size} values are not finite")
    order = np.argsort(-scores, kind="stable")
    corners, boxes, areas = _whole_corners(points[order], distances[order], ray_directions(distances.shape[1]))
    side = int(np.median(np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])))
    keep = np.empty(count, np.bool_)
    keep[order] = _suppress(corners, boxes, areas, float(threshold), max(side, 4))
    return keep


@numba.njit(cache=True, nogil=True)
def _whole_corners(points, distances, directions):  # type: ignore[no-untyped-def]
    """Corners truncated towards zero, their bounding boxes ``(y0, x0, y1, x1)``, and the areas they enclose."""
    count, n_rays = distances.shape
    corners = np.empty((count, n_rays, 2), np.int32)
    boxes = np.empty((count, 4), np.int32)
    areas = np.empty(count, np.float64)
    farthest = np.float32(_FARTHEST)
    for i in range(count):
        for k in range(n_rays):
            for axis in range(2):
                place = points[i, axis] + distances[i, k] * directions[k, axis]
                corners[i, k, axis] = np.int32(min(max(place, -farthest), farthest))
        twice = 0
        y0 = y1 = corners[i, 0, 0]
        x0 = x1 = corners[i, 0, 1]
        for k in range(n_rays):
            y, x = corners[i, k, 0], corners[i, k, 1]
            after = k + 1 if k + 1 < n_rays else 0
            twice += np.int64(x) * corners[i, after, 0] - np.int64(y) * corners[i, after, 1]
            y0, y1, x0, x1 = min(y0, y), max(y1, y), min(x0, x), max(x1, x)
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = y0, x0, y1, x1
        areas[i] = 0.5 * abs(twice)
    return corners, boxes, areas


@numba.njit(cache=True, nogil=True)
def _row_spans(corners, top, bottom, first, spans, filled):  # type: ignore[no-untyped-def]
    """Cut one polygon into trapezoids, row by row (nonzero winding).

    Row ``r`` lies between the heights ``top + r`` and ``top + r + 1``. Its trapezoids are ``spans[first[r]:first[r+1]]``,
    each the left edge at the row's upper and lower side and the right edge likewise. ``spans`` is used from ``filled``
    on; returns it, grown when it was too small, and how far it is filled.
    """
    n_rays = len(corners)
    rows = bottom - top
    for r in range(rows + 1):
        first[r] = 0
    crossings = 0
    for k in range(n_rays):
        after = k + 1 if k + 1 < n_rays else 0
        y0, y1 = corners[k, 0], corners[after, 0]
        for r in range(min(y0, y1) - top, max(y0, y1) - top):
            first[r] += 1
        crossings += abs(y1 - y0)
    # Each crossing is first written as (x at the upper side, x at the lower side, direction); a pair makes one trapezoid.
    edges = np.empty((crossings, 3), np.float64)
    total = 0
    for r in range(rows):
        total += first[r]
        first[r] = total
    for k in range(n_rays):
        after = k + 1 if k + 1 < n_rays else 0
        y0, x0, y1, x1 = corners[k, 0], corners[k, 1], corners[after, 0], corners[after, 1]
        if y0 == y1:
            continue
        direction = 1.0
        if y1 < y0:
            y0, x0, y1, x1 = y1, x1, y0, x0
            direction = -1.0
        slope = (x1 - x0) / (y1 - y0)
        upper = np.float64(x0)
        for y in range(y0, y1):
            lower = x0 + slope * (y + 1 - y0)
            r = y - top
            first[r] -= 1
            edges[first[r], 0] = upper
            edges[first[r], 1] = lower
            edges[first[r], 2] = direction
            upper = lower
    first[rows] = total
    if filled + total // 2 > len(spans):
        grown = np.empty((max(2 * len(spans), filled + total), 4), np.float64)
        grown[:filled] = spans[:filled]
        spans = grown
    for r in range(rows):
        begin, end = first[r], first[r + 1]
        for a in range(begin + 1, end):
            upper, lower, direction = edges[a, 0], edges[a, 1], edges[a, 2]
            b = a - 1
            while b >= begin and edges[b, 0] + edges[b, 1] > upper + lower:
                edges[b + 1] = edges[b]
                b -= 1
            edges[b + 1, 0], edges[b + 1, 1], edges[b + 1, 2] = upper, lower, direction
        first[r] = filled
        winding = 0.0
        for a in range(begin, end):
            if winding == 0:
                spans[filled, 0], spans[filled, 1] = edges[a, 0], edges[a, 1]
            winding += edges[a, 2]
            if winding == 0:
                spans[filled, 2], spans[filled, 3] = edges[a, 0], edges[a, 1]
                filled += 1
    first[rows] = filled
    return spans, filled


@numba.njit(cache=True, nogil=True)
def _shared_trapezoid(a, b):  # type: ignore[no-untyped-def]
    """Area common to two trapezoids of one row, each ``(left upper, left lower, right upper, right lower)``."""
    upper = min(a[2], b[2]) - max(a[0], b[0])
    lower = min(a[3], b[3]) - max(a[1], b[1])
    left_swap = (a[0] - b[0]) * (a[1] - b[1]) < 0
    right_swap = (a[2] - b[2]) * (a[3] - b[3]) < 0
    if not left_swap and not right_swap:
        if upper >= 0 and lower >= 0:
            return 0.5 * (upper + lower)
        if upper <= 0 and lower <= 0:
            return 0.0
        width = max(upper, lower)
        return 0.5 * width * width / abs(upper - lower)
    # Edges cross inside the row: the common width is linear between the crossings only.
    cut_a = (a[0] - b[0]) / ((a[0] - b[0]) - (a[1] - b[1])) if left_swap else 0.0
    cut_b = (a[2] - b[2]) / ((a[2] - b[2]) - (a[3] - b[3])) if right_swap else 0.0
    if cut_a > cut_b:
        cut_a, cut_b = cut_b, cut_a
    area = 0.0
    before, width_before = 0.0, upper
    for piece in range(3):
        at = cut_a if piece == 0 else cut_b if piece == 1 else 1.0
        width = lower
        if piece < 2:
            right = min(a[2] + at * (a[3] - a[2]), b[2] + at * (b[3] - b[2]))
            width = right - max(a[0] + at * (a[1] - a[0]), b[0] + at * (b[1] - b[0]))
        if width_before > 0 and width > 0:
            area += 0.5 * (width_before + width) * (at - before)
        elif width_before > 0 or width > 0:
            positive = max(width_before, width)
            area += 0.5 * positive * positive / abs(width - width_before) * (at - before)
        before, width_before = at, width
    return area


@numba.njit(cache=True, nogil=True)
def _shared_area(spans_a, first_a, top_a, bottom_a, spans_b, first_b, top_b, bottom_b, enough):  # type: ignore[no-untyped-def]
    """Area common to two polygons; stops counting above ``enough``."""
    area = 0.0
    for y in range(max(top_a, top_b), min(bottom_a, bottom_b)):
        for p in range(first_a[y - top_a], first_a[y - top_a + 1]):
            for q in range(first_b[y - top_b], first_b[y - top_b + 1]):
                area += _shared_trapezoid(spans_a[p], spans_b[q])
        if area > enough:
            break
    return area


@numba.njit(cache=True, nogil=True)
def _suppress(corners, boxes, areas, threshold, side):  # type: ignore[no-untyped-def]
    """Greedy suppression of polygons sorted by descending score; returns which are kept.

    Each polygon is compared with the better ones kept so far. Those are found in a grid of square cells: a kept polygon
    is listed in every cell that its bounding box touches, so one large polygon does not widen the search of others.
    """
    count = len(corners)
    keep = np.zeros(count, np.bool_)
    low_y, low_x = boxes[:, 0].min(), boxes[:, 1].min()
    extent_y, extent_x = boxes[:, 2].max() - low_y + 1, boxes[:, 3].max() - low_x + 1
    while (extent_y // side + 1) * (extent_x // side + 1) > 4 * count + 1024:
        side *= 2
    cells_x = extent_x // side + 1
    head = np.full((extent_y // side + 1) * cells_x, -1, np.int64)
    entry_next, entry_kept, entries = np.empty(4096, np.int64), np.empty(4096, np.int64), 0
    large, n_large = np.empty(count, np.int64), 0

    kept, n_kept = np.empty(count, np.int64), 0
    seen = np.full(count, -1, np.int64)
    tallest = np.int64(0)
    for i in range(count):
        tallest = max(tallest, np.int64(boxes[i, 2] - boxes[i, 0]))
    row_pool, rows_filled = np.empty(tallest + 4096, np.int64), 0
    row_start = np.empty(count, np.int64)
    spans, spans_filled = np.empty((4096, 4), np.float64), 0
    near = np.empty(count, np.int64)
    for j in range(count):
        y0, x0, y1, x1 = boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3]
        if areas[j] == 0:
            keep[j] = True
            continue
        cy0, cx0, cy1, cx1 = (y0 - low_y) // side, (x0 - low_x) // side, (y1 - low_y) // side, (x1 - low_x) // side
        n_cells = (cy1 - cy0 + 1) * (cx1 - cx0 + 1)
        # Candidates: kept polygons whose bounding box shares enough with this one's.
        n_near, best, best_at = 0, -1.0, 0
        everything = n_cells > n_kept
        cell, at = cy0 * cells_x + cx0, -1
        position = 0
        if not everything:
            at = head[cell]
        while True:
            if everything:
                if position >= n_kept:
                    break
                slot = position
                position += 1
            elif position < n_large:
                slot = large[position]
                position += 1
            else:
                if at < 0:
                    cell += 1
                    if cell > cy1 * cells_x + cx1:
                        break
                    if cell % cells_x > cx1:
                        cell += cells_x - (cx1 - cx0 + 1)
                    at = head[cell]
                    continue
                slot = entry_kept[at]
                at = entry_next[at]
                if seen[slot] == j:
                    continue
                seen[slot] = j
            i = kept[slot]
            common_y = min(y1, boxes[i, 2]) - max(y0, boxes[i, 0])
            common_x = min(x1, boxes[i, 3]) - max(x0, boxes[i, 1])
            if common_y <= 0 or common_x <= 0:
                continue
            common = np.float64(common_y) * common_x
            if common > threshold * min(areas[i], areas[j]):
                near[n_near] = slot
                if common > best:
                    best, best_at = common, n_near
                n_near += 1
        rows = np.int64(y1 - y0)
        if rows_filled + rows + 1 > len(row_pool):
            grown = np.empty(2 * len(row_pool) + rows, np.int64)
            grown[:rows_filled] = row_pool[:rows_filled]
            row_pool = grown
        first = row_pool[rows_filled : rows_filled + rows + 1]
        spans, spans_after = _row_spans(corners[j], y0, y1, first, spans, spans_filled)
        suppressed = False
        if n_near > 0:
            # The one that probably shares most comes first: most polygons need no second comparison.
            near[0], near[best_at] = near[best_at], near[0]
            for n in range(n_near):
                slot = near[n]
                i = kept[slot]
                enough = threshold * min(areas[i], areas[j])
                first_i = row_pool[row_start[slot] :]
                area = _shared_area(spans, first_i, boxes[i, 0], boxes[i, 2], spans, first, y0, y1, enough)
                if area > enough:
                    suppressed = True
                    break
        if suppressed:
            continue
        keep[j] = True
        kept[n_kept] = j
        row_start[n_kept] = rows_filled
        rows_filled += rows + 1
        spans_filled = spans_after
        if n_cells > _MANY_CELLS:
            large[n_large] = n_kept
            n_large += 1
        else:
            for cy in range(cy0, cy1 + 1):
                for cx in range(cx0, cx1 + 1):
                    if entries == len(entry_next):
                        more_next, more_kept = np.empty(2 * entries, np.int64), np.empty(2 * entries, np.int64)
                        more_next[:entries], more_kept[:entries] = entry_next, entry_kept
                        entry_next, entry_kept = more_next, more_kept
                    entry_next[entries], entry_kept[entries] = head[cy * cells_x + cx], n_kept
                    head[cy * cells_x + cx] = entries
                    entries += 1
        n_kept += 1
    return keep
