"""Change the windows of bit-packed masks: make them tight, cut them at a border, bring them to another pixel grid.

The layout of the masks is told in :mod:`cytomask.geometry.bit_masks`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cytomask.geometry.bit_masks import Packed, byte_offsets


def tight_windows(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, clip: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Find the smallest window around the pixels of each mask.

    Parameters
    ----------
    windows, bits, offsets
        The masks.
    clip
        Only pixels inside ``(y0, x0, y1, x1)`` count; None: all.

    Returns
    -------
    numpy.ndarray
        int32 ``(N, 4)``; of no height and width, at the old corner, where a mask has no such pixel.

    Examples
    --------
    >>> mask = np.array([[0, 0, 0], [0, 1, 1]], bool)
    >>> tight_windows(np.array([[4, 4, 6, 7]], np.int32), np.packbits(mask), np.array([0, 1]))
    array([[5, 5, 6, 7]], dtype=int32)
    """
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    return _tight(windows, bits, offsets, np.array(clip if clip is not None else (low, low, high, high), np.int64))


@njit(cache=True, nogil=True)
def _tight(windows: Any, bits: Any, offsets: Any, clip: Any) -> np.ndarray:
    tight = np.empty_like(windows)
    for k in range(len(windows)):
        y0, x0 = np.int64(windows[k, 0]), np.int64(windows[k, 1])
        y1, x1 = np.int64(windows[k, 2]), np.int64(windows[k, 3])
        left, right = max(x0, clip[1]), min(x1, clip[3])
        top, bottom, first, last = y1, y0, x1, x0
        for row in range(max(y0, clip[0]), min(y1, clip[2])):
            y = np.int64(row)
            at = 8 * offsets[k] + (y - y0) * (x1 - x0) - x0
            x = left
            # From the left to the first pixel of this row, then from the right to the last.
            while x < right:
                p = at + x
                if (p & 7) == 0 and bits[p >> 3] == 0:
                    x += 8
                    continue
                if bits[p >> 3] & (0x80 >> (p & 7)):
                    break
                x += 1
            if x >= right:
                continue
            end = right
            while end > max(x + 1, last):
                p = at + end - 1
                if bits[p >> 3] & (0x80 >> (p & 7)):
                    break
                end -= 1
            first, last = min(first, x), max(last, end)
            top, bottom = min(top, y), y + 1
        if top >= bottom:
            top, first, bottom, last = y0, x0, y0, x0
        tight[k, 0], tight[k, 1], tight[k, 2], tight[k, 3] = top, first, bottom, last
    return tight


def recut_masks(windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, wanted: np.ndarray) -> Packed:
    """Cut the same masks out by other windows; what lies outside the new window is lost.

    Parameters
    ----------
    windows, bits, offsets
        The masks.
    wanted
        int32 ``(N, 4)``: their new windows.

    Returns
    -------
    tuple
        The masks in ``wanted``.

    Examples
    --------
    >>> windows, bits, offsets = np.array([[0, 0, 2, 2]], np.int32), np.packbits([1, 0, 1, 1]), np.array([0, 1])
    >>> windows, bits, offsets = recut_masks(windows, bits, offsets, np.array([[1, 0, 2, 3]], np.int32))
    >>> np.unpackbits(bits, count=3)
    array([1, 1, 0], dtype=uint8)
    """
    wanted = np.ascontiguousarray(wanted, np.int32)
    if np.array_equal(windows, wanted):
        return windows, bits, offsets
    new_offsets = byte_offsets(wanted)
    new_bits = np.zeros(int(new_offsets[-1]), np.uint8)
    _copy_rows(windows, bits, offsets, wanted, new_bits, new_offsets)
    return wanted, new_bits, new_offsets


