"""Which of many overlapping shapes survive, by boxes or by masks; hard suppression is also told from a part of them.

Overlaps are computed as they are asked for: only those that survive so far are compared with what lies around them. So
time and memory stay small where hundreds of proposals claim one object, and all their pairs would be too many.
"""

from __future__ import annotations

import heapq
import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from cytomask.geometry.fate import DROPPED, KEPT, OPEN
from cytomask.geometry.overlap import BITS_SET, shared_pixels

#: Side of the smallest cells of the search grid, in pixels.
_CELL = 8.0
#: Shapes farther out than this many pixels are sought as if they lay here.
_FARTHEST = float(1 << 29)


class Shapes(NamedTuple):
    """What competes: boxes, or bit-packed masks. Made by :func:`box_shapes` and :func:`mask_shapes`.

    Attributes
    ----------
    boxes
        float64 ``(N, 4)``, ``(y0, x0, y1, x1)`` in pixels; of masks, their windows.
    areas
        float64 ``(N,)``.
    kinds
        int64 ``(N,)``: only shapes of the same kind compete.
    windows, bits, offsets
        The masks, as of :class:`~cytomask.instances.Instances`; empty for boxes.
    """

    boxes: np.ndarray
    areas: np.ndarray
    kinds: np.ndarray
    windows: np.ndarray
    bits: np.ndarray
    offsets: np.ndarray


