"""Draw masks into a picture: outlines with a dark rim, and translucent fillings, straight from the packed bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

#: Marks of a pixel: nothing, rim; the outline in palette colour c is OUTLINE + c.
NOTHING, RIM, OUTLINE = 0, 1, 2


def disc(radius: float) -> np.ndarray:
    """Steps ``(dy, dx)`` from a pixel to all pixels within a radius, int64 ``(M, 2)``.

    Examples
    --------
    >>> disc(1).tolist()
    [[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]]
    """
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.argwhere(y * y + x * x <= radius * radius) - reach


@njit(cache=True, nogil=True)
def _sample(window: Any, bits: Any, start: Any, shrink: Any, crop: Any) -> tuple[int, int, int, int]:
    """Read a mask at the picture's resolution into ``crop`` (flat, rows of width + 2, a border of zeros around).

    A pixel of the picture belongs to the mask if the middle pixel of its block does; an object that would vanish so
    keeps one pixel. Return the crop's place in the picture: top, left, height, width.
    """
    y0, x0, y1, x1 = window
    top, left = y0 // shrink, x0 // shrink
    height, width = (y1 - 1) // shrink + 1 - top, (x1 - 1) // shrink + 1 - left
    stride = width + 2
    crop[: (height + 2) * stride] = 0
    some = False
    for i in range(height):
        y = (top + i) * shrink + shrink // 2
        if y < y0 or y >= y1:
            continue
        row = (y - y0) * (x1 - x0)
        for j in range(width):
            x = (left + j) * shrink + shrink // 2
            if x0 <= x < x1:
                k = row + x - x0
                if (bits[start + (k >> 3)] >> (7 - (k & 7))) & 1:
                    crop[(i + 1) * stride + 1 + j] = 1
                    some = True
    if not some and shrink > 1:
        crop[(height // 2 + 1) * stride + 1 + width // 2] = 1
    return top, left, height, width


@njit(cache=True, nogil=True)
def _crop_size(windows: Any, shrink: Any) -> int:
    largest = 0
    for i in range(len(windows)):
        height = (windows[i, 2] - windows[i, 0]) // shrink + 4
        largest = max(largest, height * ((windows[i, 3] - windows[i, 1]) // shrink + 4))
    return largest


@njit(cache=True, nogil=True)
def fill_masks(
    picture: Any,
    windows: Any,
    bits: Any,
    offsets: Any,
    order: Any,
    colours: Any,
    palette: Any,
    opacity: float,
    shrink: int,
) -> None:
    """Lay the colour of each object over its pixels, translucent; see :func:`mark_outlines` for the arguments."""
    crop = np.empty(_crop_size(windows, shrink), np.uint8)
    for i in order:
        top, left, height, width = _sample(windows[i], bits, offsets[i], shrink, crop)
        for y in range(height):
            for x in range(width):
                if crop[(y + 1) * (width + 2) + 1 + x]:
                    for c in range(3):
                        old, new = float(picture[top + y, left + x, c]), float(palette[colours[i], c])
                        picture[top + y, left + x, c] = np.uint8(old + opacity * (new - old) + 0.5)


@njit(cache=True, nogil=True)
def mark_outlines(
    marks: Any, windows: Any, bits: Any, offsets: Any, order: Any, colours: Any, line: Any, rim: Any, shrink: int
) -> None:
    """Mark the rims of all objects, then their outlines, those drawn later over those before.

    An outline lies inside its object, so that touching objects show both theirs; its rim lies outside. The edge of the
    picture is no outline: an object cut off there stays open.

    Parameters
    ----------
    marks
        uint8 ``(H, W)``, changed in place.
    windows
        int64 ``(N, 4)``: the crops, y0, x0, y1, x1.
    bits, offsets
        The packed masks, as in :class:`~cytomask.instances.Instances`.
    order
        int64: objects in the order of drawing; those without pixels must not be among them.
    colours
        int64 ``(N,)``: palette positions.
    line, rim
        Steps as of :func:`disc`: from an edge pixel to the pixels of the outline, and of the rim.
    shrink
        Pixels of the masks per pixel of the picture.
    """
    crop = np.empty(_crop_size(windows, shrink), np.uint8)
    rows, columns = marks.shape
    for draw_lines in range(2):
        for i in order:
            top, left, height, width = _sample(windows[i], bits, offsets[i], shrink, crop)
            stride = width + 2
            for y in range(height):
                for x in range(width):
                    p = (y + 1) * stride + 1 + x
                    if not crop[p]:
                        continue
                    at_y, at_x = top + y, left + x
                    if (
                        (crop[p - stride] or at_y == 0)
                        and (crop[p + stride] or at_y == rows - 1)
                        and (crop[p - 1] or at_x == 0)
                        and (crop[p + 1] or at_x == columns - 1)
                    ):
                        continue
                    steps = line if draw_lines else rim
                    for s in range(len(steps)):
                        dy, dx = steps[s, 0], steps[s, 1]
                        v, u = at_y + dy, at_x + dx
                        if v < 0 or u < 0 or v >= rows or u >= columns:
                            continue
                        inside = (
                            0 <= y + dy < height
                            and 0 <= x + dx < width
                            and crop[(y + dy + 1) * stride + 1 + x + dx] != 0
                        )
                        if draw_lines and inside:
                            marks[v, u] = OUTLINE + colours[i]
                        elif not draw_lines and not inside:
                            marks[v, u] = RIM


@njit(cache=True, nogil=True)
def paint_marks(picture: Any, marks: Any, palette: Any, darkness: float) -> None:
    """Paint marked pixels into the uint8 ``(H, W, 3)`` picture: outlines opaque, rims darkened."""
    for y in range(marks.shape[0]):
        for x in range(marks.shape[1]):
            mark = marks[y, x]
            if mark == RIM:
                for c in range(3):
                    picture[y, x, c] = np.uint8(picture[y, x, c] * (1 - darkness))
            elif mark >= OUTLINE:
                for c in range(3):
                    picture[y, x, c] = palette[mark - OUTLINE, c]