@njit(cache=True, nogil=True)
def _copy_rows(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray,
    wanted: np.ndarray, new_bits: np.ndarray, new_offsets: np.ndarray,
) -> None:  # fmt: skip
    for k in range(len(windows)):
        y0, x0, x1 = np.int64(windows[k, 0]), np.int64(windows[k, 1]), np.int64(windows[k, 3])
        to_y0, to_x0, to_x1 = np.int64(wanted[k, 0]), np.int64(wanted[k, 1]), np.int64(wanted[k, 3])
        left, right = max(x0, to_x0), min(x1, to_x1)
        for y in range(max(y0, to_y0), min(np.int64(windows[k, 2]), np.int64(wanted[k, 2]))):
            source = 8 * offsets[k] + (y - y0) * (x1 - x0) - x0
            target = 8 * new_offsets[k] + (y - to_y0) * (to_x1 - to_x0) - to_x0
            for x in range(left, right, 8):
                _or_byte(new_bits, target + x, _byte_at(bits, source + x, right - x))


@njit(cache=True, nogil=True)
def _byte_at(bits: Any, p: Any, count: Any) -> Any:
    """The next eight bits from any position on; those from ``count`` on are cleared."""
    byte, shift = p >> 3, p & 7
    value = np.int64(bits[byte]) << 8
    if shift and byte + 1 < bits.size:
        value |= np.int64(bits[byte + 1])
    value = (value >> (8 - shift)) & 0xFF
    if count < 8:
        value &= 0xFF00 >> count
    return value


@njit(cache=True, nogil=True)
def _or_byte(bits: Any, p: Any, value: Any) -> None:
    byte, shift = p >> 3, p & 7
    bits[byte] |= value >> shift
    rest = (value << (8 - shift)) & 0xFF
    if shift and rest:
        bits[byte + 1] |= rest


def resample_masks(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, shape: tuple[int, int], new_shape: tuple[int, int]
) -> Packed:
    """Bring masks to another pixel grid over the same field, each new pixel taking the old one under its centre.

    Parameters
    ----------
    windows, bits, offsets
        The masks.
    shape, new_shape
        Height and width of the image, before and after.

    Returns
    -------
    tuple
        The masks on the new grid. A mask that no pixel centre falls into has no pixel.

    Examples
    --------
    >>> windows, bits, offsets = np.array([[0, 1, 1, 2]], np.int32), np.packbits([1]), np.array([0, 1])
    >>> resample_masks(windows, bits, offsets, (2, 2), (4, 6))[0]
    array([[0, 3, 2, 6]], dtype=int32)
    """
    rows, columns = (_sources(n, m) for n, m in zip(shape, new_shape))
    wanted = np.stack(
        [np.searchsorted(source, windows[:, axis]) for axis, source in enumerate((rows, columns, rows, columns))],
        axis=1,
    ).astype(np.int32)
    new_offsets = byte_offsets(wanted)
    new_bits = np.zeros(int(new_offsets[-1]), np.uint8)
    _sample(windows, bits, offsets, rows, columns, wanted, new_bits, new_offsets)
    return wanted, new_bits, new_offsets


def _sources(size: int, new_size: int) -> np.ndarray:
    """The old pixel under the centre of each new pixel, reckoned in whole numbers, so that no rounding can differ."""
    return (2 * np.arange(new_size, dtype=np.int64) + 1) * size // (2 * new_size)


@njit(cache=True, nogil=True)
def _sample(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, rows: np.ndarray, columns: np.ndarray,
    wanted: np.ndarray, new_bits: np.ndarray, new_offsets: np.ndarray,
) -> None:  # fmt: skip
    for k in range(len(windows)):
        y0, x0, x1 = np.int64(windows[k, 0]), np.int64(windows[k, 1]), np.int64(windows[k, 3])
        target = 8 * new_offsets[k]
        for y in range(wanted[k, 0], wanted[k, 2]):
            source = 8 * offsets[k] + (rows[y] - y0) * (x1 - x0) - x0
            for x in range(wanted[k, 1], wanted[k, 3]):
                p = source + columns[x]
                if bits[p >> 3] & (0x80 >> (p & 7)):
                    new_bits[target >> 3] |= 0x80 >> (target & 7)
                target += 1
