"""What each mask is made of: its pieces, crumbs, holes and how convex it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.ndimage import distance_transform_edt

from cytomask.instances import Instances


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """Measures of every object of one image, each ``(N,)``, in pixels.

    Attributes
    ----------
    ids
        int32.
    windows
        int32 ``(N, 4)``: ``(y0, x0, y1, x1)``.
    areas
        int64.
    pieces
        int64: connected pieces; pixels that meet in a corner are connected.
    largest
        int64: area of the largest piece.
    holes
        int64: pixels of enclosed background; background is connected by edges only.
    solidity
        float64: area of the mask with its holes filled over the area of its convex hull; 0 without pixels.
    touching
        bool: whether the object touches the image's border.
    """

    ids: npt.NDArray[np.int32]
    windows: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    pieces: npt.NDArray[np.int64]
    largest: npt.NDArray[np.int64]
    holes: npt.NDArray[np.int64]
    solidity: npt.NDArray[np.float64]
    touching: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


def describe_objects(objects: Instances) -> Anatomy:
    """Measure every object of an image.

    Examples
    --------
    >>> ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    >>> found = describe_objects(Instances.from_labels(ring))
    >>> found.pieces.tolist(), found.largest.tolist(), found.holes.tolist(), found.areas.tolist()
    ([2], [8], [1], [9])
    """
    n = len(objects)
    table = np.zeros((n, 4), np.int64)
    solidity = np.zeros(n)
    for i in range(n):
        mask = np.ascontiguousarray(objects.mask(i))
        if mask.size:
            pieces, _, holes = label_parts(mask)
            sizes = np.bincount(pieces.ravel())[1:]
            if len(sizes):
                area, hidden = int(sizes.sum()), int(np.count_nonzero(holes))
                table[i] = area, len(sizes), sizes.max(), hidden
                solidity[i] = (area + hidden) / hull_area(mask)
    y0, x0, y1, x1 = objects.windows.T
    touching = (y0 <= 0) | (x0 <= 0) | (y1 >= objects.shape[0]) | (x1 >= objects.shape[1])
    areas, pieces, largest, holes = (np.ascontiguousarray(table[:, k]) for k in range(4))
    return Anatomy(objects.ids, objects.windows, areas, pieces, largest, holes, solidity, np.asarray(touching))


def label_parts(mask: npt.NDArray[np.bool_]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the pieces and the holes of one mask.

    Returns
    -------
    tuple
        int32 images of the mask's shape: the pieces from 1, all background from 1 (by edges), and the holes from 1.
    """
    pieces = _components(mask, True)
    background = _components(~mask, False)
    return pieces, background, _holes(background)


def piece_gaps(
    mask: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_] | None = None
) -> list[tuple[int, float, float, np.ndarray]]:
    """Pieces of a mask beside the largest: area, distance from the largest in pixels, how much is between, the piece.

    Parameters
    ----------
    mask
        One object.
    others
        Where other objects are, of the same shape: what they cover of the shortest way between the pieces is the third
        value, from 0 to 1.

    Examples
    --------
    >>> mask, others = np.array([[1, 1, 0, 0, 0, 1]], bool), np.array([[0, 0, 1, 1, 0, 0]], bool)
    >>> [found[:3] for found in piece_gaps(mask, others)]
    [(1, 4.0, 0.6666666666666666)]
    """
    pieces = _components(np.ascontiguousarray(mask), True)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    main = int(sizes.argmax())
    away, nearest = distance_transform_edt(pieces != main, return_indices=True)
    found = []
    for k in range(1, len(sizes)):
        if k == main:
            continue
        piece = pieces == k
        y, x = divmod(int(np.where(piece, away, np.inf).argmin()), mask.shape[1])
        covered = 0.0 if others is None else _covered(mask, others, (y, x), nearest[:, y, x])
        found.append((int(sizes[k]), float(away[y, x]), covered, piece))
    return found


def _covered(mask: np.ndarray, others: np.ndarray, begin: tuple[int, int], end: np.ndarray) -> float:
    """Share of the free pixels on a line between two points that other objects cover."""
    steps = 2 * int(max(abs(end[0] - begin[0]), abs(end[1] - begin[1]))) + 1
    y = np.rint(np.linspace(begin[0], end[0], steps)).astype(int)
    x = np.rint(np.linspace(begin[1], end[1], steps)).astype(int)
    line = np.unique(np.stack([y, x]), axis=1)
    free = ~mask[line[0], line[1]]
    return float(others[line[0], line[1]][free].mean()) if free.any() else 0.0


