"""How deep each pixel lies inside its object: the exact Euclidean distance to the outside, all objects in one pass.

The transform is separable (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions", 2012): distances
down each column first, then the lower envelope of parabolas along each row. What is outside is any other label, so a
run of one label along a row is transformed on its own and touching objects need no separation beforehand.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from cytomask.geometry.star import label_image


def normalised_edt(labels: npt.NDArray[np.integer], grid: int = 1) -> npt.NDArray[np.float32]:
    """Distance to the outside of the object, over the largest such distance in the object.

    Any other label counts as outside. What lies beyond the image's border is unknown and does not: an object cut by the
    border is as deep there as if it went on. Only an object that fills the whole image has nothing else around it; for
    that one the border is outside.

    Parameters
    ----------
    labels
        Label image ``(Y, X)``, any integer type; 0 is background. An object may have several parts: they share the
        largest distance.
    grid
        Keep every ``grid``-th row and column, beginning with the first.

    Returns
    -------
    numpy.ndarray
        float32 ``(ceil(Y / grid), ceil(X / grid))`` in 0..1: 0 in the background, above 0 in objects, and 1 in each
        object's deepest pixel.

    Raises
    ------
    ValueError
        When ``labels`` is not a two-dimensional integer array, or ``grid`` is below 1.

    Examples
    --------
    >>> labels = np.array([[0, 1, 1, 1, 1, 1, 0, 2, 0]])
    >>> normalised_edt(labels).round(2)
    array([[0.  , 0.33, 0.67, 1.  , 0.67, 0.33, 0.  , 1.  , 0.  ]], dtype=float32)
    """
    labels = label_image(labels)
    if grid < 1:
        raise ValueError(f"grid must be at least 1, not {grid}")
    if labels.size == 0:
        return np.zeros(labels[::grid, ::grid].shape, np.float32)
    top = int(labels.max())
    # One slot per label value, unless the values are so sparse that counting them afresh is cheaper.
    if top > max(4 * labels.size, 1 << 16):
        values, inverse = np.unique(labels, return_inverse=True)
        fresh = np.cumsum(values > 0, dtype=np.int32) * (values > 0)
        labels = np.ascontiguousarray(fresh[inverse.reshape(labels.shape)], np.int32)
        top = int(labels.max())
    first = labels[0, 0]
    closed = bool(first > 0 and (labels == first).all())
    return _normalised_edt(labels, max(top, 0), closed)[::grid, ::grid]


def mask_distance(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Exact distance of each pixel of a mask to the nearest pixel outside it.

    Parameters
    ----------
    mask
        bool ``(Y, X)``. What lies beyond the image's border is unknown and does not count as outside.

    Returns
    -------
    numpy.ndarray
        float32 ``(Y, X)``, in pixels: 0 outside the mask. Where no pixel at all is outside, larger than the image.

    Raises
    ------
    ValueError
        When ``mask`` is not two-dimensional.

    Examples
    --------
    >>> mask_distance(np.array([[0, 1, 1, 1], [1, 1, 1, 1]], bool)).round(2)
    array([[0.  , 1.  , 2.  , 3.  ],
           [1.  , 1.41, 2.24, 3.16]], dtype=float32)
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask (Y, X), not one of shape {mask.shape}")
    if mask.size == 0:
        return np.zeros(mask.shape, np.float32)
    return _distances(np.ascontiguousarray(mask, np.bool_))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _distances(mask):  # type: ignore[no-untyped-def]
    height, width = mask.shape
    far = np.int32(1 << 15) if height + width < (1 << 15) else np.int32(height + width)
    column = np.empty((height, width), np.int32)
    for x in range(width):
        column[0, x] = far if mask[0, x] else 0
    for y in range(1, height):
        for x in range(width):
            column[y, x] = min(column[y - 1, x] + 1, far) if mask[y, x] else 0
    for y in range(height - 2, -1, -1):
        for x in range(width):
            column[y, x] = min(column[y, x], column[y + 1, x] + 1)
    out = np.zeros((height, width), np.float32)
    centre = np.empty(width + 2, np.int64)
    floor = np.empty(width + 2, np.int64)
    ends = np.empty(width + 3, np.float64)
    for y in range(height):
        start = 0
        while start < width:
            if not mask[y, start]:
                start += 1
                continue
            stop = start + 1
            while stop < width and mask[y, stop]:
                stop += 1
            _row_run(column[y], start, stop, start > 0, stop < width, centre, floor, ends, out[y])
            start = stop
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _normalised_edt(labels, top, closed):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    far = np.int32(1 << 15) if height + width < (1 << 15) else np.int32(height + width)
    column = np.empty((height, width), np.int32)
    for x in range(width):
        column[0, x] = 1 if closed else far
    for y in range(1, height):
        for x in range(width):
            column[y, x] = column[y - 1, x] + 1 if labels[y, x] == labels[y - 1, x] else 1
    if closed:
        for x in range(width):
            column[height - 1, x] = 1
    for y in range(height - 2, -1, -1):
        for x in range(width):
            below = column[y + 1, x] + 1 if labels[y, x] == labels[y + 1, x] else 1
            column[y, x] = min(column[y, x], below)

    out = np.zeros((height, width), np.float32)
    deepest = np.zeros(top + 1, np.float32)
    centre = np.empty(width + 2, np.int64)
    floor = np.empty(width + 2, np.int64)
    ends = np.empty(width + 3, np.float64)
    for y in range(height):
        start = 0
        while start < width:
            label = labels[y, start]
            stop = start + 1
            while stop < width and labels[y, stop] == label:
                stop += 1
            if label > 0:
                before, after = start > 0 or closed, stop < width or closed
                _row_run(column[y], start, stop, before, after, centre, floor, ends, out[y])
                largest = deepest[label]
                for x in range(start, stop):
                    largest = max(largest, out[y, x])
                deepest[label] = largest
            start = stop
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label > 0:
                out[y, x] /= deepest[label]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _row_run(column, start, stop, wall_before, wall_after, centre, floor, ends, out):  # type: ignore[no-untyped-def]
    """Distances along one run of a label: the lower envelope of ``(x - c)**2 + floor(c)``, then its square root."""
    last = -1
    for c in range(start - 1 if wall_before else start, stop + 1 if wall_after else stop):
        height = np.int64(column[c]) ** 2 if start <= c < stop else np.int64(0)
        begin = -np.inf
        while last >= 0:
            begin = (height + c * c - floor[last] - centre[last] * centre[last]) / (2.0 * (c - centre[last]))
            if begin > ends[last]:
                break
            last -= 1
            begin = -np.inf
        last += 1
        centre[last] = c
        floor[last] = height
        ends[last] = begin
    ends[last + 1] = np.inf
    k = 0
    for x in range(start, stop):
        while ends[k + 1] < x:
            k += 1
        out[x] = np.sqrt(np.float32((x - centre[k]) ** 2 + floor[k]))
