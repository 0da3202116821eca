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

from cytomask.geometry.fate import DROPPED, KEPT, OPEN
from cytomask.geometry.polygon_rows import cut_into_rows, share_more_than
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
    fates = settle_polygons(points, distances, scores, threshold, np.full(len(points), OPEN, np.uint8))
    return np.asarray(fates == KEPT)


def settle_polygons(
    points: npt.NDArray[np.floating] | npt.NDArray[np.integer],
    distances: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    threshold: float,
    fates: npt.NDArray[np.uint8],
    foreign: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """Find out what a part of the polygons tells about which are to be kept of all.

    What is said is certain: it is what :func:`polygon_nms` says of all polygons, whatever those look like that are not
    given. A polygon goes when a better one that is surely kept conflicts with it; it stays open when it is foreign, or
    when a better one that is open conflicts with it; otherwise it is kept.

    Parameters
    ----------
    points, distances, scores, threshold
        As for :func:`polygon_nms`, in the order that they have among all.
    fates
        uint8 ``(N,)``: what is known before, ``KEPT`` or ``OPEN`` of :mod:`cytomask.geometry.fate`.
    foreign
        bool ``(N,)``: true where polygons that are not given may conflict, too. None: nowhere.

    Returns
    -------
    numpy.ndarray
        uint8 ``(N,)``: the fates as far as they can be told.

    Raises
    ------
    ValueError
        When the arrays do not fit together, or hold values that are not finite.

    Examples
    --------
    Three squares on their corners, each in conflict with the next. Of the first, it is not known whether it is kept; so
    the second is open. It goes in any case if the third is better and kept.

    >>> points, distances = np.array([[20, 20], [20, 22], [20, 24]]), np.full((3, 4), 4.0)
    >>> fates, foreign = np.zeros(3, np.uint8), np.array([True, False, False])
    >>> settle_polygons(points, distances, np.array([0.9, 0.8, 0.7]), 0.3, fates, foreign)
    array([0, 0, 0], dtype=uint8)
    >>> settle_polygons(points, distances, np.array([0.7, 0.8, 0.9]), 0.3, fates, foreign)
    array([0, 2, 1], dtype=uint8)
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
        return np.zeros(0, np.uint8)
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
    known = np.ascontiguousarray(np.asarray(fates, np.uint8)[order])
    away = np.zeros(count, np.bool_) if foreign is None else np.ascontiguousarray(np.asarray(foreign, np.bool_)[order])
    settled = np.empty(count, np.uint8)
    settled[order] = _settle(corners, boxes, areas, starlike, float(threshold), known, away, head, side, *low)
    return settled


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
def _settle(corners, boxes, areas, starlike, threshold, known, foreign, head, side, low_y, low_x):  # type: ignore[no-untyped-def]
    """Greedy suppression of polygons sorted by descending score; returns their fates.

    Each polygon is compared with the better ones that stay so far, kept or open. Those are found in a grid of square
    cells: one that stays is listed in every cell that its bounding box touches, so one large polygon does not widen the
    search of others.
    """
    count = len(corners)
    fates = known.copy()
    # The polygons that stay in a cell are a chain: head -> (next, slot) -> ..., where slot counts those that stay.
    chain, chained = np.empty((4096, 2), np.int64), 0
    large, n_large = np.empty(count, np.int64), 0

    stay, n_stay = np.empty(count, np.int64), 0
    seen_by = np.full(count, -1, np.int64)
    near = np.empty(count, np.int64)
    starts = np.empty(count, np.int64)
    rows_used = spans_used = 0
    rows_pool, spans = np.empty(4096, np.int64), np.empty((4096, 4), np.float64)
    for j in range(count):
        if areas[j] == 0:
            fates[j] = KEPT
            continue
        y0, x0, y1, x1 = boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3]
        cy0, cx0, cy1, cx1 = (y0 - low_y) // side, (x0 - low_x) // side, (y1 - low_y) // side, (x1 - low_x) // side
        n_cells = (cy1 - cy0 + 1) * (cx1 - cx0 + 1)
        n_near = 0
        if known[j] == KEPT:
            pass  # it need not be compared with better ones
        elif n_cells > n_stay:
            for slot in range(n_stay):
                near[slot] = slot
            n_near = n_stay
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
            i = stay[slot]
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
        spans, spans_end = cut_into_rows(corners[j], starlike[j], y0, y1, first, spans, spans_used)
        doubtful, suppressed = foreign[j] and known[j] != KEPT, False
        for n in range(n_near):
            i, first_i = stay[near[n]], rows_pool[starts[near[n]] :]
            if doubtful and fates[i] == OPEN:
                continue
            enough = (threshold + _EQUAL) * min(areas[i], areas[j])
            if share_more_than(enough, spans, first, y0, y1, first_i, boxes[i, 0], boxes[i, 2]):
                if fates[i] == KEPT:
                    suppressed = True
                    break
                doubtful = True
        if suppressed:
            fates[j] = DROPPED
            continue
        fates[j] = OPEN if doubtful else KEPT
        stay[n_stay], starts[n_stay] = j, rows_used
        rows_used, spans_used = rows_end, spans_end
        if n_cells > _MANY_CELLS:
            large[n_large] = n_stay
            n_large += 1
        else:
            if chained + n_cells > len(chain):
                longer = np.empty((2 * len(chain), 2), np.int64)
                for n in range(chained):
                    longer[n, 0], longer[n, 1] = chain[n, 0], chain[n, 1]
                chain = longer
            for cy in range(cy0, cy1 + 1):
                for cx in range(cx0, cx1 + 1):
                    chain[chained, 0], chain[chained, 1] = head[cy, cx], n_stay
                    head[cy, cx] = chained
                    chained += 1
        n_stay += 1
    return fates
