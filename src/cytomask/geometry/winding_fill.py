"""Fill rings by how often they wind round each pixel's centre, as drawing programs do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cytomask.geometry.bit_mask_checks import check_room

#: So many crossings of outlines with rows are worked on at once.
_AT_ONCE = 2**20
#: So many pixels of the mask, in whole rows.
_BAND = 2**22


def fill_rings(
    shape: tuple[int, int], rings: Sequence[np.ndarray], rule: Literal["nonzero", "even-odd"]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Make one mask of the pixels whose centres lie in rings; what lies outside the image is cut off.

    A centre on an outline belongs to what is on its right or below it, as
    :func:`cytomask.geometry.outline.fill_outlines` has it.

    Parameters
    ----------
    shape
        Height and width of the image.
    rings
        Rings ``(V, 2)`` of finite points ``(y, x)`` in pixels, centres at whole numbers; closed by themselves.
    rule
        ``"nonzero"``: inside is what the rings wind round, so that loops count as inside, and a ring in a ring is a
        hole if it runs the other way. ``"even-odd"``: inside is what an odd number of outlines separates from outside.

    Returns
    -------
    tuple
        The mask as a boolean crop, and the pixel ``(y, x)`` of its first pixel.

    Raises
    ------
    LabelError
        If the rings take far more room or time than so many points can mean.

    Examples
    --------
    >>> square = np.array([(0, 0), (0, 4), (4, 4), (4, 0)], float)
    >>> inner = square / 2 + 1
    >>> [int(fill_rings((9, 9), [square, inner], rule)[0].sum()) for rule in ("nonzero", "even-odd")]
    [16, 12]
    """
    edges = [np.concatenate([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in rings if len(ring) > 2]
    nothing = np.zeros((0, 0), bool), (0, 0)
    if not edges:
        return nothing
    sides = np.concatenate(edges).astype(np.float64)
    y0, x0, y1, x1 = sides.T
    # Rows whose centres lie in [y0, y1), and columns that the window needs.
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, shape[0]).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1)), 0, shape[0]).astype(np.int64)
    top, bottom = int(first.min()), int(last.max())
    left, right = (int(np.clip(np.ceil(x), 0, shape[1])) for x in (np.minimum(x0, x1).min(), np.maximum(x0, x1).max()))
    if top >= bottom or left >= right:
        return nothing
    check_room(max((bottom - top) * (right - left), (last - first).sum()), len(sides), "rings")
    mask = np.empty((bottom - top, right - left), bool)
    step = max(1, _BAND // (right - left))
    for begin in range(top, bottom, step):
        end = min(begin + step, bottom)
        winding = _winding(sides, np.clip(first, begin, end), np.clip(last, begin, end), (begin, left, end, right))
        mask[begin - top : end - top] = winding != 0 if rule == "nonzero" else winding % 2 != 0
    return mask, (top, left)


def _winding(sides: np.ndarray, first: np.ndarray, last: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """How often sides, each in its rows from ``first`` on and before ``last``, wind round the pixels of a window."""
    top, left, bottom, right = window
    inside = last > first
    (y0, x0, y1, x1), first, last = sides[inside].T, first[inside], last[inside]
    turns = np.zeros((bottom - top, right - left + 1), np.int32)
    counts = last - first
    begin = 0
    ends = np.cumsum(counts)
    while begin < len(counts):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _AT_ONCE, "right")))
        edge = np.repeat(np.arange(begin, end), counts[begin:end])
        row = (
            first[edge]
            + np.arange(len(edge))
            - np.repeat(ends[begin:end] - counts[begin:end] - done, counts[begin:end])
        )
        x = x0[edge] + (row - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
        column = np.clip(np.ceil(x), left, right).astype(np.int64)
        np.add.at(turns, (row - top, column - left), np.where(y1[edge] > y0[edge], 1, -1))
        begin = end
    return np.cumsum(turns[:, :-1], axis=1, dtype=np.int32)
