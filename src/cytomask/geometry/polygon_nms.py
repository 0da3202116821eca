"""Non-maximum suppression of star-convex polygons: of many that claim one object, keep the best.

A polygon goes when a better one covers it, or is covered by it, for more than a given share of the smaller of the two
(Schmidt et al. 2018). As in the reference implementation, corners are first truncated to whole pixels. That makes
exact areas cheap: between two whole rows no edge begins or ends, so a polygon is there a few trapezoids, and what
two polygons share is the sum, over the rows they have in common, of what their trapezoids share. The reference clips
with crossings rounded to whole pixels, which moves its overlaps by up to a few percent; here they are exact, but for
fractions of a pixel where an outline crosses itself.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from cytomask.geometry.star import ray_directions

#: Corners farther out than this many pixels are moved here: no image is as large, and rows are counted one by one.
_FARTHEST = 1 << 20

#: Overlaps this close to the threshold count as equal to it, so that rounding errors do not decide.
_EQUAL = 1e-9

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
    directions = np.ascontiguousarray(ray_directions(distances.shape[1]).T)
    corners, boxes, areas, starlike = _whole_corners(points, distances, order, directions)
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(int(np.median(boxes[:, 2:] - boxes[:, :2])), 4)
    while np.prod((high - low) // side + 1) > 4 * count + 1024:
        side *= 2
    head = np.full((high - low) // side + 1, -1, np.int64)
    keep = np.zeros(count, np.bool_)
    keep[order] = _suppress(corners, boxes, areas, starlike, float(threshold), head, side, low[0], low[1])
    return keep


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _whole_corners(points, distances, order, directions):  # type: ignore[no-untyped-def]
    """Corners truncated towards zero, in the given order, and what is known from them.

    Returns the corners ``(N, 2, rays)``, first y, then x; their bounding boxes ``(y0, x0, y1, x1)``; the areas that
    they enclose; and whether they still turn around the centre in one sense, so that no outline crosses itself.
    """
    count, n_rays = distances.shape
    corners = np.empty((count, 2, n_rays), np.int32)
    boxes = np.empty((count, 4), np.int64)
    areas = np.empty(count, np.float64)
    starlike = np.empty(count, np.bool_)
    farthest = np.float32(_FARTHEST)
    for i in range(count):
        source = order[i]
        for axis in range(2):
            line, centre = corners[i, axis], points[source, axis]
            for k in range(n_rays):
                place = centre + distances[source, k] * directions[axis, k]
                line[k] = np.int32(min(max(place, -farthest), farthest))
            low = high = line[0]
            for k in range(1, n_rays):
                low, high = min(low, line[k]), max(high, line[k])
            boxes[i, axis], boxes[i, 2 + axis] = low, high
        y, x = corners[i, 0], corners[i, 1]
        middle_y = np.int64(min(max(points[source, 0], -farthest), farthest))
        middle_x = np.int64(min(max(points[source, 1], -farthest), farthest))
        twice = np.int64(0)
        onwards = True
        before_y, before_x = y[n_rays - 1] - middle_y, x[n_rays - 1] - middle_x
        for k in range(n_rays):
            here_y, here_x = y[k] - middle_y, x[k] - middle_x
            turn = before_x * here_y - before_y * here_x
            twice += turn
            onwards &= distances[source, k] >= 0
            onwards &= turn > 0 or (turn == 0 and before_x * here_x + before_y * here_y > 0)
            before_y, before_x = here_y, here_x
        areas[i] = 0.5 * abs(twice)
        starlike[i] = onwards
    return corners, boxes, areas, starlike


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _suppress(corners, boxes, areas, starlike, threshold, head, side, low_y, low_x):  # type: ignore[no-untyped-def]
    """Greedy suppression of polygons sorted by descending score; returns which are kept.

    Each polygon is compared with the better ones kept so far. Those are found in a grid of square cells: a kept polygon
    is listed in every cell that its bounding box touches, so one large polygon does not widen the search of others.
    """
    count = len(corners)
    keep = np.zeros(count, np.bool_)
    # The kept polygons of a cell are a chain: head -> (next, slot) -> ..., where slot counts the kept ones.
    chain, chained = np.empty((4096, 2), np.int64), 0
    large, n_large = np.empty(count, np.int64), 0

    kept, n_kept = np.empty(count, np.int64), 0
    seen_by = np.full(count, -1, np.int64)
    near = np.empty(count, np.int64)
    starts = np.empty(count, np.int64)
    rows_used = spans_used = 0
    rows_pool, spans = np.empty(4096, np.int64), np.empty((4096, 4), np.float64)
    for j in range(count):
        if areas[j] == 0:
            keep[j] = True
            continue
        y0, x0, y1, x1 = boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3]
        cy0, cx0, cy1, cx1 = (y0 - low_y) // side, (x0 - low_x) // side, (y1 - low_y) // side, (x1 - low_x) // side
        n_cells = (cy1 - cy0 + 1) * (cx1 - cx0 + 1)
        n_near = 0
        if n_cells > n_kept:
            for slot in range(n_kept):
                near[slot] = slot
            n_near = n_kept
        else:
            for n in range(n_large):
                near[n] = large[n]
            n_near = n_large
            for cy in range(cy0, cy1 + 1):
                for cx in range(cx0, cx1 + 1):
                    at = head[cy, cx]
                    while at >= 0:
                        slot = chain[at, 1]
                        if seen_by[slot] != j:
                            seen_by[slot] = j
                            near[n_near] = slot
                            n_near += 1
                        at = chain[at, 0]
        # Only where the bounding boxes share enough can the polygons. The one that probably shares most comes first:
        # then most polygons need no second comparison.
        n_found, n_near, most = n_near, 0, 0.0
        for n in range(n_found):
            slot = near[n]
            i = kept[slot]
            shared_y = min(y1, boxes[i, 2]) - max(y0, boxes[i, 0])
            shared_x = min(x1, boxes[i, 3]) - max(x0, boxes[i, 1])
            if shared_y > 0 and shared_x > 0:
                shared = np.float64(shared_y) * shared_x
                if shared > threshold * min(areas[i], areas[j]):
                    near[n_near] = slot
                    if shared > most:
                        most = shared
                        near[0], near[n_near] = near[n_near], near[0]
                    n_near += 1
        rows_end = rows_used + (y1 - y0) + 1
        if rows_end > len(rows_pool):
            grown = np.empty(len(rows_pool) + rows_end, np.int64)
            for n in range(rows_used):
                grown[n] = rows_pool[n]
            rows_pool = grown
        first = rows_pool[rows_used:rows_end]
        spans, spans_end = _cut_into_rows(corners[j], starlike[j], y0, y1, first, spans, spans_used)
        suppressed = False
        for n in range(n_near):
            i, first_i = kept[near[n]], rows_pool[starts[near[n]] :]
            enough = (threshold + _EQUAL) * min(areas[i], areas[j])
            if _share_more_than(enough, spans, first, y0, y1, first_i, boxes[i, 0], boxes[i, 2]):
                suppressed = True
                break
        if suppressed:
            continue
        keep[j] = True
        kept[n_kept], starts[n_kept] = j, rows_used
        rows_used, spans_used = rows_end, spans_end
        if n_cells > _MANY_CELLS:
            large[n_large] = n_kept
            n_large += 1
        else:
            if chained + n_cells > len(chain):
                longer = np.empty((2 * len(chain), 2), np.int64)
                for n in range(chained):
                    longer[n, 0], longer[n, 1] = chain[n, 0], chain[n, 1]
                chain = longer
            for cy in range(cy0, cy1 + 1):
                for cx in range(cx0, cx1 + 1):
                    chain[chained, 0], chain[chained, 1] = head[cy, cx], n_kept
                    head[cy, cx] = chained
                    chained += 1
        n_kept += 1
    return keep


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cut_into_rows(corners, simple, top, bottom, first, spans, filled):  # type: ignore[no-untyped-def]
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
def _share_more_than(enough, spans, first_a, top_a, bottom_a, first_b, top_b, bottom_b):  # type: ignore[no-untyped-def]
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
