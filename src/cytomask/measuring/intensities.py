"""Mean, least and greatest value of every channel inside every object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cytomask.image import Image
from cytomask.instances import Instances

#: Values of one channel that are held as float64 at a time (32 MB).
_BLOCK = 4_000_000


@njit(cache=True, nogil=True)
def _add_rows(
    rows: np.ndarray, start: int, left: int, windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray,
    total: Any, least: Any, greatest: Any,
) -> None:  # fmt: skip
    """Add a band of pixels to the sums and extremes of the objects that it crosses.

    The band is float64 ``(h, w)`` from row ``start`` and column ``left`` on. Every object's pixels are added one by one
    in their order, whatever the bands are: so sums have the same bits.
    """
    stop = start + rows.shape[0]
    for i in range(len(windows)):
        y0, x0, y1, x1 = windows[i]
        if y0 >= stop or y1 <= start:
            continue
        width = x1 - x0
        sum_, low, high = total[i], least[i], greatest[i]
        for y in range(max(y0, start), min(y1, stop)):
            k = (y - y0) * width
            for x in range(x0, x1):
                if (bits[offsets[i] + (k >> 3)] >> (7 - (k & 7))) & 1:
                    value = rows[y - start, x - left]
                    sum_ += value
                    low, high = min(low, value), max(high, value)
                k += 1
        total[i] = sum_
        least[i], greatest[i] = low, high


def intensities(instances: Instances, image: Image, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure the image's own values under each mask.

    The part of the image that holds objects is read once, in bands of rows, so that a large one is never held whole.

    Parameters
    ----------
    instances
        N objects; they may overlap.
    image
        Image of C channels and the same size.
    areas
        ``(N,)``: pixels of each object.

    Returns
    -------
    mean, least, greatest
        float64 ``(N, C)``; NaN for an object without pixels.
    """
    n, channels = len(instances), image.n_channels
    total = np.zeros((channels, n))
    least, greatest = np.full((channels, n), np.inf), np.full((channels, n), -np.inf)
    windows = instances.windows.astype(np.int64)
    filled = windows[areas > 0]
    first, left = filled[:, :2].min(axis=0).tolist() if len(filled) else (0, 0)
    last, right = filled[:, 2:].max(axis=0).tolist() if len(filled) else (0, 0)
    step = max(1, _BLOCK // max(1, right - left))
    for start in range(first, last, step):
        band = image.window(start, min(start + step, last), left, right)
        for c in range(channels):
            rows = np.ascontiguousarray(band[c], dtype=np.float64)
            _add_rows(rows, start, left, windows, instances.bits, instances.offsets, total[c], least[c], greatest[c])
    empty = areas == 0
    mean = np.divide(total, areas, out=np.full_like(total, np.nan), where=~empty)
    least[:, empty] = greatest[:, empty] = np.nan
    return mean.T, least.T, greatest.T