def fill(mask: npt.NDArray[np.bool_]) -> np.ndarray:
    """A mask with its holes filled."""
    return np.asarray(mask | (label_parts(np.ascontiguousarray(mask))[2] > 0))


@njit(cache=True, nogil=True)
def _components(mask, corners):  # type: ignore[no-untyped-def]
    """Number connected parts by flooding from each pixel that has no number yet."""
    height, width = mask.shape
    out = np.zeros((height, width), np.int32)
    stack = np.empty(height * width, np.int64)
    parts = 0
    for start in range(height * width):
        y, x = start // width, start % width
        if not mask[y, x] or out[y, x] != 0:
            continue
        parts += 1
        out[y, x] = parts
        stack[0] = start
        top = 1
        while top > 0:
            top -= 1
            y, x = stack[top] // width, stack[top] % width
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    if (dy == 0 and dx == 0) or (not corners and dy != 0 and dx != 0):
                        continue
                    v, u = y + dy, x + dx
                    if 0 <= v < height and 0 <= u < width and mask[v, u] and out[v, u] == 0:
                        out[v, u] = parts
                        stack[top] = v * width + u
                        top += 1
    return out


@njit(cache=True, nogil=True)
def _holes(background):  # type: ignore[no-untyped-def]
    """Keep the parts of the background that do not reach the border, numbered anew."""
    height, width = background.shape
    parts = 0
    for y in range(height):
        for x in range(width):
            parts = max(parts, background[y, x])
    open_ = np.zeros(parts + 1, np.bool_)
    open_[0] = True
    for y in range(height):
        open_[background[y, 0]] = True
        open_[background[y, width - 1]] = True
    for x in range(width):
        open_[background[0, x]] = True
        open_[background[height - 1, x]] = True
    number = np.zeros(parts + 1, np.int32)
    holes = 0
    for part in range(1, parts + 1):
        if not open_[part]:
            holes += 1
            number[part] = holes
    out = np.zeros((height, width), np.int32)
    if holes:
        for y in range(height):
            for x in range(width):
                out[y, x] = number[background[y, x]]
    return out


@njit(cache=True, nogil=True)
def hull_area(mask):  # type: ignore[no-untyped-def]
    """Area of the convex hull of a mask's pixels, whole squares (Andrew's monotone chain over the rows' ends)."""
    height, width = mask.shape
    ys = np.empty(4 * height, np.float64)
    xs = np.empty(4 * height, np.float64)
    n = 0
    # The corners of each row's first and last pixel, sorted by y, then x.
    before_low, before_high = -1, -1
    for y in range(height + 1):
        low, high = -1, -1
        if y < height:
            for x in range(width):
                if mask[y, x]:
                    if low < 0:
                        low = x
                    high = x + 1
        least, most = low, high
        if before_low >= 0:
            least = before_low if least < 0 else min(least, before_low)
            most = max(most, before_high)
        if least >= 0:
            ys[n], xs[n] = y, least
            ys[n + 1], xs[n + 1] = y, most
            n += 2
        before_low, before_high = low, high
    if n == 0:
        return 0.0
    hull = np.empty(2 * n + 1, np.int64)
    k = 0
    for i in range(n):
        while k >= 2 and _turn(ys, xs, hull[k - 2], hull[k - 1], i) <= 0:
            k -= 1
        hull[k] = i
        k += 1
    least_size = k + 1
    for i in range(n - 2, -1, -1):
        while k >= least_size and _turn(ys, xs, hull[k - 2], hull[k - 1], i) <= 0:
            k -= 1
        hull[k] = i
        k += 1
    area = 0.0
    for i in range(k - 1):
        a, b = hull[i], hull[i + 1]
        area += ys[a] * xs[b] - ys[b] * xs[a]
    return abs(area) / 2


@njit(cache=True, nogil=True)
def _turn(ys, xs, a, b, c):  # type: ignore[no-untyped-def]
    return (ys[b] - ys[a]) * (xs[c] - xs[a]) - (xs[b] - xs[a]) * (ys[c] - ys[a])
