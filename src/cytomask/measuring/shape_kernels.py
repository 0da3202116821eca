"""Sums over the pixels of bit-packed masks, from which every shape measure follows.

All objects are done in one compiled loop. Sums, hulls and the kinds of border pixels are counted in integers, so that
the same shape gives the same numbers wherever it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

#: Columns of the integer table: area; tight box (y0, x0, y1, x1) in the image; the pixel (y, x) about which moments are
#: taken; first moments (y, x); second moments (yy, xx, yx); pixels of the convex hull.
AREA, Y0, X0, Y1, X1, CY, CX, SY, SX, SYY, SXX, SYX, HULL = range(13)


@njit(cache=True, nogil=True)
def _unpack(bits: Any, start: Any, height: Any, width: Any, padded: Any) -> None:
    """Write a packed mask into ``padded`` (flat, rows of width + 2) with a border of zeros around it."""
    stride = width + 2
    padded[: (height + 2) * stride] = 0
    k = 0
    for y in range(height):
        row = (y + 1) * stride + 1
        for x in range(width):
            padded[row + x] = (bits[start + (k >> 3)] >> (7 - (k & 7))) & 1
            k += 1


@njit(cache=True, nogil=True)
def _hull_area(left: Any, right: Any, top: Any, bottom: Any, chain_y: Any, chain_x: Any) -> Any:
    """Count the pixels in the convex hull of the middles of all pixel edges, those on its rim included.

    Everything is in half pixels, so that edge middles are integers. ``left`` and ``right`` hold the first and last
    pixel of each row, -1 where a row has none. The hull's left and its right side are built and walked in turn; the
    right one as the left one of the mirrored shape.
    """
    total = 0
    for side in range(2):
        n = 0
        for y2 in range(2 * top - 1, 2 * bottom + 2):
            if y2 % 2 == 0:
                row = y2 // 2
                if left[row] < 0:
                    continue
                x2 = 2 * left[row] - 1 if side == 0 else -2 * right[row] - 1
            else:
                found = False
                x2 = 0
                for row in ((y2 - 1) // 2, (y2 + 1) // 2):
                    if row < top or row > bottom or left[row] < 0:
                        continue
                    x = 2 * left[row] if side == 0 else -2 * right[row]
                    if not found or x < x2:
                        x2 = x
                    found = True
                if not found:
                    continue
            # Drop points that do not stick out of the line from the one before them to the new one.
            while n >= 2 and (chain_x[n - 1] - chain_x[n - 2]) * (y2 - chain_y[n - 2]) >= (x2 - chain_x[n - 2]) * (
                chain_y[n - 1] - chain_y[n - 2]
            ):
                n -= 1
            chain_y[n], chain_x[n] = y2, x2
            n += 1
        edge = 0
        for row in range(top, bottom + 1):
            y2 = 2 * row
            while chain_y[edge + 1] < y2:
                edge += 1
            dy = chain_y[edge + 1] - chain_y[edge]
            along = chain_x[edge] * dy + (chain_x[edge + 1] - chain_x[edge]) * (y2 - chain_y[edge])
            total -= -(-along // (2 * dy))  # the first pixel of the row that is not left of the side
    # The left side gave minus the first pixel of each row, the mirrored right side plus the last.
    return total + (bottom - top + 1)


@njit(cache=True, nogil=True)
def _perimeter(padded: Any, height: Any, width: Any, size_y: float, size_x: float) -> tuple[float, float]:
    """Estimate the perimeter by the neighbourhoods of border pixels (Benkrid & Crookes), in pixels and in ``size``.

    ``padded`` holds 1 for pixels of the mask; border pixels (with a 4-neighbour outside) become 3. With sides of
    different length, a straight step counts as the mean length of the steps to the neighbours on the border, and a
    diagonal one as the diagonal of a pixel.
    """
    stride = width + 2
    for y in range(1, height + 1):
        for p in range(y * stride + 1, y * stride + 1 + width):
            if padded[p] and not (padded[p - 1] and padded[p + 1] and padded[p - stride] and padded[p + stride]):
                padded[p] = 3
    root2, diagonal = np.sqrt(2.0), np.hypot(size_y, size_x)
    in_pixels = in_size = 0.0
    for y in range(1, height + 1):
        for p in range(y * stride + 1, y * stride + 1 + width):
            if padded[p] != 3:
                continue
            along_x = (padded[p - 1] == 3) + (padded[p + 1] == 3)
            along_y = (padded[p - stride] == 3) + (padded[p + stride] == 3)
            corners = (
                (padded[p - stride - 1] == 3)
                + (padded[p - stride + 1] == 3)
                + (padded[p + stride - 1] == 3)
                + (padded[p + stride + 1] == 3)
            )
            straight = along_x + along_y
            step = (along_x * size_x + along_y * size_y) / straight if straight else 0.0
            if (straight == 2 or straight == 3) and corners <= 2:
                in_pixels += 1.0
                in_size += step
            elif (straight == 0 and corners == 2) or (straight == 1 and corners == 3):
                in_pixels += root2
                in_size += diagonal
            elif straight == 1 and (corners == 1 or corners == 2):
                in_pixels += (1.0 + root2) / 2
                in_size += (step + diagonal) / 2
    return in_pixels, in_size


@njit(cache=True, nogil=True)
def shape_sums(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, size_y: float, size_x: float
) -> tuple[np.ndarray, np.ndarray]:
    """Measure all masks.

    Parameters
    ----------
    windows
        int64 ``(N, 4)``: y0, x0, y1, x1 of each crop.
    bits, offsets
        The packed crops, as in :class:`~cytomask.instances.Instances`.
    size_y, size_x
        Lengths of a pixel's sides.

    Returns
    -------
    sums
        int64 ``(N, 13)``, see the columns above. A mask without pixels has zeros and an empty box.
    perimeters
        float64 ``(N, 2)``: in pixels, and in the unit of the lengths.
    """
    n = len(windows)
    sums = np.zeros((n, 13), np.int64)
    perimeters = np.zeros((n, 2))
    largest = tallest = 0
    for i in range(n):
        height, width = windows[i, 2] - windows[i, 0], windows[i, 3] - windows[i, 1]
        largest, tallest = max(largest, (height + 2) * (width + 2)), max(tallest, height)
    padded = np.empty(largest, np.uint8)
    left, right = np.empty(tallest, np.int64), np.empty(tallest, np.int64)
    chain_y, chain_x = np.empty(2 * tallest + 3, np.int64), np.empty(2 * tallest + 3, np.int64)
    for i in range(n):
        top_edge, left_edge = windows[i, 0], windows[i, 1]
        height, width = windows[i, 2] - top_edge, windows[i, 3] - left_edge
        _unpack(bits, offsets[i], height, width, padded)
        stride = width + 2
        area = sy = sx = syy = sxx = syx = 0
        top, bottom, first, last = -1, -1, width, -1
        for y in range(height):
            left[y] = right[y] = -1
            count = row_x = row_xx = 0
            for x in range(width):
                if padded[(y + 1) * stride + 1 + x]:
                    if count == 0:
                        left[y] = x
                    right[y] = x
                    count += 1
                    row_x += x
                    row_xx += x * x
            if count:
                if top < 0:
                    top = y
                bottom = y
                first, last = min(first, left[y]), max(last, right[y])
                area += count
                sy += y * count
                syy += y * y * count
                sx += row_x
                sxx += row_xx
                syx += y * row_x
        if area == 0:
            sums[i, Y0], sums[i, X0], sums[i, Y1], sums[i, X1] = top_edge, left_edge, top_edge, left_edge
            continue
        # Moments about a pixel near the centroid are small: nothing is lost when they become floats.
        cy, cx = (2 * sy + area) // (2 * area), (2 * sx + area) // (2 * area)
        sums[i, AREA] = area
        sums[i, Y0], sums[i, X0] = top_edge + top, left_edge + first
        sums[i, Y1], sums[i, X1] = top_edge + bottom + 1, left_edge + last + 1
        sums[i, CY], sums[i, CX] = top_edge + cy, left_edge + cx
        sums[i, SY], sums[i, SX] = sy - area * cy, sx - area * cx
        sums[i, SYY] = syy - 2 * cy * sy + area * cy * cy
        sums[i, SXX] = sxx - 2 * cx * sx + area * cx * cx
        sums[i, SYX] = syx - cy * sx - cx * sy + area * cy * cx
        sums[i, HULL] = _hull_area(left, right, top, bottom, chain_y, chain_x)
        perimeters[i] = _perimeter(padded, height, width, size_y, size_x)
    return sums, perimeters
