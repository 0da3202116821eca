"""COCO's polygons as masks, pixel for pixel as ``pycocotools`` fills them.

COCO counts from the corner of the first pixel, ``(x, y)``, where this package counts from its centre, ``(y, x)``; and
it fills by a rule of its own: the outline is drawn on a grid five times as fine, and in each column of pixels the
object lies between the places where the outline passes the column's middle. Whoever reads a COCO file gets these
masks, so that areas and scores agree with everybody else's to the last pixel.

Masks are bit-packed, as told in :mod:`cytomask.geometry.bit_masks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba import njit

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_room, window_areas
from cytomask.geometry.bit_mask_windows import recut_masks, tight_windows
from cytomask.geometry.bit_masks import Packed, byte_offsets, take_masks
from cytomask.geometry.rle import decode_masks

#: How much finer the grid is that COCO draws outlines on.
_FINE = 5.0
#: Points beyond this are surely a mistake, and would take for ever to walk to.
_FARTHEST = 1e6


def fill_coco_polygons(
    shape: tuple[int, int], polygons: Sequence[Sequence[Sequence[float]]], where: str = "polygons"
) -> Packed:
    """Make masks of COCO's polygons.

    Parameters
    ----------
    shape
        Height and width of the image; what lies outside is cut off.
    polygons
        For each object its pieces, which add up; each piece is a flat list ``[x, y, x, y, ...]`` in pixels from the
        image's upper left corner.
    where
        Named in errors.

    Returns
    -------
    tuple
        The masks in their smallest windows; without pixels where a polygon covers none.

    Raises
    ------
    LabelError
        If a piece has fewer than three points, an odd number of coordinates, or ones that are no finite numbers or
        more than a million pixels away, or the polygons take far more room or time than so many points can mean.

    Examples
    --------
    >>> fill_coco_polygons((9, 9), [[[2, 1, 6, 1, 6, 4, 2, 4]]])[0]
    array([[1, 2, 4, 6]], dtype=int32)
    """
    pieces: list[np.ndarray] = []
    piece_ends = [0]
    for i, polygon in enumerate(polygons):
        if not isinstance(polygon, Sequence) or isinstance(polygon, str):
            raise LabelError(
                "a polygon is not a list of pieces", where=f"{where}[{i}]", found=type(polygon).__name__,
                expected="[[x, y, x, y, ...], ...]",
            )  # fmt: skip
        pieces.extend(_piece(piece, f"{where}[{i}][{k}]") for k, piece in enumerate(polygon))
        piece_ends.append(len(pieces))
    points = np.concatenate([np.zeros((0, 2)), *pieces])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(piece) for piece in pieces], dtype=np.int64)])
    of_object = np.array(piece_ends, np.int64)
    of_pieces = _windows(points, ends, np.arange(len(ends)), shape)
    windows = _windows(points, ends, of_object, shape)
    areas = window_areas(windows).sum(), window_areas(of_pieces).sum()
    check_room(max(*areas, _steps(points, ends)), len(points), where)
    offsets = byte_offsets(windows)
    bits = np.zeros(int(offsets[-1]), np.uint8)
    _fill(points, ends, of_object, shape[0], shape[1], of_pieces, windows, bits, offsets)
    return recut_masks(windows, bits, offsets, tight_windows(windows, bits, offsets))


def read_segmentations(shape: tuple[int, int], segmentations: Sequence[Any], where: str = "segmentations") -> Packed:
    """Make masks of run-length codes (dictionaries) and polygons (lists), mixed as they come in COCO's annotations.

    Raises
    ------
    LabelError
        As :func:`fill_coco_polygons` and :func:`cytomask.geometry.rle.decode_masks`.

    Examples
    --------
    >>> code, square = {"size": [2, 3], "counts": [2, 1, 1, 2]}, [[0, 0, 2, 0, 2, 2, 0, 2]]
    >>> read_segmentations((2, 3), [code, square])[0].tolist()
    [[0, 1, 2, 3], [0, 0, 2, 2]]
    """
    # Each reader gets one entry per object, so that errors name the right one; the other's entries are blank.
    blank = {"size": list(shape), "counts": [shape[0] * shape[1]]}
    is_code = np.array([isinstance(one, Mapping) for one in segmentations], bool)
    codes = decode_masks([one if code else blank for one, code in zip(segmentations, is_code)], shape, where)
    polygons = fill_coco_polygons(shape, [[] if code else one for one, code in zip(segmentations, is_code)], where)
    windows = np.where(is_code[:, None], codes[0], polygons[0])
    order = np.arange(len(is_code)) + np.where(is_code, 0, len(is_code))
    offsets = np.concatenate([codes[2], codes[2][-1] + polygons[2][1:]])
    bits, offsets = take_masks(np.concatenate([codes[1], polygons[1]]), offsets, order)
    return windows, bits, offsets


def _piece(piece: Any, where: str) -> np.ndarray:
    """The points ``(x, y)`` of one piece, made sure of."""
    expected = "[x, y, x, y, ...] of at least three points"
    try:
        flat = np.asarray(piece, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise LabelError("a polygon is not made of numbers", where=where, expected=expected) from error
    if flat.ndim != 1 or flat.size < 6 or flat.size % 2:
        raise LabelError(
            "a polygon is not a list of points", where=where,
            found=f"{flat.size} coordinates" if flat.ndim == 1 else f"shape {flat.shape}", expected=expected,
        )  # fmt: skip
    far = ~(np.abs(flat) <= _FARTHEST)
    if far.any():
        raise LabelError(
            "a polygon has points that are nowhere", where=where, found=flat[far][0],
            expected=f"numbers of pixels up to {_FARTHEST:.0f}",
        )  # fmt: skip
    return flat.reshape(-1, 2)


def _windows(points: np.ndarray, ends: np.ndarray, of_object: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    windows = np.zeros((len(of_object) - 1, 4), np.int32)
    first, last = ends[of_object[:-1]], ends[of_object[1:]]
    full = np.flatnonzero(first < last)
    if len(full):
        # One pixel more on each side than rounding to the fine grid can reach.
        limits = np.array([shape[1], shape[0]])
        low = np.clip(np.floor(np.minimum.reduceat(points, first[full])) - 1, 0, limits)
        high = np.clip(np.ceil(np.maximum.reduceat(points, first[full])) + 1, 0, limits)
        windows[full] = np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
    return windows


@njit(cache=True, nogil=True)
def _steps(points: Any, ends: Any) -> float:
    """How many steps the walk along all outlines takes on the fine grid."""
    steps = 0.0
    for piece in range(ends.size - 1):
        before = ends[piece + 1] - 1
        for k in range(ends[piece], ends[piece + 1]):
            steps += _FINE * max(abs(points[k, 0] - points[before, 0]), abs(points[k, 1] - points[before, 1]))
            before = k
    return steps


@njit(cache=True, nogil=True)
def _fill(
    points: Any, ends: Any, of_object: Any, height: int, width: int, of_pieces: Any, windows: Any, bits: Any,
    offsets: Any,
) -> None:  # fmt: skip
    for i in range(of_object.size - 1):
        y0, x0 = np.int64(windows[i, 0]), np.int64(windows[i, 1])
        y1, x1 = np.int64(windows[i, 2]), np.int64(windows[i, 3])
        if y0 == y1 or x0 == x1:
            continue
        crossed = np.zeros((y1 - y0, x1 - x0), np.bool_)
        for piece in range(of_object[i], of_object[i + 1]):
            _walk(points, ends[piece], ends[piece + 1], height, width, y0, x0, crossed)
            top, bottom = of_pieces[piece, 0] - y0, of_pieces[piece, 2] - y0
            for x in range(of_pieces[piece, 1] - x0, of_pieces[piece, 3] - x0):
                inside = False
                p = 8 * offsets[i] + top * (x1 - x0) + x
                for y in range(top, bottom):
                    inside ^= crossed[y, x]
                    crossed[y, x] = False
                    if inside:
                        bits[p >> 3] |= 0x80 >> (p & 7)
                    p += x1 - x0


@njit(cache=True, nogil=True)
def _walk(points: Any, begin: int, end: int, height: int, width: int, y0: Any, x0: Any, crossed: Any) -> None:
    """Walk along the outline on the fine grid, and note in each column where it passes the middle of the pixels."""
    before_x, before_y, started = np.int64(0), np.int64(0), False
    for k in range(begin, end):
        following = k + 1 if k + 1 < end else begin
        ax, ay = np.int64(_FINE * points[k, 0] + 0.5), np.int64(_FINE * points[k, 1] + 0.5)
        bx, by = np.int64(_FINE * points[following, 0] + 0.5), np.int64(_FINE * points[following, 1] + 0.5)
        wide, high = abs(bx - ax), abs(by - ay)
        steps = max(wide, high)
        # Lines are reckoned from their left or upper end, whichever way they are walked.
        turned = (wide >= high and ax > bx) or (wide < high and ay > by)
        if turned:
            ax, ay, bx, by = bx, by, ax, ay
        slope = 0.0
        if steps > 0:
            slope = (by - ay) / wide if wide >= high else (bx - ax) / high
        for step in range(steps + 1):
            t = steps - step if turned else step
            if wide >= high:
                x, y = ax + t, np.int64(ay + slope * t + 0.5)
            else:
                x, y = np.int64(ax + slope * t + 0.5), ay + t
            if started and x != before_x:
                column = ((x if x < before_x else x - 1) + 0.5) / _FINE - 0.5
                if column == np.floor(column) and 0 <= column <= width - 1:
                    row = np.ceil(min(max((min(y, before_y) + 0.5) / _FINE - 0.5, 0.0), np.float64(height)))
                    at_y, at_x = np.int64(row) - y0, np.int64(column) - x0
                    if 0 <= at_x < crossed.shape[1] and at_y < crossed.shape[0]:
                        crossed[max(at_y, 0), at_x] ^= True
            before_x, before_y, started = x, y, True
