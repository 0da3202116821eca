"""Change the pixel grid of an image window by window, so that no window shows where it was cut.

Each target pixel is a weighted mean of the source pixels under a triangle: as wide as one source pixel to either side
when the image grows (bilinear), as one target pixel when it shrinks (which removes what the coarser grid cannot hold).
Weights follow from the pixel's place in the whole image alone, and are summed in a fixed order; so a pixel has the same
bits in whatever window it is computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

#: Reads source pixels: ``read(y0, y1, x0, x1)`` gives float32 ``(C, y1 - y0, x1 - x0)``.
Read = Callable[[int, int, int, int], np.ndarray]

#: Source pixels (channels included) that are held at a time.
BAND_PIXELS = 8_000_000


def target_shape(source_shape: tuple[int, int], scale: tuple[float, float]) -> tuple[int, int]:
    """Height and width after scaling: rounded, at least one pixel.

    Examples
    --------
    >>> target_shape((100, 51), (0.5, 0.5))
    (50, 26)
    """
    height, width = (max(1, int(n * s + 0.5)) for n, s in zip(source_shape, scale))
    return height, width


def resample_window(
    read: Read,
    source_shape: tuple[int, int],
    scale: tuple[float, float],
    window: tuple[int, int, int, int],
) -> np.ndarray:
    """Compute a window of the scaled image from the source pixels under it.

    Target pixel ``t`` has its centre at ``(t + 0.5) / scale - 0.5`` of the source's pixel centres. Weights that fall
    outside the source are left out, and the rest made to sum to one.

    Parameters
    ----------
    read
        Gives source pixels as float32 ``(C, h, w)`` for ``(y0, y1, x0, x1)``, always inside the source. It is called
        for bands of rows, so a strongly reduced image need not fit in memory.
    source_shape
        Height and width of the source.
    scale
        Target pixels per source pixel, along y and x. ``(1, 1)`` gives an exact copy.
    window
        ``(y0, y1, x0, x1)`` in target pixels, half-open, inside :func:`target_shape`.

    Returns
    -------
    np.ndarray
        float32 ``(C, y1 - y0, x1 - x0)``, C-contiguous.

    Raises
    ------
    ValueError
        If a scale is not positive and finite, or the window is empty or not inside the target.

    Examples
    --------
    >>> image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    >>> read = lambda y0, y1, x0, x1: image[:, y0:y1, x0:x1]
    >>> whole = resample_window(read, (4, 4), (1.5, 1.5), (0, 6, 0, 6))
    >>> part = resample_window(read, (4, 4), (1.5, 1.5), (2, 5, 1, 4))
    >>> bool((part == whole[:, 2:5, 1:4]).all())
    True
    """
    if not all(np.isfinite(s) and s > 0 for s in scale):
        raise ValueError(f"scale must be positive and finite, not {scale}")
    y0, y1, x0, x1 = window
    height, width = target_shape(source_shape, scale)
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise ValueError(f"window {window} is empty or not inside the target, which has shape {(height, width)}")
    if scale == (1, 1):
        return np.array(read(y0, y1, x0, x1), dtype=np.float32, order="C", copy=True)

    firsts, weights = _triangle(x0, x1, float(scale[1]), source_shape[1])
    left, right = _reach(firsts, weights.shape[1], source_shape[1])
    out: np.ndarray | None = None
    row = y0
    rows = 1  # the first band is a single row: it tells the number of channels
    while row < y1:
        stop = min(y1, row + rows)
        row_firsts, row_weights = _triangle(row, stop, float(scale[0]), source_shape[0])
        top, bottom = _reach(row_firsts, row_weights.shape[1], source_shape[0])
        source = np.ascontiguousarray(read(top, bottom, left, right), dtype=np.float32)
        if out is None:
            out = np.empty((len(source), y1 - y0, x1 - x0), dtype=np.float32)
            rows = max(1, int(BAND_PIXELS / len(source) / (right - left) * scale[0]) - row_weights.shape[1])
        narrow = np.empty((len(source), bottom - top, x1 - x0), dtype=np.float32)
        _along_x(source, firsts - left, weights, narrow)
        _along_y(narrow, row_firsts - top, row_weights, out[:, row - y0 : stop - y0])
        row = stop
    assert out is not None
    return out


def _reach(firsts: np.ndarray, taps: int, size: int) -> tuple[int, int]:
    """Half-open range of the source pixels that any target pixel looks at."""
    return max(0, int(firsts[0])), min(size, int(firsts[-1]) + taps)


@njit(cache=True, nogil=True)
def _triangle(start, stop, scale, size):  # type: ignore[no-untyped-def]
    """First source pixel and weights of each target pixel; weights outside the source are zero."""
    radius = max(1.0, 1.0 / scale)
    taps = int(np.ceil(2.0 * radius))
    firsts = np.empty(stop - start, dtype=np.int64)
    weights = np.zeros((stop - start, taps), dtype=np.float32)
    exact = np.empty(taps, dtype=np.float64)
    for i in range(stop - start):
        centre = (start + i + 0.5) / scale - 0.5
        first = int(np.floor(centre - radius)) + 1
        total = 0.0
        for k in range(taps):
            weight = 0.0
            if 0 <= first + k < size:
                weight = max(0.0, 1.0 - abs(first + k - centre) / radius)
            exact[k] = weight
            total += weight
        if total > 0.0:
            for k in range(taps):
                weights[i, k] = exact[k] / total
        else:  # the target's last pixel may lie a rounding beyond the source
            nearest = min(max(int(np.floor(centre + 0.5)), 0), size - 1)
            first = nearest
            weights[i, 0] = 1.0
        firsts[i] = first
    return firsts, weights


@njit(cache=True, nogil=True)
def _along_x(source, firsts, weights, out):  # type: ignore[no-untyped-def]
    channels, height, width = out.shape
    size = source.shape[2]
    taps = weights.shape[1]
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                total = np.float32(0.0)
                for k in range(taps):
                    at = firsts[x] + k
                    if 0 <= at < size and weights[x, k] != 0:
                        total += weights[x, k] * source[c, y, at]
                out[c, y, x] = total


@njit(cache=True, nogil=True)
def _along_y(source, firsts, weights, out):  # type: ignore[no-untyped-def]
    channels, height, width = out.shape
    size = source.shape[1]
    taps = weights.shape[1]
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                out[c, y, x] = 0.0
            for k in range(taps):
                at = firsts[y] + k
                weight = weights[y, k]
                if 0 <= at < size and weight != 0:
                    for x in range(width):
                        out[c, y, x] += weight * source[c, at, x]
