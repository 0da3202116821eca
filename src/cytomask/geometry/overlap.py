"""How much the objects of two annotations overlap: sparse tables of shared pixels, counted in one pass.

Only pairs that share a pixel are stored, so ids may be as large and as sparse as they like.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cytomask.errors import LabelError

#: Pixels compared at a time with the run they may continue.
_STRIDE = 8
#: Table places at the start (a power of two); grown when half full.
_FIRST_SIZE = 1024
_LARGEST_ID = np.iinfo(np.int32).max
#: How many bits are set in a byte.
BITS_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def overlap_table(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels of every pair of values that two label images have at the same place.

    The sparse form of a contingency table: the background is a value like any other, so the counts of a value add up
    to its area, and all counts to the image's.

    Parameters
    ----------
    a, b
        Label images of the same shape, any integer type, values from 0 to 2147483647.

    Returns
    -------
    tuple
        ``(ids_a, ids_b, counts)``: int32, int32 and int64, one entry per pair that occurs, sorted by the first id,
        then by the second.

    Raises
    ------
    LabelError
        If the shapes differ, or values are negative, too large, or no integers.

    Examples
    --------
    >>> a = np.array([[0, 7, 7], [0, 7, 7]])
    >>> b = np.array([[0, 0, 5], [0, 5, 5]])
    >>> for id_a, id_b, count in zip(*overlap_table(a, b)):
    ...     print(id_a, id_b, count)
    0 0 2
    7 0 1
    7 5 3
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise LabelError("two label images differ in size", found=f"{a.shape} and {b.shape}", expected="the same shape")
    # Two types only, so that the kernel is compiled at most twice; the small one saves half the memory traffic.
    small = a.dtype.itemsize <= 2 and b.dtype.itemsize <= 2 and a.dtype.kind in "ub" and b.dtype.kind in "ub"
    a, b = (np.ascontiguousarray(_integers(x, small)).reshape(-1) for x in (a, b))
    if a.size == 0:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64)
    keys, counts = _count_pairs(a, b)
    order = np.argsort(keys)
    keys, counts = keys[order], counts[order]
    ids_a, ids_b = (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)
    if ids_a[0] < 0 or ids_b.min() < 0:
        raise LabelError("a label image has negative values", found=min(ids_a[0], ids_b.min()), expected="0 or more")
    return ids_a, ids_b, counts


def _integers(labels: np.ndarray, small: bool) -> np.ndarray:
    if small:
        return labels.astype(np.uint16, copy=False)
    if labels.dtype.kind not in "iub":
        raise LabelError("labels must be integers", found=labels.dtype, expected="an integer type")
    if labels.dtype.itemsize >= 4 and labels.dtype != np.int32 and labels.size and labels.max() > _LARGEST_ID:
        raise LabelError(
            "a label image has values that are too large",
            found=labels.max(),
            expected=f"at most {_LARGEST_ID}",
            fix="number the objects anew with relabel_sequential",
        )
    if labels.dtype.itemsize > 4 and labels.size and labels.min() < 0:
        raise LabelError("a label image has negative values", found=labels.min(), expected="0 or more")
    return labels.astype(np.int32, copy=False)


def relabel_sequential(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the objects of a label image 1, 2, 3 … in the order of their ids.

    Parameters
    ----------
    labels
        Integers of any type and shape, 0 for the background.

    Returns
    -------
    tuple
        The new labels (int32), and the old ids in their own type: ``ids[k - 1]`` was the id of object ``k``.

    Raises
    ------
    LabelError
        If the values are negative or no integers.

    Examples
    --------
    >>> labels, ids = relabel_sequential(np.array([0, 50, 9, 50]))
    >>> labels, ids
    (array([0, 2, 1, 2], dtype=int32), array([ 9, 50]))
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise LabelError("labels must be integers", found=labels.dtype, expected="an integer type")
    values, inverse = np.unique(labels, return_inverse=True)
    if values.size and values[0] < 0:
        raise LabelError("a label image has negative values", found=values[0], expected="0 or more")
    has_background = bool(values.size) and values[0] == 0
    numbers = inverse.reshape(labels.shape).astype(np.int32)
    return (numbers, values[1:]) if has_background else (numbers + np.int32(1), values)


def mask_overlaps(
    windows_a: np.ndarray,
    bits_a: np.ndarray,
    offsets_a: np.ndarray,
    windows_b: np.ndarray,
    bits_b: np.ndarray,
    offsets_b: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the shared pixels of every pair of bit-packed masks, from two sets whose members may overlap.

    Parameters
    ----------
    windows_a, windows_b
        Integers ``(N, 4)``: the window ``(y0, x0, y1, x1)`` of each mask, half-open.
    bits_a, bits_b
        uint8: the masks, each flattened row by row and packed by ``np.packbits`` from a new byte on.
    offsets_a, offsets_b
        int64 ``(N + 1,)``: where in ``bits`` each mask begins and ends.

    Returns
    -------
    tuple
        ``(index_a, index_b, counts)``, int64: the pairs that share a pixel, sorted by the first index, then the second.

    Examples
    --------
    >>> square = np.packbits(np.ones(16, bool))
    >>> one, two = np.array([[0, 0, 4, 4]]), np.array([[2, 1, 6, 5]])
    >>> mask_overlaps(one, square, np.array([0, 2]), two, square, np.array([0, 2]))
    (array([0]), array([0]), array([6]))
    """
    windows_a, windows_b = (np.ascontiguousarray(w, np.int64).reshape(-1, 4) for w in (windows_a, windows_b))
    order = np.argsort(windows_b[:, 0], kind="stable")
    index_a, index_b, counts = _count_shared(
        windows_a,
        np.ascontiguousarray(bits_a, np.uint8),
        np.ascontiguousarray(offsets_a, np.int64),
        windows_b[order],
        np.ascontiguousarray(bits_b, np.uint8),
        np.ascontiguousarray(offsets_b, np.int64)[:-1][order],
        BITS_SET,
    )
    index_b = order[index_b].astype(np.int64)
    sort = np.lexsort((index_b, index_a))
    return index_a[sort], index_b[sort], counts[sort]


