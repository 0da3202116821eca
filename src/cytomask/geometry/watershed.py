"""Part touching objects: a seeded watershed, and seeds from a mask's shape.

Both look at each connected component of the mask (by edges) by itself: what becomes of one is the same wherever it lies
and whatever else is in the image. So a part of an image gives what the whole gives, as long as it holds the components
whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from cytomask.geometry.object_distance import mask_distance
from cytomask.geometry.union_find import root as find_root


def seeded_watershed(
    level: npt.NDArray[np.floating] | npt.NDArray[np.uint8],
    seeds: npt.NDArray[np.integer],
    mask: npt.NDArray[np.bool_],
    *,
    low: float | None = None,
    high: float | None = None,
    steps: int = 1024,
) -> npt.NDArray[np.int32]:
    """Flood a mask from seeds, lowest pixels first (Meyer 1991).

    Of equal levels, the pixel that was reached first goes first. To be fast, levels are rounded down to ``steps`` steps
    of a fixed range: the image's own smallest and largest level do not matter, so a part is flooded as the whole is.

    Parameters
    ----------
    level
        float16, float32, float64 or uint8 ``(Y, X)``. Values beyond the range count as its ends, NaN as the upper one.
    seeds
        Integers ``(Y, X)``: the objects' labels where they begin, 0 elsewhere. A seed may have several parts. What lies
        outside the mask does not count.
    mask
        bool ``(Y, X)``: where objects are.
    low, high
        The range of levels. Default: 0 to 1, for uint8 0 to 256.
    steps
        How many steps it is cut into, at most 65,536.

    Returns
    -------
    numpy.ndarray
        int32 ``(Y, X)``: every pixel of the mask has the label of a seed, but for those of components that hold none;
        they have 0, as has what is outside the mask. Pixels of seeds keep their label.

    Raises
    ------
    ValueError
        When the arrays are not of one two-dimensional shape, or the range or the steps are impossible.

    Notes
    -----
    As ``skimage.segmentation.watershed(level, seeds, mask=mask, connectivity=1)`` on the rounded levels, but for ties
    between pixels of seeds, which here go row by row. Linear in the number of pixels: every level has its own queue.

    Examples
    --------
    >>> level = np.array([[0.1, 0.2, 0.9, 0.3, 0.1]], np.float32)
    >>> seeds = np.array([[1, 0, 0, 0, 2]])
    >>> seeded_watershed(level, seeds, np.array([[True, True, True, True, True]]))
    array([[1, 1, 1, 2, 2]], dtype=int32)
    """
    level, seeds, mask = np.asarray(level), np.asarray(seeds), np.asarray(mask)
    if mask.ndim != 2 or level.shape != mask.shape or seeds.shape != mask.shape:
        raise ValueError(f"level, seeds and mask must be (Y, X) alike, not {level.shape}, {seeds.shape}, {mask.shape}")
    whole = level.dtype == np.uint8
    low = 0.0 if low is None else float(low)
    high = (256.0 if whole else 1.0) if high is None else float(high)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"low must be below high, not {low} and {high}")
    if not 1 <= steps <= 1 << 16:
        raise ValueError(f"steps must be 1 to 65536, not {steps}")
    if level.dtype not in (np.uint8, np.float32, np.float64):
        level = level.astype(np.float32)
    return _flood(
        np.ascontiguousarray(level), np.ascontiguousarray(seeds, np.int32), np.ascontiguousarray(mask, np.bool_),
        low, high, steps,
    )  # fmt: skip


def shape_seeds(mask: npt.NDArray[np.bool_], min_ratio: float) -> npt.NDArray[np.int32]:
    """Find a seed for every part of a mask that is joined to others by a narrow waist only.

    How deep a pixel lies is its distance to the nearest pixel outside the mask. Two depths belong to different objects
    if every path between them passes a waist where it is less deep than ``min_ratio`` times the shallower of the two.

    Parameters
    ----------
    mask
        bool ``(Y, X)``. What is beyond the image's border is unknown: an object cut by it is as deep there as if it
        went on.
    min_ratio
        0 to 1. 0 parts nothing: every connected component (by edges) gets one seed. The nearer to 1, the shallower a
        waist may be that parts; 1 makes a seed of every local maximum.

    Returns
    -------
    numpy.ndarray
        int32 ``(Y, X)``: 1, 2, 3 … on one pixel each, row by row: the deepest of its part, of equals the first.

    Raises
    ------
    ValueError
        When the mask is not two-dimensional, or ``min_ratio`` not from 0 to 1.

    Notes
    -----
    Pixels are added from the deepest to the shallowest, and joined to the neighbours that are there already. Where two
    parts meet, the waist between them is where they meet: the shallower part is an object of its own, or its maximum
    is forgotten. To part the mask, flood it from the seeds, the deepest pixels first.

    Examples
    --------
    >>> discs = np.hypot(*np.ogrid[-9:10, -9:10]) < 8
    >>> mask = np.zeros((19, 33), bool)
    >>> mask[:, :19] |= discs
    >>> mask[:, 14:] |= discs
    >>> np.argwhere(shape_seeds(mask, 0.9)).tolist()
    [[9, 9], [9, 23]]
    >>> int(shape_seeds(mask, 0.3).max())
    1
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask (Y, X), not one of shape {mask.shape}")
    if not 0 <= min_ratio <= 1:
        raise ValueError(f"min_ratio must be 0 to 1, not {min_ratio}")
    mask = np.ascontiguousarray(mask, np.bool_)
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    # Squares of distances are whole numbers, so sorting is counting. Without any background they are very large.
    height, width = mask.shape
    distances = mask_distance(mask)
    squares = np.minimum(np.rint(distances.astype(np.float64) ** 2), height**2 + width**2).astype(np.int32)
    return _shape_seeds(squares, float(min_ratio))


