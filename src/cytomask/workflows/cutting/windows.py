"""Windows for crops: around a region, of a fixed size, and where nothing is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.errors import ConfigError

#: ``(y0, x0, y1, x1)`` in whole pixels, half-open.
Window = tuple[int, int, int, int]
#: Up to so many pixels every place for an empty window is known; in larger images so many places are tried.
_EXACT_PIXELS, _TRIES = 2**26, 20_000


def window_around(
    box: Window, shape: tuple[int, int], *, margin: int = 0, size: tuple[int, int] | None = None, clip: bool = False
) -> Window | None:
    """Find the window of a region.

    Parameters
    ----------
    box
        The region's box; it may leave the image.
    shape
        Height and width of the image.
    margin
        Pixels around the box.
    size
        Height and width of a window centred on the region, in place of its box and margin.
    clip
        Whether a window of fixed size is clipped where it leaves the image; otherwise it is moved inside, as far as the
        image is large enough.

    Returns
    -------
    tuple or None
        The window inside the image; None if nothing of the region lies there.

    Examples
    --------
    >>> window_around((2, -3, 6, 5), (10, 10), margin=1)
    (1, 0, 7, 6)
    >>> [window_around((0, 0, 4, 4), (10, 10), size=(6, 6), clip=clip) for clip in (False, True)]
    [(0, 0, 6, 6), (0, 0, 5, 5)]
    >>> window_around((12, 0, 14, 4), (10, 10)) is None
    True
    """
    height, width = shape
    if box[0] >= height or box[1] >= width or box[2] <= 0 or box[3] <= 0:
        return None
    if size is None:
        wanted = [(box[0] - margin, box[2] + margin), (box[1] - margin, box[3] + margin)]
    else:
        starts = [(box[axis] + box[axis + 2] - size[axis]) // 2 for axis in range(2)]
        if not clip:
            starts = [max(0, min(start, whole - side)) for start, whole, side in zip(starts, shape, size)]
        wanted = [(start, start + side) for start, side in zip(starts, size)]
    (y0, y1), (x0, x1) = ((max(0, low), min(high, whole)) for (low, high), whole in zip(wanted, shape))
    # A clipped window of fixed size is centred on the region, so it holds a part of the image unless the region's
    # centre lies far outside.
    return (y0, x0, y1, x1) if y0 < y1 and x0 < x1 else None


def empty_windows(
    shape: tuple[int, int],
    taken: Sequence[Window],
    sizes: Sequence[tuple[int, int]],
    count: int,
    rng: np.random.Generator,
) -> list[Window]:
    """Draw windows that touch nothing that is taken, nor each other.

    Parameters
    ----------
    shape
        Height and width of the image.
    taken
        Boxes of what must not be touched.
    sizes
        Heights and widths, of which each window has one at random; one for which there is no room is not tried again.
    count
        How many windows.
    rng
        Source of randomness.

    Returns
    -------
    list
        As many as there is room for. In images of up to 2**26 pixels room is found wherever it is.

    Examples
    --------
    >>> empty_windows((4, 8), [(0, 0, 4, 4)], [(4, 4)], 3, np.random.default_rng(0))
    [(0, 4, 4, 8)]
    """
    found: list[Window] = []
    possible = sorted({(int(h), int(w)) for h, w in sizes if 0 < h <= shape[0] and 0 < w <= shape[1]})
    # The sizes as often as they occur, so that a rare size stays rare.
    drawn = [tuple(size) for size in sizes if tuple(size) in possible]
    blocked = np.array(list(taken), np.int64).reshape(-1, 4)
    while drawn and len(found) < count:
        size = drawn[int(rng.integers(len(drawn)))]
        place = _free_place(shape, blocked, (size[0], size[1]), rng)
        if place is None:
            drawn = [other for other in drawn if other != size]
            continue
        window = (place[0], place[1], place[0] + size[0], place[1] + size[1])
        found.append(window)
        blocked = np.concatenate([blocked, np.array([window], np.int64)])
    return found


def _free_place(
    shape: tuple[int, int], blocked: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int] | None:
    """A random place of a window's first pixel such that the window touches no box."""
    rows, columns = shape[0] - size[0] + 1, shape[1] - size[1] + 1
    if rows * columns > _EXACT_PIXELS:
        places = np.stack([rng.integers(rows, size=_TRIES), rng.integers(columns, size=_TRIES)], axis=1)
        for y, x in places.tolist():
            hit = (blocked[:, 0] < y + size[0]) & (blocked[:, 2] > y) & (blocked[:, 1] < x + size[1])
            if not (hit & (blocked[:, 3] > x)).any():
                return y, x
        return None
    # Each box forbids a rectangle of places: their corners, summed up, count the boxes that a place would touch.
    corners = np.zeros((rows + 1, columns + 1), np.int32)
    y0, x0 = np.clip(blocked[:, 0] - size[0] + 1, 0, rows), np.clip(blocked[:, 1] - size[1] + 1, 0, columns)
    y1, x1 = np.clip(blocked[:, 2], 0, rows), np.clip(blocked[:, 3], 0, columns)
    for y, x, sign in ((y0, x0, 1), (y1, x0, -1), (y0, x1, -1), (y1, x1, 1)):
        np.add.at(corners, (y, x), sign)
    free = np.flatnonzero(corners.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] == 0)
    if not len(free):
        return None
    y, x = divmod(int(free[rng.integers(len(free))]), columns)
    return y, x


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read ``128`` or ``96x128`` (height x width).

    Raises
    ------
    ConfigError
        If it is neither.

    Examples
    --------
    >>> parse_size("128"), parse_size("96x128"), parse_size(None)
    ((128, 128), (96, 128), None)
    """
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) in (1, 2) and all(part.strip().isdecimal() and 0 < int(part) < 2**20 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise ConfigError("this is no size", where="--size", found=text, expected="pixels, such as 128, or 96x128 (y by x)")
