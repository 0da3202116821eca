"""Bit-packed masks: from label images, into label images, and picked out of a buffer, in one pass each.

A set of masks is three arrays: ``windows`` int32 ``(N, 4)``, the crop ``(y0, x0, y1, x1)`` of each mask, half-open;
``bits`` uint8, where each mask lies flattened row by row and packed as by ``np.packbits`` from a byte of its own on;
and ``offsets`` int64 ``(N + 1,)``, the byte where each mask begins, and the end. Bits behind the last pixel are zero.

No step looks at the whole image once per object: the cost is that of the pixels, whatever the number of objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cytomask.errors import LabelError

_LARGEST_ID = np.iinfo(np.int32).max
#: Places of the table of ids at the start (a power of two); enlarged when half full.
_FIRST_SIZE = 256
#: How many bits are set in a byte.
_BITS_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)

#: Windows, bits and offsets of a set of masks.
Packed = tuple[np.ndarray, np.ndarray, np.ndarray]


def byte_offsets(windows: np.ndarray) -> np.ndarray:
    """Where each mask begins when they are packed one behind the other, int64 ``(N + 1,)``.

    Examples
    --------
    >>> byte_offsets(np.array([[0, 0, 3, 3], [5, 5, 6, 6]]))
    array([0, 2, 3])
    """
    wide = windows.astype(np.int64)
    pixels = (wide[:, 2] - wide[:, 0]) * (wide[:, 3] - wide[:, 1])
    return np.concatenate([np.zeros(1, np.int64), np.cumsum((pixels + 7) >> 3)])


def as_label_array(labels: np.ndarray, where: str | None = None) -> np.ndarray:
    """Bring a label image to one of the two types that the kernels are compiled for, uint16 or int32.

    Parameters
    ----------
    labels
        Integers (or booleans) of any type, ``(Y, X)``.
    where
        Named in errors.

    Returns
    -------
    numpy.ndarray
        uint16 or int32, contiguous; the same memory where that is possible.

    Raises
    ------
    LabelError
        If the array has another number of axes, is not of integers, or holds a value below 0 or above 2147483647.

    Examples
    --------
    >>> as_label_array(np.array([[0, 70000]])).dtype
    dtype('int32')
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise LabelError(
            "a label image has two axes", where=where, found=f"shape {labels.shape}", expected="(height, width)"
        )
    if labels.dtype.kind not in "iub":
        raise LabelError(
            "labels must be integers",
            where=where,
            found=labels.dtype,
            expected="an integer type",
            fix="convert it, labels.astype(np.int32), if all its values are whole numbers",
        )
    if labels.dtype.kind in "ub" and labels.dtype.itemsize <= 2:
        return np.ascontiguousarray(labels, np.uint16)
    if labels.size and labels.dtype != np.int32:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high > _LARGEST_ID:
            raise LabelError(
                "a label image has values that are no object ids",
                where=where,
                found=low if low < 0 else high,
                expected=f"0 for the background, and ids from 1 to {_LARGEST_ID}",
                fix="number the objects anew with relabel_sequential" if low >= 0 else None,
            )
    return np.ascontiguousarray(labels, np.int32)


