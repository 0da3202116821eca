"""Which pixels a polygon covers: rendered row by row, straight into packed bits.

A pixel belongs to a polygon when its centre lies inside, on an edge or on a corner. Inside is meant in the even-odd
sense (O'Rourke, "Computational Geometry in C", 1998, chapter 7). These are the pixels of ``skimage.draw.polygon``.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

#: A pixel this close to a corner counts as the corner, as in scikit-image.
_AT_CORNER = 1e-12

#: Where an edge passes a pixel's centre this closely, the exact test decides, not the rounded crossing.
_CLOSE = 1e-6


def render_polygons(
    vertices: npt.NDArray[np.floating], shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Render polygons, each into a bit-packed mask of its own.

    Parameters
    ----------
    vertices
        Corners ``(N, V, 2)``, each ``(y, x)`` in pixels; whole numbers are pixel centres.
    shape
        Height and width of the image. What lies outside is cut off.

    Returns
    -------
    windows : numpy.ndarray
        int32 ``(N, 4)``, the smallest boxes ``(y0, x0, y1, x1)`` around the pixels, half open; all 0 for a polygon that
        covers no pixel.
    bits : numpy.ndarray
        uint8 ``(M,)``, the masks one after another. Each is the window's pixels row by row, eight to a byte with the
        first in the highest bit, and begins with a new byte.
    offsets : numpy.ndarray
        int64 ``(N + 1,)``; mask ``i`` is ``bits[offsets[i]:offsets[i + 1]]``.

    Raises
    ------
    ValueError
        When ``vertices`` has another shape, or holds values that are not finite.

    Examples
    --------
    >>> windows, bits, offsets = render_polygons(np.array([[[1, 2], [3, 4], [3, 0]]]), (9, 9))
    >>> windows
    array([[1, 0, 4, 5]], dtype=int32)
    >>> np.unpackbits(bits, count=15).reshape(3, 5)
    array([[0, 0, 1, 0, 0],
           [0, 1, 1, 1, 0],
           [1, 1, 1, 1, 1]], dtype=uint8)
    """
    vertices = np.ascontiguousarray(vertices, np.float32)
    if vertices.ndim != 3 or vertices.shape[2] != 2:
        raise ValueError(f"vertices must have the shape (N, V, 2), not {vertices.shape}")
    if not np.isfinite(vertices).all():
        bad = np.count_nonzero(~np.isfinite(vertices))
        raise ValueError(f"vertices: {bad} of {vertices.size} values are not finite")
    if vertices.size == 0:
        count = len(vertices)
        return np.zeros((count, 4), np.int32), np.zeros(0, np.uint8), np.zeros(count + 1, np.int64)
    windows, bits, offsets = _render(vertices, int(shape[0]), int(shape[1]))
    return windows, bits[: offsets[-1]].copy(), offsets


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _render(vertices, height, width):  # type: ignore[no-untyped-def]
    count, corners = vertices.shape[:2]
    windows = np.zeros((count, 4), np.int32)
    offsets = np.zeros(count + 1, np.int64)
    bits = np.zeros(1 << 16, np.uint8)
    # One polygon's runs of pixels: row, first column, column after the last.
    runs = np.empty((1024, 3), np.int64)
    polygon = np.empty((corners, 2), np.float64)
    right, left = np.empty(corners, np.int64), np.empty(corners, np.int64)
    for i in range(count):
        low, high = np.inf, -np.inf
        for k in range(corners):
            polygon[k, 0], polygon[k, 1] = vertices[i, k, 0], vertices[i, k, 1]
            low, high = min(low, polygon[k, 0]), max(high, polygon[k, 0])
        n_runs = 0
        x0, x1 = width, 0
        for y in range(int(max(0.0, np.ceil(low))), int(min(height - 1.0, np.floor(high))) + 1):
            # At most one run per crossing of either kind, and one per corner.
            if n_runs + 2 * corners > len(runs):
                more = np.empty((2 * (len(runs) + corners), 3), np.int64)
                for r in range(n_runs):
                    more[r, 0], more[r, 1], more[r, 2] = runs[r, 0], runs[r, 1], runs[r, 2]
                runs = more
            begin = n_runs
            n_runs = _row_runs(polygon, y, width, right, left, runs, n_runs)
            for r in range(begin, n_runs):
                x0, x1 = min(x0, runs[r, 1]), max(x1, runs[r, 2])
        offset = offsets[i]
        if n_runs == 0:
            offsets[i + 1] = offset
            continue
        y0, y1 = runs[0, 0], runs[n_runs - 1, 0] + 1
        windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3] = y0, x0, y1, x1
        end = offset + ((y1 - y0) * (x1 - x0) + 7) // 8
        offsets[i + 1] = end
        if end > len(bits):
            wider = np.zeros(max(2 * len(bits), end), np.uint8)
            for byte in range(offset):
                wider[byte] = bits[byte]
            bits = wider
        for r in range(n_runs):
            start = (runs[r, 0] - y0) * (x1 - x0) - x0
            _set_bits(bits, 8 * offset + start + runs[r, 1], 8 * offset + start + runs[r, 2])
    return windows, bits, offsets


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _row_runs(polygon, y, width, right, left, runs, n_runs):  # type: ignore[no-untyped-def]
    """Append the runs of pixels of one row to ``runs``; they may overlap. Returns how many there are now.

    A pixel is inside or on an edge when an odd number of edges crosses the row to its right, or to its left. Corners
    count for one of the two sides of an edge only, and for the other side in the other direction: what lies on an edge
    is odd in at least one.
    """
    corners = len(polygon)
    n_right = n_left = 0
    y0, x0 = polygon[corners - 1, 0] - y, polygon[corners - 1, 1]
    for k in range(corners):
        y1, x1 = polygon[k, 0] - y, polygon[k, 1]
        column = np.rint(x1)
        if abs(y1) < _AT_CORNER and abs(x1 - column) < _AT_CORNER and 0 <= column < width:
            runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2] = y, int(column), int(column) + 1
            n_runs += 1
        above, below = (y0 > 0) != (y1 > 0), (y0 < 0) != (y1 < 0)
        if above or below:
            crossing = min(max(x1 - y1 * ((x1 - x0) / (y1 - y0)), -2.0), width + 1.0)
            # The last pixel with the crossing to its right, and the first with the crossing to its left.
            last = int(np.floor(crossing))
            first = last + 1
            nearest = np.rint(crossing)
            if abs(crossing - nearest) < _CLOSE:
                last = first = int(nearest)
                side = _side(x0, y0, x1, y1, nearest)
                if side > 0:
                    first += 1
                elif side < 0:
                    last -= 1
                else:
                    last -= 1
                    first += 1
            if above:
                right[n_right] = last
                n_right += 1
            if below:
                left[n_left] = first
                n_left += 1
        y0, x0 = y1, x1
    _sort(right, n_right)
    _sort(left, n_left)
    for k in range(0, n_right - 1, 2):
        begin, end = max(right[k] + 1, 0), min(right[k + 1] + 1, width)
        if begin < end:
            runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2] = y, begin, end
            n_runs += 1
    for k in range(0, n_left - 1, 2):
        begin, end = max(left[k], 0), min(left[k + 1], width)
        if begin < end:
            runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2] = y, begin, end
            n_runs += 1
    return n_runs


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sort(values, count):  # type: ignore[no-untyped-def]
    """Sort the first few of ``values``: mostly two, for which an insertion is quickest."""
    for a in range(1, count):
        value = values[a]
        b = a - 1
        while b >= 0 and values[b] > value:
            values[b + 1] = values[b]
            b -= 1
        values[b + 1] = value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _side(x0, y0, x1, y1, x):  # type: ignore[no-untyped-def]
    """Where the edge crosses the row, seen from column ``x``: to the right (> 0), there (0), to the left (< 0).

    The order of operations is that of the reference, and decides pixels within rounding error of an edge.
    """
    x0 -= x
    x1 -= x
    return (x1 * y0 - x0 * y1) / (y0 - y1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _set_bits(bits, begin, end):  # type: ignore[no-untyped-def]
    """Set the bits from ``begin`` to before ``end``; bit 0 is the highest of byte 0."""
    first, last = begin >> 3, (end - 1) >> 3
    head, tail = 0xFF >> (begin & 7), 0xFF << (7 - ((end - 1) & 7)) & 0xFF
    if first == last:
        bits[first] |= head & tail
        return
    bits[first] |= head
    for byte in range(first + 1, last):
        bits[byte] = 0xFF
    bits[last] |= tail
