"""Find images that are copies of each other, or nearly: brighter or darker, scaled, turned or mirrored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

#: Side of a thumbnail, in pixels.
SIDE = 32
#: Correlation of two thumbnails from which on the images are called nearly alike.
ALIKE = 0.93
#: Above so many images turned and mirrored copies are not looked for, and above so many none at all.
MOST_TURNED, MOST = 3000, 30_000
#: Rows of the table of correlations that are computed at a time.
_ROWS = 512


def thumbnail(grey: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Shrink an image to its pattern: large-scale shading taken away, mean 0, length 1; all 0 where there is none.

    Brightness, contrast and size of the image do not matter.

    Parameters
    ----------
    grey
        ``(Y, X)``.

    Returns
    -------
    numpy.ndarray
        float32 ``(32, 32)``.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((96, 64))
    >>> float((thumbnail(image) * thumbnail(3 * image + 5)).sum().round(3))
    1.0
    """
    small = _shrunk(np.asarray(grey, np.float32))
    # The square root keeps a few very bright objects from outweighing all the rest.
    small = small - gaussian_filter(small, SIDE / 4)
    small = np.sign(small) * np.sqrt(np.abs(small))
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return (small / length if length > 1e-6 else np.zeros_like(small)).astype(np.float32)


def _shrunk(grey: np.ndarray) -> np.ndarray:
    """Means over a grid of SIDE x SIDE cells."""
    height, width = grey.shape
    if height < SIDE or width < SIDE:
        grey = zoom(grey, (max(1.0, SIDE / height), max(1.0, SIDE / width)), order=1)
        height, width = grey.shape
    rows = np.linspace(0, height, SIDE + 1).astype(int)
    columns = np.linspace(0, width, SIDE + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(grey, rows[:-1], axis=0), columns[:-1], axis=1)
    return np.asarray(sums / np.outer(np.diff(rows), np.diff(columns)))


def alike(
    thumbs: Sequence[npt.NDArray[np.float32]], shapes: Sequence[tuple[int, int]], least: float = ALIKE
) -> list[tuple[int, int, float, str]]:
    """Find pairs of images whose thumbnails correlate.

    Parameters
    ----------
    thumbs
        Thumbnails of all images.
    shapes
        Height and width of the images; those of very different proportions are not compared.
    least
        The least correlation.

    Returns
    -------
    list of tuple
        ``(i, j, correlation, how)``, ``i < j``; ``how`` is empty or says how one must be turned to be like the other.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((64, 64))
    >>> alike([thumbnail(image), thumbnail(image.T), thumbnail(image[::-1, ::-1])], [(64, 64)] * 3)
    [(0, 1, 1.0, 'mirrored and turned'), (0, 2, 1.0, 'turned'), (1, 2, 1.0, 'mirrored and turned')]
    """
    n = len(thumbs)
    if n < 2 or n > MOST:
        return []
    stack = np.stack(thumbs)
    flat = stack.reshape(n, -1)
    proportion = np.log(np.array([height / width for height, width in shapes]))
    best: dict[tuple[int, int], tuple[float, str]] = {}
    for turned, how, swapped in _views(stack, n <= MOST_TURNED):
        other = turned.reshape(n, -1)
        for begin in range(0, n, _ROWS):
            table = flat[begin : begin + _ROWS] @ other.T
            rows, columns = np.nonzero(table >= least)
            for row, j in zip(rows.tolist(), columns.tolist()):
                i = begin + row
                like = abs(proportion[i] - (-proportion[j] if swapped else proportion[j])) < 0.05
                value = float(table[row, j])
                if i < j and like and value > best.get((i, j), (0.0, ""))[0] + 1e-4:
                    best[i, j] = value, how
    return [(i, j, round(value, 3), how) for (i, j), (value, how) in sorted(best.items())]


def _views(stack: np.ndarray, every: bool) -> list[tuple[np.ndarray, str, bool]]:
    views = [(stack, "", False)]
    if every:
        mirrored = stack[:, :, ::-1]
        turns = (1, 2, 3)
        views += [(np.rot90(stack, k, axes=(1, 2)), "turned", k % 2 == 1) for k in turns]
        views.append((mirrored, "mirrored", False))
        views += [(np.rot90(mirrored, k, axes=(1, 2)), "mirrored and turned", k % 2 == 1) for k in turns]
    return [(np.ascontiguousarray(view), how, swapped) for view, how, swapped in views]