def pack_labels(labels: np.ndarray, where: str | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut every object of a label image out.

    Parameters
    ----------
    labels
        Integers ``(Y, X)``, 0 for the background; ids may be as large and as sparse as they like.
    where
        Named in errors.

    Returns
    -------
    tuple
        ``(ids, windows, bits, offsets)``: the ids (int32, ascending), and the masks in their tight windows.

    Raises
    ------
    LabelError
        As :func:`as_label_array`.

    Examples
    --------
    >>> ids, windows, bits, offsets = pack_labels(np.array([[0, 9, 9], [4, 0, 9]]))
    >>> ids.tolist(), windows.tolist(), bits.tolist(), offsets.tolist()
    ([4, 9], [[1, 0, 2, 1], [0, 1, 2, 3]], [128, 208], [0, 1, 2])
    """
    labels = as_label_array(labels, where)
    ids, windows, keys, places = _find_objects(labels)
    order = _order_of_ids(ids, where)
    ids, windows = ids[order], windows[order]
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    offsets = byte_offsets(windows)
    bits = np.zeros(int(offsets[-1]), np.uint8)
    _set_runs(labels, keys, places, rank, windows, bits, offsets)
    return ids, windows, bits, offsets


def label_windows(labels: np.ndarray, where: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Find the ids of a label image (int32, ascending), and the tight window of each, int32 ``(N, 4)``.

    Examples
    --------
    >>> ids, windows = label_windows(np.array([[0, 9, 9], [4, 0, 9]]))
    >>> ids.tolist(), windows.tolist()
    ([4, 9], [[1, 0, 2, 1], [0, 1, 2, 3]])
    """
    ids, windows, _, _ = _find_objects(as_label_array(labels, where))
    order = _order_of_ids(ids, where)
    return ids[order], windows[order]


def _order_of_ids(ids: np.ndarray, where: str | None) -> np.ndarray:
    order = np.argsort(ids)
    if len(ids) and ids[order[0]] < 0:
        raise LabelError(
            "a label image has values that are no object ids",
            where=where,
            found=int(ids[order[0]]),
            expected="0 for the background, and ids from 1",
        )
    return order


@njit(cache=True, nogil=True)
def _place(keys: Any, key: Any) -> Any:
    """Where a key is in the table, or would be (Fibonacci hashing); 0 marks a free place."""
    mask = np.int64(keys.size - 1)
    place = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while keys[place] != 0 and keys[place] != key:
        place = (place + 1) & mask
    return place


def _find_objects(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Collect ids and windows; also the table (keys, and the position of each key among the ids)."""
    room = _FIRST_SIZE // 2
    ids, windows = np.empty(room, np.int32), np.empty((room, 4), np.int32)
    keys, places = np.zeros(2 * room, np.int32), np.zeros(2 * room, np.int32)
    row, n = _collect(labels, 0, keys, places, ids, windows, 0)
    while row < len(labels):
        room *= 4
        ids, windows = np.resize(ids, room), np.resize(windows, (room, 4))
        keys, places = np.zeros(2 * room, np.int32), np.zeros(2 * room, np.int32)
        _insert(keys, places, ids, n)
        # The row is read again from its beginning: windows that hold its runs already do not change.
        row, n = _collect(labels, row, keys, places, ids, windows, n)
    return ids[:n], windows[:n], keys, places


@njit(cache=True, nogil=True)
def _insert(keys: np.ndarray, places: np.ndarray, ids: np.ndarray, n: int) -> None:
    for i in range(n):
        place = _place(keys, ids[i])
        keys[place], places[place] = ids[i], i


@njit(cache=True, nogil=True)
def _collect(labels: Any, y: int, keys: Any, places: Any, ids: np.ndarray, windows: Any, n: int) -> tuple[int, int]:
    """Widen the windows run by run until the end or until there is no room for another id; return row and number."""
    height, width = labels.shape
    while y < height:
        x = 0
        while x < width:
            label = labels[y, x]
            if label == 0:
                x += 1
                continue
            start = x
            x += 1
            while x < width and labels[y, x] == label:
                x += 1
            key = np.int32(label)
            place = _place(keys, key)
            if keys[place] == 0:
                if n == ids.size:
                    return y, n
                keys[place], places[place], ids[n] = key, n, key
                windows[n, 0], windows[n, 1], windows[n, 2], windows[n, 3] = y, start, y + 1, x
                n += 1
            else:
                k = places[place]
                windows[k, 1] = min(windows[k, 1], start)
                windows[k, 2] = y + 1
                windows[k, 3] = max(windows[k, 3], x)
        y += 1
    return y, n


@njit(cache=True, nogil=True)
def set_run(bits: Any, begin: Any, end: Any) -> None:
    """Set the bits from ``begin`` up to, without, ``end``."""
    first, last = begin >> 3, end >> 3
    if first == last:
        bits[first] |= (0xFF >> (begin & 7)) & (0xFF00 >> (end & 7)) & 0xFF
        return
    bits[first] |= 0xFF >> (begin & 7)
    for byte in range(first + 1, last):
        bits[byte] = 0xFF
    if end & 7:
        bits[last] |= (0xFF00 >> (end & 7)) & 0xFF


@njit(cache=True, nogil=True)
def _set_runs(
    labels: np.ndarray, keys: np.ndarray, places: np.ndarray, rank: np.ndarray,
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray,
) -> None:  # fmt: skip
    height, width = labels.shape
    for y in range(height):
        row = labels[y]
        x = 0
        while x < width:
            label = row[x]
            if label == 0:
                x += 1
                continue
            start = x
            x += 1
            while x < width and row[x] == label:
                x += 1
            k = rank[places[_place(keys, np.int32(label))]]
            y0, x0, x1 = np.int64(windows[k, 0]), np.int64(windows[k, 1]), np.int64(windows[k, 3])
            at = 8 * offsets[k] + (y - y0) * (x1 - x0) - x0
            set_run(bits, at + start, at + x)


@njit(cache=True, nogil=True)
def paint_translated(out: np.ndarray, labels: np.ndarray, ids: np.ndarray, values: np.ndarray) -> None:
    """Paint the objects of a label image into another image, each with a value of its own; the background stays.

    Parameters
    ----------
    out
        ``(Y, X)``, changed in place.
    labels
        int32 ``(Y, X)``, 0 for the background.
    ids
        int32 ``(N,)``: all ids of the label image, ascending.
    values
        The value of each id, in the type of ``out``.
    """
    height, width = labels.shape
    last, value = np.int32(0), out.dtype.type(0)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label != 0:
                if label != last:
                    last, value = label, values[np.searchsorted(ids, label)]
                out[y, x] = value


@njit(cache=True, nogil=True)
def paint_masks(
    out: np.ndarray, order: np.ndarray, windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, values: np.ndarray
) -> None:
    """Paint masks into an image, one over the other.

    Parameters
    ----------
    out
        ``(Y, X)``, changed in place. The windows must lie in it (empty ones may lie anywhere).
    order
        int64: which masks to paint, the topmost last.
    windows, bits, offsets
        The masks.
    values
        The value of each mask, in the type of ``out``.
    """
    for k in order:
        p, value = 8 * offsets[k], values[k]
        for y in range(windows[k, 0], windows[k, 2]):
            row = out[y]
            x, end = np.int64(windows[k, 1]), np.int64(windows[k, 3])
            while x < end:
                byte = bits[p >> 3]
                room = min(8 - (p & 7), end - x)
                if byte != 0:
                    for j in range(room):
                        if byte & (0x80 >> ((p & 7) + j)):
                            row[x + j] = value
                x += room
                p += room


@njit(cache=True, nogil=True)
def _count_bits(bits: np.ndarray, offsets: np.ndarray, bits_set: np.ndarray) -> np.ndarray:
    areas = np.zeros(offsets.size - 1, np.int64)
    for k in range(areas.size):
        for byte in range(offsets[k], offsets[k + 1]):
            areas[k] += bits_set[bits[byte]]
    return areas


def mask_areas(bits: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Count the pixels of each mask, int64 ``(N,)``.

    Examples
    --------
    >>> mask_areas(np.array([0b11100000, 0, 0b10000000], np.uint8), np.array([0, 1, 3]))
    array([3, 1])
    """
    return _count_bits(bits, offsets, _BITS_SET)


@njit(cache=True, nogil=True)
def _gather(bits: np.ndarray, begins: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    out = np.empty(offsets[-1], np.uint8)
    for k in range(begins.size):
        for byte in range(offsets[k + 1] - offsets[k]):
            out[offsets[k] + byte] = bits[begins[k] + byte]
    return out


def take_masks(bits: np.ndarray, offsets: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Copy some masks, in the given order, into a buffer of their own: ``(bits, offsets)``.

    Examples
    --------
    >>> take_masks(np.array([1, 2, 3], np.uint8), np.array([0, 1, 3]), np.array([1, 0]))
    (array([2, 3, 1], dtype=uint8), array([0, 2, 3]))
    """
    lengths = np.diff(offsets)[index]
    picked = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return _gather(bits, offsets[:-1][index], picked), picked
