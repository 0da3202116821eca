"""Make sure that bit-packed masks are consistent, before a kernel that does not check its bounds is given them.

The layout of the masks is told in :mod:`cytomask.geometry.bit_masks`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from cytomask.errors import LabelError
from cytomask.geometry.bit_masks import Packed, byte_offsets

#: So many pixels may be asked for by whatever file, and so many more by each number of points or runs in it.
_BELIEVED, _PER_NUMBER = 2**28, 2**13


def check_room(pixels: float, numbers: int, where: str) -> None:
    """Refuse masks that ask for far more memory or time than what tells them can mean.

    Parameters
    ----------
    pixels
        Pixels of all windows, or steps along all outlines.
    numbers
        How many points or runs tell the masks.
    where
        Named in the error.

    Raises
    ------
    LabelError
        If there are more than 2 ** 28 pixels, and 8192 more for each number.

    Examples
    --------
    >>> check_room(2**40, 4, "polygons")
    Traceback (most recent call last):
    cytomask.errors.LabelError: the objects cover far more than what is told of them can mean
      where:    polygons
      found:    1.1e+12 pixels, told by 4 points or runs
      expected: at most 268468224
      to do:    check the coordinates, and leave out outlines that are no objects
    """
    most = _BELIEVED + _PER_NUMBER * numbers
    if not pixels <= most:
        raise LabelError(
            "the objects cover far more than what is told of them can mean", where=where,
            found=f"{pixels:.2g} pixels, told by {numbers} points or runs", expected=f"at most {most}",
            fix="check the coordinates, and leave out outlines that are no objects",
        )  # fmt: skip


def window_areas(windows: np.ndarray) -> np.ndarray:
    """Pixels of each window, int64 ``(N,)``."""
    wide = windows.astype(np.int64)
    return np.asarray((wide[:, 2] - wide[:, 0]) * (wide[:, 3] - wide[:, 1]))


def check_shape(shape: Any) -> tuple[int, int]:
    """Read height and width of an image.

    Raises
    ------
    LabelError
        If it is not two whole numbers from 0.

    Examples
    --------
    >>> check_shape(np.array([4, 5]))
    (4, 5)
    """
    try:
        height, width = (int(n) for n in shape)
        valid = height >= 0 and width >= 0 and (height, width) == tuple(shape)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise LabelError(
            "the shape is not the height and width of an image",
            where="shape", found=repr(shape), expected="two whole numbers, (height, width)",
        )  # fmt: skip
    return height, width


def check_column(name: str, values: ArrayLike, tail: tuple[int, ...], dtype: DTypeLike, n: int | None) -> np.ndarray:
    """Bring one array of a structure of arrays to its type, if nothing is lost by it.

    Parameters
    ----------
    name
        Named in errors.
    values
        What was given.
    tail
        The expected shape without its first axis.
    dtype
        The expected type.
    n
        The expected length; None: any.

    Returns
    -------
    numpy.ndarray
        Contiguous, the same memory where that is possible.

    Raises
    ------
    LabelError
        If the shape is another, a number is not finite, or an integer column holds a fraction or too large a number.

    Examples
    --------
    >>> check_column("classes", [1, 2], (), np.int32, 2)
    array([1, 2], dtype=int32)
    """
    given, dtype = np.asarray(values), np.dtype(dtype)
    if given.size == 0 and (n is None or n == 0):
        return np.zeros((0, *tail), dtype)
    expected = ("N" if n is None else n, *tail)
    if given.ndim != 1 + len(tail) or given.shape[1:] != tail or (n is not None and len(given) != n):
        raise LabelError(
            f"the array of {name} has another shape", where=name,
            found=_shape(given.shape), expected=_shape(expected),
            fix="give one entry per object" if n is not None and given.shape[1:] == tail else None,
        )  # fmt: skip
    if given.dtype == dtype and dtype.kind in "iu":
        return np.ascontiguousarray(given)
    if given.dtype.kind not in "iufb":
        raise LabelError(f"the array of {name} does not hold numbers", where=name, found=given.dtype, expected=dtype)
    if given.dtype.kind == "f":
        bad = ~np.isfinite(given)
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            raise LabelError(
                f"the array of {name} holds numbers that are not finite",
                where=_element(name, first), found=given[first], expected="finite numbers",
            )  # fmt: skip
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        wrong = (given < limits.min) | (given > limits.max) | (given != np.trunc(given))
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise LabelError(
                f"the array of {name} holds values that do not fit", where=_element(name, first),
                found=given[first], expected=f"whole numbers from {limits.min} to {limits.max}",
            )  # fmt: skip
    return np.ascontiguousarray(given, dtype)


def check_masks(shape: tuple[int, int], windows: ArrayLike, bits: ArrayLike, offsets: ArrayLike) -> Packed:
    """Make sure that windows, bits and offsets belong together and lie in the image.

    Parameters
    ----------
    shape
        Height and width of the image.
    windows, bits, offsets
        The masks.

    Returns
    -------
    tuple
        ``(windows, bits, offsets)`` as int32, uint8 and int64.

    Raises
    ------
    LabelError
        If a window is turned inside out or leaves the image (one without pixels may lie anywhere), the offsets do not
        follow from the windows, the buffer has another length, or bits are set behind a mask's last pixel.

    Examples
    --------
    >>> check_masks((2, 2), [[0, 0, 2, 3]], [0], [0, 1])
    Traceback (most recent call last):
    cytomask.errors.LabelError: a mask's window leaves the image
      where:    windows[0]
      found:    (y0, x0, y1, x1) = (0, 0, 2, 3)
      expected: inside the 2 x 2 pixels (height x width) of the image
    """
    windows = check_column("windows", windows, (4,), np.int32, None)
    n = len(windows)
    bits = check_column("bits", bits, (), np.uint8, None)
    offsets = check_column("offsets", offsets, (), np.int64, n + 1)
    y0, x0, y1, x1 = windows.T
    turned = (y1 < y0) | (x1 < x0)
    if turned.any():
        i = int(turned.argmax())
        raise LabelError(
            "a mask's window ends before it begins", where=f"windows[{i}]", found=_window(windows[i]),
            expected="y0 <= y1 and x0 <= x1", fix="give windows as (y0, x0, y1, x1), rows first, ends excluded",
        )  # fmt: skip
    outside = ((y0 < 0) | (x0 < 0) | (y1 > shape[0]) | (x1 > shape[1])) & (y0 < y1) & (x0 < x1)
    if outside.any():
        i = int(outside.argmax())
        raise LabelError(
            "a mask's window leaves the image", where=f"windows[{i}]", found=_window(windows[i]),
            expected=f"inside the {shape[0]} x {shape[1]} pixels (height x width) of the image",
        )  # fmt: skip
    right = byte_offsets(windows)
    if not np.array_equal(offsets, right):
        i = int((offsets != right).argmax())
        raise LabelError(
            "the offsets of the masks do not follow from their windows", where=f"offsets[{i}]",
            found=int(offsets[i]), expected=int(right[i]),
            fix="pack each mask by np.packbits(mask.ravel()), and put them one behind the other",
        )  # fmt: skip
    if len(bits) != right[-1]:
        raise LabelError(
            "the buffer of the masks has another length than their offsets say", where="bits",
            found=f"{len(bits)} bytes", expected=f"{int(right[-1])} bytes",
        )  # fmt: skip
    spare = _spare_bits(windows, bits, right)
    if spare.any():
        i = int(spare.argmax())
        raise LabelError(
            "bits are set behind the last pixel of a mask", where=f"bits of mask {i}",
            found=f"last byte {int(bits[right[i + 1] - 1]):08b}",
            expected=f"at least {int(spare[i]).bit_length()} zeros at its end",
            fix="pack each mask by np.packbits(mask.ravel())",
        )  # fmt: skip
    return windows, bits, offsets


def _spare_bits(windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """What is set in each mask's last byte behind its last pixel; 0 where all is well."""
    wide = windows.astype(np.int64)
    used = ((wide[:, 2] - wide[:, 0]) * (wide[:, 3] - wide[:, 1])) & 7
    if not len(bits):
        return np.zeros(len(windows), np.uint8)
    last = bits[np.maximum(offsets[1:] - 1, 0)]
    return np.where(used > 0, last & (0xFF >> used).astype(np.uint8), 0).astype(np.uint8)


def _window(window: np.ndarray) -> str:
    return f"(y0, x0, y1, x1) = {tuple(int(v) for v in window)}"


def _shape(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _element(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]"
