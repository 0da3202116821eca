"""The eight ways in which a square grid lies on itself: quarter turns and mirrorings, exact to the pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numba import njit

from cytomask.geometry.bit_masks import Packed, byte_offsets

Size = TypeVar("Size", tuple[int, int], tuple[float, float])


@dataclass(frozen=True, slots=True)
class Turn:
    """Swap rows and columns or not, then reverse rows or not, then columns or not.

    Attributes
    ----------
    swap, flip_y, flip_x
        What is done, in this order.

    Examples
    --------
    >>> picture = np.array([[1, 2, 3], [4, 5, 6]])
    >>> Turn.quarter(1).array(picture).tolist()
    [[3, 6], [2, 5], [1, 4]]
    >>> (Turn.quarter(1).then(Turn.quarter(3)) == Turn(), Turn.quarter(1).inverse == Turn.quarter(3))
    (True, True)
    """

    swap: bool = False
    flip_y: bool = False
    flip_x: bool = False

    @classmethod
    def quarter(cls, count: int) -> Turn:
        """So many quarter turns, counterclockwise on the screen as those of ``np.rot90``."""
        return (cls(), cls(True, True, False), cls(False, True, True), cls(True, False, True))[count % 4]

    @property
    def inverse(self) -> Turn:
        """What brings back."""
        return Turn(True, self.flip_x, self.flip_y) if self.swap else self

    def then(self, other: Turn) -> Turn:
        """Do another one after this one: both in one."""
        y, x = (self.flip_x, self.flip_y) if other.swap else (self.flip_y, self.flip_x)
        return Turn(self.swap != other.swap, y != other.flip_y, x != other.flip_x)

    def size(self, pair: Size) -> Size:
        """Height and width (or what else there is of y and x) afterwards."""
        return (pair[1], pair[0]) if self.swap else pair

    def array(self, pixels: np.ndarray) -> np.ndarray:
        """Turn the last two axes of an array; a view of it."""
        if self.swap:
            pixels = np.swapaxes(pixels, -1, -2)
        return pixels[..., :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def boxes(self, boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Turn boxes with their image.

        Parameters
        ----------
        boxes
            ``(N, 4)``: ``(y0, x0, y1, x1)``, half-open.
        shape
            Height and width of the image before.

        Returns
        -------
        numpy.ndarray
            ``(N, 4)`` in the same dtype. Of whole numbers exact; others are rounded as the dtype holds them.

        Examples
        --------
        >>> Turn(flip_x=True).boxes(np.array([[0, 0, 1, 2]]), (4, 5))
        array([[0, 3, 1, 5]])
        """
        turned = np.asarray(boxes)
        wide = turned.astype(np.float64 if turned.dtype.kind == "f" else np.int64)
        if self.swap:
            wide = wide[:, [1, 0, 3, 2]]
        height, width = self.size(shape)
        if self.flip_y:
            wide = np.stack([height - wide[:, 2], wide[:, 1], height - wide[:, 0], wide[:, 3]], axis=1)
        if self.flip_x:
            wide = np.stack([wide[:, 0], width - wide[:, 3], wide[:, 2], width - wide[:, 1]], axis=1)
        return wide.astype(turned.dtype)


def turn_masks(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, shape: tuple[int, int], turn: Turn
) -> Packed:
    """Turn bit-packed masks with their image.

    Parameters
    ----------
    windows, bits, offsets
        The masks, as told in :mod:`cytomask.geometry.bit_masks`.
    shape
        Height and width of the image before.
    turn
        How.

    Returns
    -------
    tuple
        Windows, bits and offsets; as many pixels as before.

    Examples
    --------
    >>> row = np.array([[0, 0, 1, 3]], np.int32), np.packbits([1, 1, 0]), np.array([0, 1])
    >>> windows, bits, _ = turn_masks(*row, (1, 3), Turn(flip_x=True))
    >>> windows, np.unpackbits(bits, count=3)
    (array([[0, 0, 1, 3]], dtype=int32), array([0, 1, 1], dtype=uint8))
    """
    if turn == Turn():
        return windows, bits, offsets
    new_windows = np.ascontiguousarray(turn.boxes(windows, shape), np.int32)
    new_offsets = byte_offsets(new_windows)
    new_bits = np.zeros(int(new_offsets[-1]), np.uint8)
    _turn(windows, bits, offsets, turn.swap, turn.flip_y, turn.flip_x, new_windows, new_bits, new_offsets)
    return new_windows, new_bits, new_offsets


@njit(cache=True, nogil=True)
def _turn(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, swap: bool, flip_y: bool, flip_x: bool,
    new_windows: np.ndarray, new_bits: np.ndarray, new_offsets: np.ndarray,
) -> None:  # fmt: skip
    for k in range(len(windows)):
        width = np.int64(windows[k, 3]) - np.int64(windows[k, 1])
        rows = np.int64(new_windows[k, 2]) - np.int64(new_windows[k, 0])
        columns = np.int64(new_windows[k, 3]) - np.int64(new_windows[k, 1])
        target = 8 * new_offsets[k]
        for row in range(rows):
            y = rows - 1 - row if flip_y else row
            for column in range(columns):
                x = columns - 1 - column if flip_x else column
                p = 8 * offsets[k] + (x * width + y if swap else y * width + x)
                if bits[p >> 3] & (0x80 >> (p & 7)):
                    new_bits[target >> 3] |= 0x80 >> (target & 7)
                target += 1
