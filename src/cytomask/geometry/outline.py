"""Masks as polygons along the edges of their pixels, and polygons as masks.

Pixel ``(y, x)`` covers the square from ``y - 0.5`` to ``y + 0.5`` and from ``x - 0.5`` to ``x + 0.5``. Outlines run
along the edges of these squares, so they lose nothing: filled again they give the same mask, pieces, holes and all. A
polygon that was drawn by hand gets the pixels whose centres lie inside.

Masks are bit-packed, as told in :mod:`cytomask.geometry.bit_masks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_room, window_areas
from cytomask.geometry.bit_mask_windows import recut_masks, tight_windows
from cytomask.geometry.bit_masks import Packed, byte_offsets

#: Steps to the right, down, to the left, up.
_STEP_Y = np.array([0, 1, 0, -1], np.int64)
_STEP_X = np.array([1, 0, -1, 0], np.int64)
#: From a corner of pixels, the pixel ahead on the right-hand side of each of these directions.
_RIGHT_Y = np.array([0, 0, -1, -1], np.int64)
_RIGHT_X = np.array([0, -1, -1, 0], np.int64)


def mask_outlines(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, holes: bool = True
) -> list[list[np.ndarray]]:
    """Trace the outlines of each mask.

    Parameters
    ----------
    windows, bits, offsets
        The masks.
    holes
        Whether to give the outlines of holes, too. Without them, a hole is filled when the polygons are.

    Returns
    -------
    list of list of numpy.ndarray
        For each mask its rings, float32 ``(V, 2)`` as ``(y, x)``, not closed (the first point is not repeated), without
        points on straight lines. A piece is pixels that share edges; its outer ring comes first, then the rings of its
        holes, then the next piece. Seen on the screen, outer rings run clockwise, holes the other way. No ring touches
        itself; two rings may meet in a corner.

    Examples
    --------
    >>> windows, bits, offsets = np.array([[0, 4, 1, 6]], np.int32), np.packbits([1, 1]), np.array([0, 1])
    >>> mask_outlines(windows, bits, offsets)[0][0].tolist()
    [[-0.5, 3.5], [-0.5, 5.5], [0.5, 5.5], [0.5, 3.5]]
    """
    points, rings, pieces, owners, is_hole = _trace(windows, bits, offsets)
    places = points.astype(np.float32) - np.float32(0.5)
    outlines: list[list[np.ndarray]] = [[] for _ in range(len(windows))]
    ends = rings.tolist()
    for ring in np.lexsort((is_hole, pieces, owners)).tolist():
        if holes or not is_hole[ring]:
            outlines[owners[ring]].append(places[ends[ring] : ends[ring + 1]])
    return outlines


def fill_outlines(
    shape: tuple[int, int],
    polygons: Sequence[ArrayLike | Sequence[ArrayLike]],
    rule: Literal["even-odd", "union"] = "even-odd",
    where: str = "polygons",
) -> Packed:
    """Make masks of the pixels whose centres lie in polygons; what lies outside the image is cut off.

    A centre that lies on an outline belongs to the polygon on its right or below it, so that polygons that share an
    edge share no pixel and leave none out.

    Parameters
    ----------
    shape
        Height and width of the image.
    polygons
        For each object a ring ``(V, 2)`` of points ``(y, x)``, or a list of such rings.
    rule
        How several rings of one object go together. ``"even-odd"``: what lies in an odd number of them, so that rings
        in rings are holes, as :func:`mask_outlines` gives them. ``"union"``: what lies in any of them, as COCO has it.
    where
        Named in errors.

    Returns
    -------
    tuple
        The masks in their smallest windows; without pixels where no centre lies inside.

    Raises
    ------
    LabelError
        If a ring has fewer than three points, points without two numbers, or numbers that are not finite, or the
        polygons take far more room or time than so many points can mean.

    Examples
    --------
    >>> fill_outlines((9, 9), [[(1.5, 1.5), (1.5, 4.5), (3.5, 4.5), (3.5, 1.5)]])[0]
    array([[2, 2, 4, 5]], dtype=int32)
    """
    if rule not in ("even-odd", "union"):
        raise LabelError("there is no such rule for polygons", where=where, found=rule, expected="even-odd, union")
    rings: list[np.ndarray] = []
    ring_ends = [0]
    for i, polygon in enumerate(polygons):
        rings.extend(_rings(polygon, f"{where}[{i}]"))
        ring_ends.append(len(rings))
    points = np.concatenate([np.zeros((0, 2)), *rings])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(ring) for ring in rings], dtype=np.int64)])
    of_object = np.array(ring_ends, np.int64)
    windows, crossed = _windows_of_rings(points, ends, of_object, shape[0], shape[1])
    check_room(max(window_areas(windows).sum(), crossed), len(points), where)
    offsets = byte_offsets(windows)
    bits = np.zeros(int(offsets[-1]), np.uint8)
    _fill(points, ends, of_object, rule == "union", windows, bits, offsets)
    return recut_masks(windows, bits, offsets, tight_windows(windows, bits, offsets))


def _rings(polygon: Any, where: str) -> list[np.ndarray]:
    """One object's rings, made sure of."""
    try:
        single = len(polygon) > 0 and np.ndim(polygon[0]) == 1
        rings = [np.asarray(ring, np.float64) for ring in ([polygon] if single else polygon)]
    except (TypeError, ValueError, OverflowError) as error:
        raise LabelError(
            "a polygon is not made of points", where=where, found=type(polygon).__name__, expected="(V, 2), y and x"
        ) from error
    for number, ring in enumerate(rings):
        place = where if single else f"{where}[{number}]"
        if ring.ndim != 2 or ring.shape[1:] != (2,):
            raise LabelError(
                "a polygon is not made of points", where=place, found=f"shape {ring.shape}", expected="(V, 2), y and x"
            )
        if len(ring) < 3:
            raise LabelError("a polygon has too few points", where=place, found=len(ring), expected="3 or more")
        if not np.isfinite(ring).all():
            raise LabelError("a polygon has points that are nowhere", where=place, found="numbers that are not finite")
    return rings


