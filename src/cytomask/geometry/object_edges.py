"""Edges of labelled objects: the boundaries inside of them, and the gaps between them."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from cytomask.geometry.star import label_image


def inner_boundaries(labels: npt.NDArray[np.integer], width: int = 1) -> npt.NDArray[np.bool_]:
    """Where the pixels of objects are that lie near anything else.

    A pixel is of the boundary if the square of ``2 width + 1`` pixels around it (for a width of 1 the pixel and its
    eight neighbours) holds one that is not of the same object. So what is left of two touching objects has no common
    edge nor corner. What lies beyond the image's border is unknown, and makes no boundary.

    Parameters
    ----------
    labels
        Label image ``(Y, X)``, any integer type; 0 is background.
    width
        Of the boundaries, in pixels.

    Returns
    -------
    numpy.ndarray
        bool ``(Y, X)``.

    Examples
    --------
    >>> inner_boundaries(np.array([[0, 1, 1, 1, 2, 2, 2]])).astype(int)
    array([[0, 1, 0, 1, 1, 0, 0]])
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    return _inner_boundaries(label_image(labels), width)


def gap_widths(labels: npt.NDArray[np.integer], reach: float) -> npt.NDArray[np.float32]:
    """How wide the gaps between objects are: at each background pixel the distances to the two nearest objects, added.

    Parameters
    ----------
    labels
        Label image ``(Y, X)``, any integer type; 0 is background.
    reach
        Wider gaps are not measured, in pixels: the smaller, the faster.

    Returns
    -------
    numpy.ndarray
        float32 ``(Y, X)`` in pixels, between the pixels' centres; infinite on objects, where the gap is wider than
        ``reach``, and where there are not two objects.

    Examples
    --------
    >>> gap_widths(np.array([[1, 0, 0, 2, 0, 0, 0]]), reach=6)
    array([[inf,  3.,  3., inf,  5., inf, inf]], dtype=float32)
    """
    return _gap_widths(label_image(labels), float(reach))


@numba.njit(cache=True, nogil=True)
def _inner_boundaries(labels, width):  # type: ignore[no-untyped-def]
    rows, columns = labels.shape
    beside = np.zeros((rows, columns), np.bool_)
    for y in range(rows):
        for x in range(columns):
            label = labels[y, x]
            if label > 0:
                for k in range(max(x - width, 0), min(x + width + 1, columns)):
                    if labels[y, k] != label:
                        beside[y, x] = True
                        break
    out = np.zeros((rows, columns), np.bool_)
    for y in range(rows):
        for x in range(columns):
            label = labels[y, x]
            if label > 0:
                for k in range(max(y - width, 0), min(y + width + 1, rows)):
                    if labels[k, x] != label or beside[k, x]:
                        out[y, x] = True
                        break
    return out


@numba.njit(cache=True, nogil=True)
def _gap_widths(labels, reach):  # type: ignore[no-untyped-def]
    """Of each column first the two nearest objects above or below, then along the rows the best two of all columns.

    A third object of a column cannot be among the nearest two: the others of that column are nearer.
    """
    rows, columns = labels.shape
    out = np.full((rows, columns), np.inf, np.float32)
    far = np.int64(1 << 40)
    first, second = np.zeros((rows, columns), np.int32), np.zeros((rows, columns), np.int32)
    to_first, to_second = np.full((rows, columns), far), np.full((rows, columns), far)
    for downwards in (True, False):
        # The last object that was met in each column and the one before it, and the rows where they were left.
        last, before = np.zeros(columns, np.int32), np.zeros(columns, np.int32)
        last_row, before_row = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
        for k in range(rows):
            y = k if downwards else rows - 1 - k
            for x in range(columns):
                label = labels[y, x]
                if label > 0:
                    if label != last[x]:
                        before[x], before_row[x], last[x] = last[x], last_row[x], label
                    last_row[x] = y
                if last[x] == 0:
                    continue
                a, b, da, db = _entered(
                    first[y, x], second[y, x], to_first[y, x], to_second[y, x], last[x], (y - last_row[x]) ** 2
                )
                if before[x] > 0:
                    a, b, da, db = _entered(a, b, da, db, before[x], (y - before_row[x]) ** 2)
                first[y, x], second[y, x], to_first[y, x], to_second[y, x] = a, b, da, db
    for y in range(rows):
        for x in range(columns):
            if labels[y, x] > 0:
                continue
            a, b, da, db = np.int32(0), np.int32(0), far, far
            nearest = np.inf
            for away in range(columns):
                # The second is at least as far as the columns that are left to look at, and so is an unknown first.
                square = away * away
                if square >= db or min(nearest, away) + away > reach:
                    break
                for side in range(2 if away else 1):
                    column = x - away if side else x + away
                    if column < 0 or column >= columns or to_first[y, column] + square >= db:
                        continue
                    a, b, da, db = _entered(a, b, da, db, first[y, column], to_first[y, column] + square)
                    if to_second[y, column] + square < db:
                        a, b, da, db = _entered(a, b, da, db, second[y, column], to_second[y, column] + square)
                    nearest = np.sqrt(np.float64(da))
            if b > 0:
                gap = np.sqrt(np.float64(da)) + np.sqrt(np.float64(db))
                if gap <= reach:
                    out[y, x] = gap
    return out


@numba.njit(cache=True, nogil=True, inline="always")
def _entered(first, second, to_first, to_second, label, square):  # type: ignore[no-untyped-def]
    """The two nearest of different objects, the nearest first, when one more is looked at."""
    if label == first:
        to_first = min(to_first, square)
    elif square < to_first:
        second, to_second = first, to_first
        first, to_first = label, square
    elif label == second:
        to_second = min(to_second, square)
    elif square < to_second:
        second, to_second = label, square
    return first, second, to_first, to_second
