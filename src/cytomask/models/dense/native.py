"""Draw objects that were made in network pixels into the native image.

Labels cannot be interpolated, but the probability by which they are bounded can: outlines at another size are as smooth
as the network's map, not steps of network pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from cytomask.instances import Instances
from cytomask.models.dense.decode import Found


def drawn(
    found: Found,
    threshold: float,
    *,
    shape: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    origin: tuple[int, int] = (0, 0),
    class_names: tuple[str, ...] = ("object",),
) -> Instances:
    """Draw what was found in a window of the network's image.

    A native pixel whose centre lies in foreground belongs to the object of the nearest network pixel that has one.

    Parameters
    ----------
    found
        Objects of the window.
    threshold
        Of the probability.
    shape
        Height and width of the native image.
    scale
        Network pixels per native pixel, along y and x.
    origin
        First row and column of the window, in network pixels.
    class_names
        Names of the classes.

    Returns
    -------
    Instances
        One for each object of ``found`` that covers a native pixel, in their order, with their labels as ids.
    """
    y, x = origin
    height, width = found.labels.shape
    if scale == (1.0, 1.0):
        labels = found.labels[max(0, -y) : shape[0] - y, max(0, -x) : shape[1] - x]
        top, left = max(0, y), max(0, x)
    else:
        rows, columns = (_inside(o, n, s, size) for o, n, s, size in zip(origin, (height, width), scale, shape))
        top, left = rows[0], columns[0]
        labels = _enlarged(
            found.labels, found.probability, threshold, _places(*rows, scale[0], y), _places(*columns, scale[1], x)
        )
    if not labels.size:
        return Instances.empty(shape, class_names)
    part = Instances.from_labels(
        labels,
        classes={i: int(c) for i, c in enumerate(found.classes, start=1)},
        scores={i: float(s) for i, s in enumerate(found.scores, start=1)},
        class_names=class_names,
    )
    return part if labels.shape == shape else part.shifted(top, left, shape)


def _inside(origin: int, length: int, scale: float, size: int) -> tuple[int, int]:
    """First native pixel whose centre lies in a window along one axis, and the one after the last."""
    first, last = (int(np.ceil(edge / scale - 0.5)) for edge in (origin, origin + length))
    # What the image's own last pixels see may begin behind the window by rounding.
    return max(0, first), min(size, max(first, last))


def _places(first: int, last: int, scale: float, origin: int) -> npt.NDArray[np.float64]:
    """Where native pixels lie, in pixels of the window.

    The part of a pixel is told from the place in the whole image, so that it is the same in every window.
    """
    places = (np.arange(first, last) + 0.5) * scale - 0.5
    whole = np.floor(places)
    return np.stack([whole - origin, places - whole])


@njit(cache=True, nogil=True)
def _enlarged(labels, probability, threshold, rows, columns):  # type: ignore[no-untyped-def]
    """Labels at places between pixels: that of the nearest labelled corner, where the probability is high enough."""
    height, width = labels.shape
    out = np.zeros((rows.shape[1], columns.shape[1]), np.int32)
    weights = np.empty(4)
    corners = np.empty(4, np.int32)
    for i in range(rows.shape[1]):
        y, dy = int(rows[0, i]), rows[1, i]
        y0, y1 = min(max(y, 0), height - 1), min(max(y + 1, 0), height - 1)
        for j in range(columns.shape[1]):
            x, dx = int(columns[0, j]), columns[1, j]
            x0, x1 = min(max(x, 0), width - 1), min(max(x + 1, 0), width - 1)
            corners[0], corners[1] = labels[y0, x0], labels[y0, x1]
            corners[2], corners[3] = labels[y1, x0], labels[y1, x1]
            weights[0], weights[1] = (1 - dy) * (1 - dx), (1 - dy) * dx
            weights[2], weights[3] = dy * (1 - dx), dy * dx
            value, best, label = 0.0, 0.0, 0
            for k in range(4):
                y_, x_ = (y0 if k < 2 else y1), (x0 if k % 2 == 0 else x1)
                p = probability[y_, x_]
                if corners[k] == 0:
                    # Foreground that became no object counts as background, up to the threshold.
                    p = min(p, threshold)
                else:
                    # A hole that was filled is of its object.
                    p = max(p, threshold + 0.25 * (1 - threshold)) if p <= threshold else p
                    if weights[k] > best:
                        best, label = weights[k], corners[k]
                value += weights[k] * p
            if label and value > threshold:
                out[i, j] = label
    return out