def box_shapes(boxes: npt.ArrayLike, kinds: npt.ArrayLike | None = None) -> Shapes:
    """Let boxes compete.

    Parameters
    ----------
    boxes
        ``(N, 4)``, ``(y0, x0, y1, x1)`` in pixels.
    kinds
        Integers ``(N,)``: only boxes of the same kind compete. None: all do.

    Raises
    ------
    ValueError
        If the arrays do not fit together, or a coordinate is not finite.

    Examples
    --------
    >>> shapes = box_shapes([[0, 0, 10, 10], [0, 0, 10, 8]])
    >>> settle_shapes(shapes, np.array([0.8, 0.9]), 0.5)
    array([2, 1], dtype=uint8)
    """
    array = np.array(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(array).all():
        raise ValueError(f"boxes: {np.count_nonzero(~np.isfinite(array))} of {array.size} coordinates are not finite")
    areas = (array[:, 2] - array[:, 0]) * (array[:, 3] - array[:, 1])
    none = np.zeros((0, 4), np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int64)
    return Shapes(array, areas, _kinds(kinds, len(array)), *none)


def mask_shapes(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, areas: np.ndarray, kinds: npt.ArrayLike | None = None
) -> Shapes:
    """Let masks compete.

    Parameters
    ----------
    windows, bits, offsets
        As of :class:`~cytomask.instances.Instances`; windows may lie anywhere.
    areas
        Integers ``(N,)``: pixels of each mask.
    kinds
        As for :func:`box_shapes`.

    Raises
    ------
    ValueError
        If the arrays do not fit together.
    """
    whole = np.ascontiguousarray(windows, np.int64).reshape(-1, 4)
    packed = np.ascontiguousarray(bits, np.uint8), np.ascontiguousarray(offsets, np.int64)
    return Shapes(whole.astype(np.float64), np.asarray(areas, np.float64), _kinds(kinds, len(whole)), whole, *packed)


def settle_shapes(
    shapes: Shapes,
    scores: npt.NDArray[np.floating],
    threshold: float,
    fates: npt.NDArray[np.uint8] | None = None,
    foreign: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """Hard suppression: of two shapes whose IoU is above the threshold, the better stays.

    What is said of a part of the shapes is certain, whatever those look like that are not given: a shape goes when a
    better one that is surely kept conflicts with it; it stays open when it is foreign, or when a better one that is
    open conflicts with it; otherwise it is kept.

    Parameters
    ----------
    shapes, scores
        ``N`` shapes and their scores, in the order that they have among all. Of equal scores, the first is better.
    threshold
        The largest IoU that is tolerated, 0 to 1.
    fates
        uint8 ``(N,)``: what is known before, ``KEPT`` or ``OPEN`` of :mod:`cytomask.geometry.fate`. None: nothing.
    foreign
        bool ``(N,)``: true where shapes that are not given may conflict, too. None: nowhere.

    Returns
    -------
    numpy.ndarray
        uint8 ``(N,)``: ``OPEN``, ``KEPT`` or ``DROPPED``. A shape without area overlaps nothing and is kept.

    Raises
    ------
    ValueError
        If the arrays do not fit together, or a score is not finite.
    """
    values, count = _scores(scores, shapes), len(shapes.boxes)
    known = np.zeros(count, np.uint8) if fates is None else np.array(fates, np.uint8)
    away = np.zeros(count, np.bool_) if foreign is None else np.array(foreign, np.bool_)
    if not len(known) == len(away) == count:
        raise ValueError(f"{count} shapes, but {len(known)} fates and {len(away)} marks of foreign ones")
    if count == 0:
        return known
    order = np.argsort(-values, kind="stable")
    return np.asarray(_settle(order, *shapes, _search(shapes.boxes), float(threshold), known, away, BITS_SET))


def soften_shapes(
    shapes: Shapes,
    scores: npt.NDArray[np.floating],
    decay: Literal["linear", "gaussian"],
    *,
    threshold: float = 0.3,
    sigma: float = 0.5,
    prune: float = 0.001,
) -> npt.NDArray[np.float64]:
    """Soft-NMS: take shapes by falling score, and lower the scores of those left that overlap the one just taken.

    Parameters
    ----------
    shapes, scores
        ``N`` shapes and their scores. Of equal scores, the first is better.
    decay
        What a score is multiplied with: ``"linear"``: 1 - IoU where that is above the threshold; ``"gaussian"``:
        exp(-IoU² / sigma).
    threshold, sigma
        Of the decay.
    prune
        Shapes whose score falls to this or lower are dropped.

    Returns
    -------
    numpy.ndarray
        float64 ``(N,)``: the new scores; -inf where a shape is dropped.

    Raises
    ------
    ValueError
        If the arrays do not fit together, a score is not finite, there is no such decay, or sigma is not above 0.

    Examples
    --------
    >>> shapes = box_shapes([[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
    >>> soften_shapes(shapes, np.array([0.9, 0.8, 0.7]), "linear")
    array([0.9, 0.4, 0.7])
    """
    if decay not in ("linear", "gaussian"):
        raise ValueError(f"decay is linear or gaussian, not {decay}")
    if not sigma > 0:
        raise ValueError(f"sigma is a number above 0, not {sigma}")
    values = _scores(scores, shapes)
    if len(values) == 0:
        return np.zeros(0)
    how = decay == "gaussian", float(threshold), float(sigma), float(prune)
    return np.asarray(_soften(values, *shapes, _search(shapes.boxes), *how, BITS_SET))


def _kinds(kinds: npt.ArrayLike | None, count: int) -> np.ndarray:
    found = np.zeros(count, np.int64) if kinds is None else np.array(kinds, np.int64).reshape(-1)
    if len(found) != count:
        raise ValueError(f"{count} shapes need as many kinds, not {len(found)}")
    return found


def _scores(scores: npt.NDArray[np.floating], shapes: Shapes) -> np.ndarray:
    values = np.array(scores, np.float64).reshape(-1)
    if len(values) != len(shapes.boxes):
        raise ValueError(f"{len(shapes.boxes)} shapes need as many scores, not {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError(f"scores: {np.count_nonzero(~np.isfinite(values))} of {len(values)} are not finite")
    return values


class _Search(NamedTuple):
    """Boxes by the cell of their first corner, in a grid for each power of two of their size.

    Whatever overlaps a box begins in it or less than a cell before it, so few cells are looked at on each level; large
    boxes do not widen the search for small ones.
    """

    #: int64 ``(N,)``, rising: level, row and column of a cell as one number; which box it is of.
    keys: np.ndarray
    order: np.ndarray
    #: int64 and float64: the levels that occur, and the sides of their cells.
    levels: np.ndarray
    sides: np.ndarray
    #: float64 ``(2,)``: where cells begin; how many rows and columns of cells there are.
    low: np.ndarray
    rows: int
    columns: int


def _search(boxes: np.ndarray) -> _Search:
    boxes = np.clip(boxes, -_FARTHEST, _FARTHEST)
    low = boxes[:, :2].min(axis=0)
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    # A little larger than needed, so that rounding errors miss none.
    level = np.ceil(np.log2(np.maximum(longest * (1 + 1e-9) / _CELL, 1))).astype(np.int64)
    side = _CELL * 2.0**level
    row, column = (((boxes[:, axis] - low[axis]) // side).astype(np.int64) for axis in range(2))
    rows, columns = int(row.max()) + 1, int(column.max()) + 1
    keys = (level * rows + row) * columns + column
    order = np.argsort(keys, kind="stable")
    levels = np.unique(level)
    return _Search(keys[order], order, levels, _CELL * 2.0**levels, low, rows, columns)


@njit(cache=True, nogil=True)
def _near(box: np.ndarray, search: _Search, found: np.ndarray) -> int:
    """List the boxes that may overlap one in ``found``; returns how many."""
    count = 0
    y0, x0 = max(box[0], -_FARTHEST) - search.low[0], max(box[1], -_FARTHEST) - search.low[1]
    y1, x1 = min(box[2], _FARTHEST) - search.low[0], min(box[3], _FARTHEST) - search.low[1]
    for n in range(len(search.levels)):
        side, first = search.sides[n], search.levels[n] * search.rows
        top, left = max(math.floor(y0 / side) - 1, 0), max(math.floor(x0 / side) - 1, 0)
        bottom = min(math.floor(y1 / side), search.rows - 1)
        right = min(math.floor(x1 / side), search.columns - 1)
        for row in range(top, bottom + 1):
            key = (first + row) * search.columns
            for place in range(np.searchsorted(search.keys, key + left), len(search.keys)):
                if search.keys[place] > key + right:
                    break
                found[count] = search.order[place]
                count += 1
    return count


@njit(cache=True, nogil=True)
def _iou(
    a: int, b: int, boxes: np.ndarray, areas: np.ndarray, windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray,
    least: float, bits_set: np.ndarray,
) -> float:  # fmt: skip
    """Intersection over union of two shapes; 0 where it cannot be above ``least``."""
    height = min(boxes[a, 2], boxes[b, 2]) - max(boxes[a, 0], boxes[b, 0])
    width = min(boxes[a, 3], boxes[b, 3]) - max(boxes[a, 1], boxes[b, 1])
    if height <= 0 or width <= 0:
        return 0.0
    shared = height * width
    if len(offsets) > 0:
        most = min(shared, min(areas[a], areas[b]))
        if most <= 0 or most / (areas[a] + areas[b] - most) <= least:
            return 0.0
        shared = float(shared_pixels(windows[a], bits, offsets[a], windows[b], bits, offsets[b], bits_set))
    return shared / (areas[a] + areas[b] - shared)


@njit(cache=True, nogil=True)
def _settle(
    order: np.ndarray, boxes: np.ndarray, areas: np.ndarray, kinds: np.ndarray, windows: np.ndarray, bits: np.ndarray,
    offsets: np.ndarray, search: _Search, threshold: float, known: np.ndarray, foreign: np.ndarray,
    bits_set: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Each that stays, kept or open, tells the worse ones around it what that means for them."""
    count = len(order)
    fates, doubtful = known.copy(), foreign.copy()
    done = known == KEPT
    near = np.empty(count, np.int64)
    passed = np.zeros(count, np.bool_)
    for k in order:
        passed[k] = True
        if fates[k] == DROPPED:
            continue
        if known[k] != KEPT:
            fates[k] = OPEN if doubtful[k] else KEPT
        for n in range(_near(boxes[k], search, near)):
            other = near[n]
            if passed[other] or done[other] or fates[other] == DROPPED or kinds[other] != kinds[k]:
                continue
            if fates[k] == OPEN and doubtful[other]:
                continue
            if _iou(k, other, boxes, areas, windows, bits, offsets, threshold, bits_set) > threshold:
                if fates[k] == KEPT:
                    fates[other] = DROPPED
                else:
                    doubtful[other] = True
    return fates


@njit(cache=True, nogil=True)
def _soften(
    scores: np.ndarray, boxes: np.ndarray, areas: np.ndarray, kinds: np.ndarray, windows: np.ndarray, bits: np.ndarray,
    offsets: np.ndarray, search: _Search, gaussian: bool, threshold: float, sigma: float, prune: float,
    bits_set: np.ndarray,
) -> np.ndarray:  # fmt: skip
    current = scores.copy()
    taken = np.zeros(len(scores), np.bool_)
    near = np.empty(len(scores), np.int64)
    least = 0.0 if gaussian else threshold
    # Scores only fall: an entry that is out of date is put back with its present score when it comes up.
    queue = [(-current[k], k) for k in range(len(current))]
    heapq.heapify(queue)
    while len(queue) > 0:
        negative, k = heapq.heappop(queue)
        if taken[k]:
            continue
        if current[k] <= prune:
            taken[k] = True
            current[k] = -np.inf
            continue
        if -negative != current[k]:
            heapq.heappush(queue, (-current[k], k))
            continue
        taken[k] = True
        for n in range(_near(boxes[k], search, near)):
            other = near[n]
            if taken[other] or kinds[other] != kinds[k]:
                continue
            iou = _iou(k, other, boxes, areas, windows, bits, offsets, least, bits_set)
            if iou <= least:
                continue
            current[other] *= math.exp(-(iou**2) / sigma) if gaussian else 1 - iou
            # What is equal is dropped even where nothing is pruned.
            if current[other] <= prune or (not gaussian and iou >= 1):
                taken[other] = True
                current[other] = -np.inf
    return current
