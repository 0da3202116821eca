"""Pictures shrunk by averaging blocks of pixels, from the coarsest level of a pyramid that is fine enough."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cytomask.lazy_pixels import chunk_shape, coarser_levels

#: Values that are held at a time.
_BAND = 8_000_000
#: Levels of a pyramid are rounded to whole pixels, so a factor of 4 may show as 4.03.
_ROUNDING = 1.02


def shrunk_shape(shape: tuple[int, int], shrink: int) -> tuple[int, int]:
    """Height and width of a picture that has one pixel for each block of ``shrink`` by ``shrink``.

    Examples
    --------
    >>> shrunk_shape((10, 9), 3)
    (4, 3)
    """
    return math.ceil(shape[0] / shrink), math.ceil(shape[1] / shrink)


def shrunk_rows(pixels: Any, shrink: int, first: int, last: int) -> np.ndarray:
    """Compute the rows ``first`` to ``last`` (half-open) of the shrunk picture.

    Parameters
    ----------
    pixels
        ``(C, Y, X)``, in memory or lazy.
    shrink
        Side of the blocks that become one pixel; those at the far edges may be smaller.
    first, last
        Rows of the shrunk picture.

    Returns
    -------
    np.ndarray
        ``(C, last - first, ceil(X / shrink))`` in the dtype of the pixels: the means of the blocks. Where the pixels
        have a pyramid, the coarsest level that is at least as fine as the shrunk picture is averaged instead, whose
        pixels are means of blocks already.

    Examples
    --------
    >>> shrunk_rows(np.array([[[0, 2, 5], [4, 2, 7]]], np.uint8), 2, 0, 1)
    array([[[2, 6]]], dtype=uint8)
    """
    _, height, width = pixels.shape
    source = fitting_level(pixels, shrink)
    rows = _starts(height, source.shape[1], shrink, first, last)
    columns = _starts(width, source.shape[2], shrink, 0, math.ceil(width / shrink))
    out = np.empty((pixels.shape[0], len(rows) - 1, len(columns) - 1), pixels.dtype.newbyteorder("="))
    # Pieces of whole chunks, small enough to be held.
    step = max(chunk_shape(source)[2], _BAND // (int(rows[-1] - rows[0]) * pixels.shape[0]))
    start = 0
    while start < len(columns) - 1:
        end = max(start + 1, int(np.searchsorted(columns, columns[start] + step, "right")) - 1)
        stop = max(int(columns[end]), int(columns[end - 1]) + 1)
        window = np.asarray(source[:, int(rows[0]) : int(rows[-1]), int(columns[start]) : stop])
        out[:, :, start:end] = _means(window, rows[:-1] - rows[0], columns[start:end] - columns[start])
        start = end
    return out


def band_rows(pixels: Any, shrink: int) -> int:
    """Rows of the shrunk picture that are best computed together: whole chunks, and not too much memory."""
    source = fitting_level(pixels, shrink)
    count, height, width = source.shape
    per_row = pixels.shape[1] / height
    whole = max(1, chunk_shape(source)[1])
    wanted = max(whole, _BAND // (count * width) // whole * whole)
    return max(1, math.floor(wanted * per_row / shrink))


def fitting_level(pixels: Any, shrink: int) -> Any:
    """Choose the coarsest of the pixels and their coarser levels that has at least one pixel for each block."""
    for level in reversed(coarser_levels(pixels)):
        if all(pixels.shape[axis] <= level.shape[axis] * shrink * _ROUNDING for axis in (1, 2)):
            return level
    return pixels


def _starts(length: int, level_length: int, shrink: int, first: int, last: int) -> np.ndarray:
    """Where blocks begin in the pixels of a level, and where the last one ends; each has a pixel in it at least."""
    places = np.minimum(np.arange(first, last + 1) * shrink, length)
    starts = np.rint(places * (level_length / length)).astype(np.int64)
    starts[:-1] = np.minimum(starts[:-1], level_length - 1)
    starts[-1] = max(starts[-1], starts[-2] + 1)
    return starts


def _means(window: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Average the blocks that begin at some rows and columns; two that begin at one place are that place."""
    counts = [np.maximum(np.diff(starts, append=size), 1) for starts, size in zip((rows, columns), window.shape[1:])]
    if (len(rows), len(columns)) == window.shape[1:]:
        return window
    out = np.empty((len(window), len(rows), len(columns)), window.dtype)
    for plane, means in zip(window, out):
        total = np.add.reduceat(np.add.reduceat(plane, rows, 0, np.float64), columns, 1)
        means[:] = (total / (counts[0][:, None] * counts[1])).astype(window.dtype)
    return out