@njit(cache=True, nogil=True)
def _label_pieces(mask: Any) -> np.ndarray:
    """Number the pieces that share edges, in the order of their first pixels; pixels of the background are 0."""
    height, width = mask.shape
    pieces = np.zeros((height, width), np.int32)
    parents = np.zeros((height * width + 3) // 2 + 1, np.int32)
    n = 0
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            left = pieces[y, x - 1] if x > 0 else np.int32(0)
            above = pieces[y - 1, x] if y > 0 else np.int32(0)
            if left == 0 and above == 0:
                n += 1
                parents[n] = n
                pieces[y, x] = n
                continue
            pieces[y, x] = left if left != 0 else above
            if left != 0 and above != 0 and left != above:
                while parents[left] != left:
                    left = parents[left]
                while parents[above] != above:
                    above = parents[above]
                parents[max(left, above)] = min(left, above)
    for piece in range(1, n + 1):
        parents[piece] = parents[parents[piece]]
    for y in range(height):
        for x in range(width):
            pieces[y, x] = parents[pieces[y, x]]
    return pieces


@njit(cache=True, nogil=True)
def _trace_one(mask: Any, pieces: Any, points: Any, rings: Any, ring_pieces: Any) -> tuple[int, int]:
    """Trace one crop; return the numbers of points and of rings, in the corners of pixels.

    Each edge has the object on its right. Where two pixels meet in a corner only, the path turns to the pixel that it
    comes from; when it comes to a corner for the second time, the loop in between is a ring of its own.
    """
    height, width = mask.shape
    traced = np.zeros((height, width), np.bool_)
    # At which place on the path (from 1) a corner is; only corners that can be met twice are noted.
    noted = np.zeros((height + 1, width + 1), np.int32)
    path = np.empty((points.shape[0] + 1, 2), np.int32)
    n, n_rings = 0, 0
    for start_y in range(height):
        for start_x in range(width):
            above = start_y > 0 and mask[start_y - 1, start_x]
            if not mask[start_y, start_x] or above or traced[start_y, start_x]:
                continue
            y, x, way = np.int64(start_y), np.int64(start_x), 0
            path[0, 0], path[0, 1], length = y, x, 1
            noted[y, x] = 1
            while True:
                if way == 0:
                    traced[y, x] = True
                y, x = y + _STEP_Y[way], x + _STEP_X[way]
                right_y, right_x = y + _RIGHT_Y[way], x + _RIGHT_X[way]
                left_y, left_x = y + _RIGHT_Y[way - 1], x + _RIGHT_X[way - 1]
                right = 0 <= right_y < height and 0 <= right_x < width and mask[right_y, right_x]
                left = 0 <= left_y < height and 0 <= left_x < width and mask[left_y, left_x]
                if right and not left:
                    continue
                before, way = way, (way + 1) & 3 if not right else (way + 3) & 3
                closed = y == start_y and x == start_x and way == 0
                place = noted[y, x]
                if closed or place > 0:
                    # Of the loop, the corner itself stays on the path.
                    first = 0 if closed else place - 1
                    for k in range(first, length):
                        points[n, 0], points[n, 1] = path[k, 0], path[k, 1]
                        n += 1
                        if k > first:
                            noted[path[k, 0], path[k, 1]] = 0
                    rings[n_rings + 1] = n
                    back = (before + 2) & 3
                    # The last edge of the loop ended here: the pixel on its right tells the piece.
                    piece_y, piece_x = y + _RIGHT_Y[back - 1], x + _RIGHT_X[back - 1]
                    ring_pieces[n_rings] = pieces[piece_y, piece_x]
                    n_rings += 1
                    length = first + 1
                    if closed:
                        noted[y, x] = 0
                        break
                    continue
                path[length, 0], path[length, 1] = y, x
                length += 1
                if not right and left:
                    noted[y, x] = length
    return n, n_rings


@njit(cache=True, nogil=True)
def _trace(windows: Any, bits: Any, offsets: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    count = len(windows)
    points, n = np.empty((64 * count + 64, 2), np.int32), 0
    rings, n_rings = np.zeros(4 * count + 64, np.int64), 0
    pieces, owners = np.empty(4 * count + 64, np.int32), np.empty(4 * count + 64, np.int64)
    is_hole = np.empty(4 * count + 64, np.bool_)
    for i in range(count):
        y0, x0 = np.int64(windows[i, 0]), np.int64(windows[i, 1])
        height, width = np.int64(windows[i, 2]) - y0, np.int64(windows[i, 3]) - x0
        mask = np.zeros((height, width), np.bool_)
        edges, p = 0, 8 * offsets[i]
        for y in range(height):
            for x in range(width):
                mask[y, x] = bits[p >> 3] & (0x80 >> (p & 7)) != 0
                p += 1
                if mask[y, x] != (y > 0 and mask[y - 1, x]):
                    edges += 1
                if mask[y, x] != (x > 0 and mask[y, x - 1]):
                    edges += 1
                if mask[y, x] and y == height - 1:
                    edges += 1
                if mask[y, x] and x == width - 1:
                    edges += 1
        own_points, own_rings = np.empty((edges, 2), np.int32), np.zeros(edges // 4 + 1, np.int64)
        own_pieces = np.empty(edges // 4, np.int32)
        own_n, own_n_rings = _trace_one(mask, _label_pieces(mask), own_points, own_rings, own_pieces)
        if n + own_n > len(points):
            more = np.empty((2 * (n + own_n), 2), np.int32)
            for k in range(n):
                more[k, 0], more[k, 1] = points[k, 0], points[k, 1]
            points = more
        if n_rings + own_n_rings + 1 > len(rings):
            room = 2 * (n_rings + own_n_rings + 1)
            more_rings, more_pieces = np.zeros(room, np.int64), np.empty(room, np.int32)
            more_owners, more_hole = np.empty(room, np.int64), np.empty(room, np.bool_)
            for k in range(n_rings):
                more_rings[k + 1], more_pieces[k] = rings[k + 1], pieces[k]
                more_owners[k], more_hole[k] = owners[k], is_hole[k]
            rings, pieces, owners, is_hole = more_rings, more_pieces, more_owners, more_hole
        for ring in range(own_n_rings):
            begin, end = own_rings[ring], own_rings[ring + 1]
            twice_area, k = np.int64(0), end - 1
            for following in range(begin, end):
                twice_area += np.int64(own_points[k, 1]) * own_points[following, 0]
                twice_area -= np.int64(own_points[following, 1]) * own_points[k, 0]
                k = following
            rings[n_rings + ring + 1], pieces[n_rings + ring] = n + end, own_pieces[ring]
            owners[n_rings + ring], is_hole[n_rings + ring] = i, twice_area < 0
        for k in range(own_n):
            points[n + k, 0], points[n + k, 1] = own_points[k, 0] + y0, own_points[k, 1] + x0
        n, n_rings = n + own_n, n_rings + own_n_rings
    return points[:n], rings[: n_rings + 1], pieces[:n_rings], owners[:n_rings], is_hole[:n_rings]


@njit(cache=True, nogil=True)
def _windows_of_rings(points: Any, ends: Any, of_object: Any, height: int, width: int) -> tuple[np.ndarray, float]:
    """The windows, and how many rows all sides of the polygons cross together."""
    windows, crossed = np.zeros((of_object.size - 1, 4), np.int32), 0.0
    for i in range(of_object.size - 1):
        begin, end = ends[of_object[i]], ends[of_object[i + 1]]
        if begin == end:
            continue
        low_y, high_y = points[begin:end, 0].min(), points[begin:end, 0].max()
        low_x, high_x = points[begin:end, 1].min(), points[begin:end, 1].max()
        y0, y1 = min(max(np.ceil(low_y), 0), height), min(max(np.ceil(high_y), 0), height)
        x0, x1 = min(max(np.ceil(low_x), 0), width), min(max(np.ceil(high_x), 0), width)
        windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3] = y0, x0, y1, x1
        for ring in range(of_object[i], of_object[i + 1]):
            before = min(max(points[ends[ring + 1] - 1, 0], 0.0), float(height))
            for k in range(ends[ring], ends[ring + 1]):
                here = min(max(points[k, 0], 0.0), float(height))
                crossed += abs(here - before)
                before = here
    return windows, crossed


@njit(cache=True, nogil=True)
def _fill(points: Any, ends: Any, of_object: Any, union: bool, windows: Any, bits: Any, offsets: Any) -> None:
    """Note where each row crosses an outline, and change sides there."""
    for i in range(of_object.size - 1):
        y0, x0 = np.int64(windows[i, 0]), np.int64(windows[i, 1])
        y1, x1 = np.int64(windows[i, 2]), np.int64(windows[i, 3])
        if y0 == y1 or x0 == x1:
            continue
        crossed = np.zeros((y1 - y0, x1 - x0), np.bool_)
        for ring in range(of_object[i], of_object[i + 1]):
            k = ends[ring + 1] - 1
            for following in range(ends[ring], ends[ring + 1]):
                _cross(points, k, following, y0, x0, y1, x1, crossed)
                k = following
            if union or ring == of_object[i + 1] - 1:
                p = 8 * offsets[i]
                for y in range(y1 - y0):
                    inside = False
                    for x in range(x1 - x0):
                        inside ^= crossed[y, x]
                        crossed[y, x] = False
                        if inside:
                            bits[p >> 3] |= 0x80 >> (p & 7)
                        p += 1


@njit(cache=True, nogil=True)
def _cross(points: Any, a: Any, b: Any, y0: Any, x0: Any, y1: Any, x1: Any, crossed: Any) -> None:
    # Always from the upper end, so that a side that two polygons share is crossed at the same place in both.
    if points[a, 0] > points[b, 0]:
        a, b = b, a
    top, bottom = points[a, 0], points[b, 0]
    first = np.int64(min(max(np.ceil(top), y0), y1))
    last = np.int64(min(max(np.ceil(bottom), y0), y1))
    for y in range(first, last):
        along = points[a, 1] + (y - top) * ((points[b, 1] - points[a, 1]) / (bottom - top))
        x = np.int64(min(max(np.ceil(along), x0), x1))
        if x < x1:
            crossed[y - y0, x - x0] ^= True