@njit(cache=True, nogil=True, error_model="numpy")
def _steps_of(level, mask, low, high, steps):  # type: ignore[no-untyped-def]
    """Each level's step; nothing in particular outside the mask."""
    out = np.empty(level.shape, np.uint16)
    scale = steps / (high - low)
    for y in range(level.shape[0]):
        for x in range(level.shape[1]):
            if not mask[y, x]:
                continue
            value = (level[y, x] - low) * scale
            if value < 0:
                out[y, x] = 0
            elif value < steps:
                out[y, x] = np.uint16(value)
            else:
                out[y, x] = steps - 1
    return out


@njit(cache=True, nogil=True)
def _lowest(word):  # type: ignore[no-untyped-def]
    """The place of the lowest set bit of a non-zero 64-bit word."""
    place = 0
    for width in (32, 16, 8, 4, 2, 1):
        if word & ((np.uint64(1) << np.uint64(width)) - np.uint64(1)) == 0:
            word >>= np.uint64(width)
            place += width
    return place


@njit(cache=True, nogil=True, error_model="numpy")
def _flood(level, seeds, mask, low, high, steps):  # type: ignore[no-untyped-def]
    """Flood with one first-in-first-out queue per step: a chain of pixels, and one bit where it is not empty."""
    height, width = mask.shape
    quantised = _steps_of(level, mask, low, high, steps)
    out = np.zeros((height, width), np.int32)
    chain = np.empty(height * width, np.int64)
    first = np.full(steps, -1, np.int64)
    last = np.empty(steps, np.int64)
    words = np.zeros((steps + 63) // 64, np.uint64)
    present = np.int64(len(words))  # the first word that may have a bit
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                out[y, x] = seeds[y, x]
    for y in range(height):
        for x in range(width):
            if out[y, x] == 0:
                continue
            # Pixels inside a seed have nothing to flood.
            if (
                (y > 0 and mask[y - 1, x] and out[y - 1, x] == 0)
                or (x > 0 and mask[y, x - 1] and out[y, x - 1] == 0)
                or (x + 1 < width and mask[y, x + 1] and out[y, x + 1] == 0)
                or (y + 1 < height and mask[y + 1, x] and out[y + 1, x] == 0)
            ):
                step, pixel = np.int64(quantised[y, x]), y * width + x
                chain[pixel] = -1
                if first[step] < 0:
                    first[step] = pixel
                    words[step >> 6] |= np.uint64(1) << np.uint64(step & 63)
                    if step >> 6 < present:
                        present = step >> 6
                else:
                    chain[last[step]] = pixel
                last[step] = pixel
    while True:
        while present < len(words) and words[present] == 0:
            present += 1
        if present == len(words):
            return out
        step = present * 64 + _lowest(words[present])
        pixel = first[step]
        first[step] = chain[pixel]
        if first[step] < 0:
            words[present] &= ~(np.uint64(1) << np.uint64(step & 63))
        y, x = pixel // width, pixel % width
        label = out[y, x]
        for k in range(4):
            # Up, left, right, down: rows first, as everywhere.
            v, u = y + (k == 3) - (k == 0), x + (k == 2) - (k == 1)
            if v < 0 or u < 0 or v >= height or u >= width or not mask[v, u] or out[v, u] != 0:
                continue
            out[v, u] = label
            other, place = np.int64(quantised[v, u]), v * width + u
            chain[place] = -1
            if first[other] < 0:
                first[other] = place
                words[other >> 6] |= np.uint64(1) << np.uint64(other & 63)
                if other >> 6 < present:
                    present = other >> 6
            else:
                chain[last[other]] = place
            last[other] = place


@njit(cache=True, nogil=True)
def _shape_seeds(squares, min_ratio):  # type: ignore[no-untyped-def]
    """The merge tree of the depths: a part's root is its deepest pixel, of equals the first."""
    height, width = squares.shape
    flat = squares.ravel()
    # Sort the mask's pixels by falling square, of equals row by row.
    starts = np.zeros(flat.max() + 2, np.int64)
    for pixel in range(len(flat)):
        if flat[pixel] > 0:
            starts[flat[pixel]] += 1
    total = 0
    for square in range(len(starts) - 1, -1, -1):
        count = starts[square]
        starts[square] = total
        total += count
    order = np.empty(total, np.int64)
    for pixel in range(len(flat)):
        if flat[pixel] > 0:
            order[starts[flat[pixel]]] = pixel
            starts[flat[pixel]] += 1

    parents = np.full(len(flat), -1, np.int64)
    seed = np.zeros(len(flat), np.bool_)
    # Depths are compared by their squares, waist by waist.
    limit = min_ratio * min_ratio
    for k in range(total):
        pixel = order[k]
        y, x = pixel // width, pixel % width
        root = pixel
        parents[pixel] = pixel
        for turn in range(4):
            v, u = y + (turn == 3) - (turn == 0), x + (turn == 2) - (turn == 1)
            if v < 0 or u < 0 or v >= height or u >= width or parents[v * width + u] < 0:
                continue
            other = find_root(parents, v * width + u)
            if other == root:
                continue
            if flat[other] > flat[root] or (flat[other] == flat[root] and other < root):
                deeper, shallower = other, root
            else:
                deeper, shallower = root, other
            # A part that is no deeper than the waist is a slope or a plateau, not a part.
            if flat[shallower] > flat[pixel] and flat[pixel] < limit * flat[shallower]:
                seed[shallower] = True
            parents[shallower] = deeper
            root = deeper
    out = np.zeros((height, width), np.int32)
    numbered = 0
    for y in range(height):
        for x in range(width):
            pixel = y * width + x
            if seed[pixel] or parents[pixel] == pixel:
                numbered += 1
                out[y, x] = numbered
    return out