@njit(cache=True, nogil=True, inline="always")
def _place(key: np.int64, mask: np.uint64) -> np.uint64:
    """The first place to look for a key (Fibonacci hashing)."""
    return ((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask


@njit(cache=True, nogil=True)
def _add(keys: np.ndarray, counts: np.ndarray, mask: np.uint64, key: np.int64, count: np.int64) -> np.int64:
    """Add to a key's count; return 1 if the key is new."""
    place = _place(key, mask)
    while counts[place] != 0 and keys[place] != key:
        place = (place + np.uint64(1)) & mask
    new = counts[place] == 0
    keys[place] = key
    counts[place] += count
    return np.int64(new)


@njit(cache=True, nogil=True)
def _grown(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    more_keys = np.zeros(4 * keys.size, np.int64)
    more_counts = np.zeros(4 * keys.size, np.int64)
    mask = np.uint64(more_keys.size - 1)
    for i in range(keys.size):
        if counts[i] != 0:
            _add(more_keys, more_counts, mask, keys[i], counts[i])
    return more_keys, more_counts


@njit(cache=True, nogil=True)
def _fill(a: np.ndarray, b: np.ndarray, begin: np.uint64, keys: np.ndarray, counts: np.ndarray) -> np.uint64:
    """Count pairs run by run from a position on, until all is counted or the table is half full; return where it ended.

    Label images are mostly long runs of one pair, which are compared a stride at a time. Unsigned positions spare the
    check for negative indices, so that this happens in vector registers.
    """
    n, stride, one = np.uint64(a.size), np.uint64(_STRIDE), np.uint64(1)
    mask, room = np.uint64(keys.size - 1), np.int64(keys.size // 2)
    i, start = begin, begin
    id_a, id_b = a[i], b[i]
    while i < n:
        end = i + one
        if i + stride <= n:
            end = i + stride
            differ = np.int32(0)
            for k in range(_STRIDE):
                j = i + np.uint64(k)
                differ |= (a[j] ^ id_a) | (b[j] ^ id_b)
            if differ == 0:
                i = end
                continue
        while i < end:
            if (a[i] ^ id_a) | (b[i] ^ id_b):
                key = (np.int64(id_a) << 32) | (np.int64(id_b) & 0xFFFFFFFF)
                room -= _add(keys, counts, mask, key, np.int64(i - start))
                if room == 0:
                    return i
                id_a, id_b, start = a[i], b[i], i
            i += one
    _add(keys, counts, mask, (np.int64(id_a) << 32) | (np.int64(id_b) & 0xFFFFFFFF), np.int64(n - start))
    return n


@njit(cache=True, nogil=True)
def _count_pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys, counts = np.zeros(_FIRST_SIZE, np.int64), np.zeros(_FIRST_SIZE, np.int64)
    position, end = np.uint64(0), np.uint64(a.size)
    while position < end:
        position = _fill(a, b, position, keys, counts)
        if position < end:
            keys, counts = _grown(keys, counts)
    occupied = np.flatnonzero(counts)
    return keys[occupied], counts[occupied]


@njit(cache=True, nogil=True, inline="always")
def _byte_at(bits: np.ndarray, first: int, bit: int) -> np.int64:
    """Eight bits from any bit position on; beyond the buffer there are zeros."""
    byte, shift = first + (bit >> 3), bit & 7
    value = np.int64(bits[byte]) << 8
    if shift and byte + 1 < bits.size:
        value |= np.int64(bits[byte + 1])
    return (value >> (8 - shift)) & 0xFF


@njit(cache=True, nogil=True)
def shared_pixels(
    window_a: np.ndarray, bits_a: np.ndarray, first_a: int, window_b: np.ndarray, bits_b: np.ndarray, first_b: int,
    bits_set: np.ndarray,
) -> int:  # fmt: skip
    """Count the pixels that two bit-packed masks share; ``bits_set`` is ``BITS_SET``. For compiled code."""
    y0, x0 = max(window_a[0], window_b[0]), max(window_a[1], window_b[1])
    y1, x1 = min(window_a[2], window_b[2]), min(window_a[3], window_b[3])
    shared = 0
    for y in range(y0, y1):
        row_a = (y - window_a[0]) * (window_a[3] - window_a[1]) - window_a[1]
        row_b = (y - window_b[0]) * (window_b[3] - window_b[1]) - window_b[1]
        for x in range(x0, x1, 8):
            both = _byte_at(bits_a, first_a, row_a + x) & _byte_at(bits_b, first_b, row_b + x)
            if x1 - x < 8:
                both &= (0xFF00 >> (x1 - x)) & 0xFF
            shared += bits_set[both]
    return shared


@njit(cache=True, nogil=True)
def _count_shared(
    windows_a: np.ndarray, bits_a: np.ndarray, offsets_a: np.ndarray,
    windows_b: np.ndarray, bits_b: np.ndarray, offsets_b: np.ndarray, bits_set: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Find pairs by a sweep over the rows: ``windows_b`` is sorted by its first row."""
    n = len(windows_b)
    tallest = 0
    for j in range(n):
        tallest = max(tallest, windows_b[j, 2] - windows_b[j, 0])
    tops = windows_b[:, 0].copy()
    room = max(16, 4 * len(windows_a))
    index_a, index_b, counts = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    found = 0
    for i in range(len(windows_a)):
        window = windows_a[i]
        # A mask that begins more than the tallest mask's height above this one ends before it.
        for j in range(np.searchsorted(tops, window[0] - tallest), np.searchsorted(tops, window[2])):
            other = windows_b[j]
            if other[2] <= window[0] or other[1] >= window[3] or other[3] <= window[1]:
                continue
            shared = shared_pixels(window, bits_a, offsets_a[i], other, bits_b, offsets_b[j], bits_set)
            if shared == 0:
                continue
            if found == room:
                room *= 2
                more_a, more_b, more = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
                more_a[:found], more_b[:found], more[:found] = index_a, index_b, counts
                index_a, index_b, counts = more_a, more_b, more
            index_a[found], index_b[found], counts[found] = i, j, shared
            found += 1
    return index_a[:found].copy(), index_b[:found].copy(), counts[:found].copy()
