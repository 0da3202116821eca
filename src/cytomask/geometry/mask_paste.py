"""From the small square mask that a network predicts inside a box to the pixels of the image, in packed bits.

The mask's cells divide the box evenly. A pixel belongs to the object when the probability at its centre, interpolated
bilinearly between the centres of the cells and falling to zero outside of them, is at least a half (He et al., "Mask
R-CNN", 2017, section 3.1). Only the pixels inside a box are looked at: beyond its sides the probability is below a
half whatever the mask holds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import float32, njit

from cytomask.geometry.bit_masks import Packed

#: Numbers of the arithmetic, in single precision as in the reference: Python's are double, and so would be the sums.
_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1), np.float32(2)

#: Between four cells that are all this sure, and of one mind, no rounding brings the probability across a half.
_SURE = np.float32(0.01)


def paste_masks(logits: npt.NDArray[np.floating], boxes: npt.NDArray[np.floating], shape: tuple[int, int]) -> Packed:
    """Draw masks into an image, each into a bit-packed mask of its own.

    Parameters
    ----------
    logits
        float16 or float32 ``(N, S, S)``, rows first: the logarithm of the odds that a cell is inside. What is NaN is
        outside.
    boxes
        ``(N, 4)``, ``(y0, x0, y1, x1)`` in pixels, half open: pixel ``i`` reaches from ``i`` to ``i + 1``. They may
        reach beyond the image. A box without height or width, or with a value that is not finite, covers no pixel.
    shape
        Height and width of the image. What lies outside is cut off.

    Returns
    -------
    windows : numpy.ndarray
        int32 ``(N, 4)``, the smallest boxes around the pixels; all 0 for a mask without any.
    bits : numpy.ndarray
        uint8 ``(M,)``, the masks one behind the other, as :mod:`cytomask.geometry.bit_masks` describes.
    offsets : numpy.ndarray
        int64 ``(N + 1,)``; mask ``i`` is ``bits[offsets[i]:offsets[i + 1]]``.

    Raises
    ------
    ValueError
        When the arrays have other shapes.

    Examples
    --------
    A mask of 2 x 2 cells whose lower left is outside, in a box of 4 x 4 pixels:

    >>> logits = np.array([[[9, 9], [-9, 9]]], np.float32)
    >>> windows, bits, offsets = paste_masks(logits, np.array([[1, 2, 5, 6]]), (9, 9))
    >>> windows
    array([[1, 2, 5, 6]], dtype=int32)
    >>> np.unpackbits(bits).reshape(4, 4)
    array([[1, 1, 1, 1],
           [1, 1, 1, 1],
           [0, 0, 1, 1],
           [0, 0, 1, 1]], dtype=uint8)
    """
    logits = np.ascontiguousarray(logits, np.float32)
    boxes = np.ascontiguousarray(boxes, np.float32)
    if logits.ndim != 3 or logits.shape[1] != logits.shape[2]:
        raise ValueError(f"logits must have the shape (N, S, S), not {logits.shape}")
    if boxes.shape != (len(logits), 4):
        raise ValueError(f"boxes must have the shape ({len(logits)}, 4), not {boxes.shape}")
    if logits.size == 0:
        count = len(logits)
        return np.zeros((count, 4), np.int32), np.zeros(0, np.uint8), np.zeros(count + 1, np.int64)
    windows, bits, offsets = _paste(logits, boxes, int(shape[0]), int(shape[1]))
    return windows, bits[: offsets[-1]].copy(), offsets


@njit(cache=True, nogil=True, error_model="numpy")
def _paste(logits, boxes, height, width):  # type: ignore[no-untyped-def]
    count, side = logits.shape[:2]
    windows = np.zeros((count, 4), np.int32)
    offsets = np.zeros(count + 1, np.int64)
    bits = np.zeros(1 << 16, np.uint8)
    # One mask with a frame of sure background, so that every place lies between four cells.
    padded = np.full((side + 2, side + 2), -np.inf, np.float32)
    inside = np.zeros(1 << 12, np.bool_)
    for i in range(count):
        offset = offsets[i]
        offsets[i + 1] = offset
        box = boxes[i]
        if not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
            continue
        top, bottom = _pixels(box[0], box[2], height)
        left, right = _pixels(box[1], box[3], width)
        rows, columns = bottom - top, right - left
        if rows <= 0 or columns <= 0:
            continue
        padded[1:-1, 1:-1] = logits[i]
        row_cell, row_share = _cells(box[0], box[2], top, rows, side)
        column_cell, column_share = _cells(box[1], box[3], left, columns, side)
        if rows * columns > len(inside):
            inside = np.zeros(max(2 * len(inside), rows * columns), np.bool_)
        y0, y1, x0, x1 = rows, 0, columns, 0
        for y in range(rows):
            a, south = row_cell[y], row_share[y]
            north = _ONE - south
            for x in range(columns):
                b, east = column_cell[x], column_share[x]
                west = _ONE - east
                nw, ne, sw, se = padded[a, b], padded[a, b + 1], padded[a + 1, b], padded[a + 1, b + 1]
                within = nw > _SURE and ne > _SURE and sw > _SURE and se > _SURE
                if not (within or (nw < -_SURE and ne < -_SURE and sw < -_SURE and se < -_SURE)):
                    value = (
                        _probability(nw) * (north * west)
                        + _probability(ne) * (north * east)
                        + _probability(sw) * (south * west)
                        + _probability(se) * (south * east)
                    )
                    within = value >= _HALF
                inside[y * columns + x] = within
                if within:
                    y0, y1 = min(y0, y), y + 1
                    x0, x1 = min(x0, x), max(x1, x + 1)
        if y1 == 0:
            continue
        windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3] = top + y0, left + x0, top + y1, left + x1
        end = offset + ((y1 - y0) * (x1 - x0) + 7) // 8
        offsets[i + 1] = end
        if end > len(bits):
            wider = np.zeros(max(2 * len(bits), end), np.uint8)
            wider[:offset] = bits[:offset]
            bits = wider
        bit = 8 * offset
        for y in range(y0, y1):
            for x in range(x0, x1):
                if inside[y * columns + x]:
                    bits[bit >> 3] |= np.uint8(128 >> (bit & 7))
                bit += 1
    return windows, bits, offsets


@njit(cache=True, nogil=True, error_model="numpy")
def _probability(logit):  # type: ignore[no-untyped-def]
    return _ONE / (_ONE + np.exp(-logit))


@njit(cache=True, nogil=True, error_model="numpy")
def _pixels(begin, end, size):  # type: ignore[no-untyped-def]
    """Find which pixels' centres may lie between two sides of a box: the first, and the one after the last."""
    first = max(np.floor(np.float64(begin)) - 1, 0.0)
    last = min(np.ceil(np.float64(end)) + 1, np.float64(size))
    return (int(first), int(last)) if first < last else (0, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _cells(begin, end, first, count, side):  # type: ignore[no-untyped-def]
    """Find between which cells each pixel's centre lies along one axis, and how far it is on the way to the second.

    Cells are counted in the padded mask. What lies outside of the frame is put between two zeros: the frame's corner
    would do for one axis only, so the share is NaN, which no comparison takes for inside.
    """
    cells, shares = np.zeros(count, np.int64), np.full(count, np.nan, np.float32)
    for k in range(count):
        centre = float32(first + k) + _HALF
        # The same steps, in the same precision, as those of the reference, which goes through [-1, 1].
        at = (centre - begin) / (end - begin) * _TWO - _ONE
        at = ((at + _ONE) * float32(side) - _ONE) / _TWO
        if -1 < at < side:
            cell = np.floor(at)
            cells[k] = int(cell) + 1
            shares[k] = at - cell
    return cells, shares
