"""COCO's run-length codes: lengths of the runs of background and object, column by column, from the first pixel.

COCO (Lin et al. 2014) writes them as a list of numbers ("uncompressed"), or as text ("compressed"): each length, from
the fourth on as its difference to the one before the last, in groups of five bits, the lowest first, as a character
from ``"0"`` (48) on; the bit 32 says that more groups follow, and the highest bit of the last group is the sign.

Codes are made from bit-packed masks (see :mod:`cytomask.geometry.bit_masks`) and turned into them, without the whole
image once per object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_room, window_areas
from cytomask.geometry.bit_masks import Packed, byte_offsets


def encode_masks(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, shape: tuple[int, int], compressed: bool = True
) -> list[dict[str, Any]]:
    """Write each mask as COCO's run-length code.

    Parameters
    ----------
    windows, bits, offsets
        The masks.
    shape
        Height and width of the image.
    compressed
        Whether ``counts`` shall be text, or a list of numbers.

    Returns
    -------
    list of dict
        ``{"size": [height, width], "counts": ...}``, ready for JSON.

    Examples
    --------
    >>> windows, bits, offsets = np.array([[0, 1, 2, 3]], np.int32), np.packbits([1, 1, 0, 1]), np.array([0, 1])
    >>> encode_masks(windows, bits, offsets, (2, 3), compressed=False)
    [{'size': [2, 3], 'counts': [2, 1, 1, 2]}]
    """
    runs, begins = _runs(windows, bits, offsets, shape[0], shape[1])
    size = [int(shape[0]), int(shape[1])]
    if not compressed:
        return [{"size": size, "counts": runs[a:b].tolist()} for a, b in pairwise(begins.tolist())]
    text, begins = _compress(runs, begins)
    whole = text.tobytes().decode("ascii")
    return [{"size": size, "counts": whole[a:b]} for a, b in pairwise(begins.tolist())]


def decode_masks(codes: Sequence[Mapping[str, Any]], shape: tuple[int, int], where: str = "rle") -> Packed:
    """Read COCO's run-length codes, compressed (text or bytes) or not, mixed as they come.

    Parameters
    ----------
    codes
        ``{"size": [height, width], "counts": ...}`` each.
    shape
        Height and width of the image, which every code must have.
    where
        Named in errors.

    Returns
    -------
    tuple
        The masks in their smallest windows.

    Raises
    ------
    LabelError
        If a code is of another size, broken off, or does not fill the image exactly, or the masks take far more room
        than so many runs can mean.

    Examples
    --------
    >>> windows, bits, offsets = decode_masks([{"size": [2, 3], "counts": [2, 1, 1, 2]}], (2, 3))
    >>> windows.tolist(), np.unpackbits(bits, count=4).tolist()
    ([[0, 1, 2, 3]], [1, 1, 0, 1])
    """
    counts = [_counts(code, shape, f"{where}[{i}]") for i, code in enumerate(codes)]
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(c) for c in counts], dtype=np.int64)])
    runs = np.concatenate([np.zeros(0, np.int64), *counts])
    windows = _windows_of_runs(runs, begins, shape[0])
    check_room(window_areas(windows).sum(), len(runs), where)
    offsets = byte_offsets(windows)
    bits = np.zeros(int(offsets[-1]), np.uint8)
    _paint_runs(runs, begins, shape[0], windows, bits, offsets)
    return windows, bits, offsets


def _counts(code: Mapping[str, Any], shape: tuple[int, int], where: str) -> np.ndarray:
    """The runs of one code, made sure of."""
    try:
        size, counts = tuple(int(n) for n in code["size"]), code["counts"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise LabelError(
            "a run-length code is not as COCO writes it", where=where, found=_short(code),
            expected='{"size": [height, width], "counts": ...}',
        ) from error  # fmt: skip
    if size != tuple(shape):
        raise LabelError(
            "a run-length code is for an image of another size", where=where,
            found=f"size {list(size)}", expected=f"{list(shape)}, height and width of the image",
            fix="COCO's size has the height first" if size == (shape[1], shape[0]) else None,
        )  # fmt: skip
    if isinstance(counts, str | bytes):
        text = counts if isinstance(counts, bytes) else counts.encode("utf-8", "surrogatepass")
        runs, valid = _decompress(np.frombuffer(text, np.uint8))
        if not valid:
            raise LabelError(
                "a compressed run-length code is broken", where=where, found=_short(counts),
                expected="characters from '0' to 'o' that end a number",
            )  # fmt: skip
    else:
        try:
            given = np.asarray(counts)
        except (ValueError, OverflowError):  # lists in lists
            given = np.zeros((1, 1))
        whole = given.ndim == 1 and (given.size == 0 or given.dtype.kind in "iu")
        if not whole:
            raise LabelError(
                "a run-length code is not as COCO writes it", where=where, found=_short(counts),
                expected="a list of whole numbers, or text",
            )  # fmt: skip
        runs = given.astype(np.int64)
    pixels = shape[0] * shape[1]
    # Each run is looked at on its own first, so that no sum of huge numbers can wrap round to the right one.
    if runs.size and (runs.min() < 0 or runs.max() > pixels):
        odd = int(runs[(runs < 0) | (runs > pixels)][0])
        raise LabelError(
            "a run-length code has a run of an impossible length", where=where, found=odd, expected=f"0 to {pixels}"
        )
    if runs.sum() != pixels:
        raise LabelError(
            "a run-length code does not fill its image", where=where, found=f"{int(runs.sum())} pixels",
            expected=f"{pixels} = {shape[0]} x {shape[1]}",
            fix="export the annotation again, or correct its size",
        )  # fmt: skip
    return runs


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


@njit(cache=True, nogil=True)
def _runs(windows: Any, bits: Any, offsets: Any, height: Any, width: Any) -> tuple[np.ndarray, np.ndarray]:
    begins = np.zeros(len(windows) + 1, np.int64)
    runs = np.empty(16 * len(windows) + 16, np.int64)
    n = 0
    for k in range(len(windows)):
        y0, x0 = np.int64(windows[k, 0]), np.int64(windows[k, 1])
        y1, x1 = np.int64(windows[k, 2]), np.int64(windows[k, 3])
        # At most one run begins at each pixel of the window, and one behind each column.
        room = n + (y1 - y0 + 2) * (x1 - x0) + 3
        if room > runs.size:
            more = np.empty(2 * room, np.int64)
            for i in range(n):
                more[i] = runs[i]
            runs = more
        position, inside = 0, False
        for x in range(x0, x1):
            p = 8 * offsets[k] + x - x0
            for y in range(y0, y1):
                here = bits[p >> 3] & (0x80 >> (p & 7)) != 0
                # Between two columns, the rows above and below the window are background.
                gap = y == y0 and inside and (y0 > 0 or y1 < height)
                if gap:
                    end = (x - 1) * height + y1
                    runs[n] = end - position
                    position, inside, n = end, False, n + 1
                if here != inside:
                    runs[n] = x * height + y - position
                    position, inside, n = x * height + y, here, n + 1
                p += x1 - x0
        if inside:
            end = (x1 - 1) * height + y1
            runs[n] = end - position
            position, n = end, n + 1
        if position < height * width or n == begins[k]:
            runs[n] = height * width - position
            n += 1
        begins[k + 1] = n
    return runs[:n], begins


@njit(cache=True, nogil=True)
def _compress(runs: Any, begins: Any) -> tuple[np.ndarray, np.ndarray]:
    # A run below 2 ** 62 takes at most 13 groups; few take more than four, so that room is made in between.
    text = np.empty(2 * runs.size + 64, np.uint8)
    places = np.zeros(begins.size, np.int64)
    n = 0
    for k in range(begins.size - 1):
        for i in range(begins[k], begins[k + 1]):
            if n + 16 > text.size:
                more = np.empty(2 * text.size, np.uint8)
                for j in range(n):
                    more[j] = text[j]
                text = more
            value = runs[i]
            if i - begins[k] > 2:
                value -= runs[i - 2]
            following = True
            while following:
                group = value & 31
                value >>= 5
                following = value != -1 if group & 16 else value != 0
                text[n] = 48 + group + (32 if following else 0)
                n += 1
        places[k + 1] = n
    return text[:n], places


@njit(cache=True, nogil=True)
def _decompress(text: Any) -> tuple[np.ndarray, bool]:
    runs = np.empty(text.size, np.int64)
    n, shift, value, following = 0, 0, np.int64(0), False
    for character in text:
        group = np.int64(character) - 48
        # Sixty bits hold any run; longer ones are no lengths of runs.
        if group < 0 or group > 63 or shift > 55:
            return runs[:n], False
        value |= (group & 31) << shift
        shift += 5
        following = group & 32 != 0
        if not following:
            if group & 16:
                value |= np.int64(-1) << shift
            if n > 2:
                value += runs[n - 2]
            runs[n] = value
            n, shift, value = n + 1, 0, np.int64(0)
    return runs[:n], not following


@njit(cache=True, nogil=True)
def _windows_of_runs(runs: Any, begins: Any, height: int) -> np.ndarray:
    windows = np.zeros((begins.size - 1, 4), np.int32)
    for k in range(begins.size - 1):
        top, bottom, left, right = height, 0, -1, 0
        position = 0
        for i in range(begins[k], begins[k + 1]):
            end = position + runs[i]
            if (i - begins[k]) & 1 and end > position:
                first, last = position // height, (end - 1) // height
                if left < 0:
                    left = first
                right = last + 1
                # A run that goes on in the next column reaches the lower and the upper edge.
                top = min(top, position - first * height if first == last else 0)
                bottom = max(bottom, end - last * height if first == last else height)
            position = end
        if left >= 0:
            windows[k, 0], windows[k, 1], windows[k, 2], windows[k, 3] = top, left, bottom, right
    return windows


@njit(cache=True, nogil=True)
def _paint_runs(runs: Any, begins: Any, height: int, windows: Any, bits: Any, offsets: Any) -> None:
    for k in range(begins.size - 1):
        y0, x0, x1 = np.int64(windows[k, 0]), np.int64(windows[k, 1]), np.int64(windows[k, 3])
        position = 0
        for i in range(begins[k], begins[k + 1]):
            end = position + runs[i]
            if (i - begins[k]) & 1:
                x = position // height if height else 0
                y = position - x * height
                p = 8 * offsets[k] + (y - y0) * (x1 - x0) + x - x0
                for _ in range(position, end):
                    bits[p >> 3] |= 0x80 >> (p & 7)
                    y += 1
                    p += x1 - x0
                    if y == height:
                        y, x = 0, x + 1
                        p = 8 * offsets[k] - y0 * (x1 - x0) + x - x0
            position = end
