"""Neighbours: which objects touch, which lie near, and how much of their outlines they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from cytomask.errors import ConfigError
from cytomask.instances import Instances
from cytomask.measuring.centres import centres, class_column
from cytomask.measuring.gaps import close_pairs
from cytomask.measuring.lengths import Scale
from cytomask.measuring.outlines import holds

#: Gap in pixels up to which objects touch: label images often keep a line of background between them.
TOUCH = 1.0
#: Part of the smaller object that another one covers from which it lies in that one, and not beside it.
_INSIDE = 0.5
#: How far neighbours may be apart where nobody says: in µm, and in pixels.
RADIUS = {"um": 10.0, "px": 20.0}


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Neighbours of one image.

    Attributes
    ----------
    objects
        One row per object, in order: ``touching`` and ``neighbours`` (counts), ``shared_border`` (part of the outline).
    pairs
        One row per pair of neighbours: ``id_a``, ``class_a``, ``id_b``, ``class_b``, ``gap_UNIT``,
        ``centre_distance_UNIT``, ``touching``, ``shared_border_a``, ``shared_border_b``, ``overlap_px``.
    """

    objects: pd.DataFrame
    pairs: pd.DataFrame


def neighbours(
    instances: Instances, scale: Scale | None = None, *, radius: float | None = None, touch: float = TOUCH
) -> Neighbours:
    """Find the neighbours of every object.

    Neighbours lie beside each other: where half of an object or more lies in another one, as an organelle in its cell,
    the two are none.

    Parameters
    ----------
    instances
        The objects; they may overlap.
    scale
        Pixel size and unit; None for pixels.
    radius
        Objects whose gap, from edge to edge, is at most this are neighbours; in the unit. None for 10 µm or 20 pixels.
    touch
        Objects whose gap is at most so many pixels touch.

    Returns
    -------
    Neighbours
        ``shared_border`` is the part of an object's outline that lies within ``touch`` of another object (or inside of
        it); in ``pairs``, of the other object of the pair. The image's rim is no part of an outline; NaN for an object
        without an outline.

    Raises
    ------
    ConfigError
        If radius or touch is negative or not finite.

    Examples
    --------
    >>> labels = np.zeros((8, 8), int)
    >>> labels[2:4, 2:4], labels[2:4, 4:6] = 1, 2
    >>> found = neighbours(Instances.from_labels(labels), radius=3, touch=0)
    >>> found.objects
       touching  neighbours  shared_border
    0         1           1           0.25
    1         1           1           0.25
    >>> found.pairs[["id_a", "id_b", "gap_px", "centre_distance_px", "touching"]]
       id_a  id_b  gap_px  centre_distance_px  touching
    0     1     2     0.0                 2.0      True
    """
    scale = scale or Scale()
    radius = RADIUS[scale.unit] if radius is None else radius
    for name, value in (("radius", radius), ("touch", touch)):
        if not (np.isfinite(value) and value >= 0):
            raise ConfigError("a distance is not a length", where=name, found=value, expected="a number from 0")
    n = len(instances)
    reach = touch * max(scale.pixel)
    i, j, gap, shared = close_pairs(instances, max(radius, reach), scale.pixel)
    areas = instances.areas()
    beside = shared < _INSIDE * np.minimum(areas[i], areas[j])
    i, j, gap, shared = i[beside], j[beside], gap[beside], shared[beside]
    touching, near = gap <= reach, gap <= radius
    count = np.bincount(np.concatenate([i[touching], j[touching]]), minlength=n)
    around = np.bincount(np.concatenate([i[near], j[near]]), minlength=n)
    both = np.concatenate([i[touching], j[touching]]), np.concatenate([j[touching], i[touching]])
    order = np.lexsort((both[1], both[0]))
    of_pair, of_object = _shared_borders(
        instances.windows.astype(np.int64), instances.bits, instances.offsets, *instances.shape,
        np.concatenate([[0], np.cumsum(np.bincount(both[0], minlength=n))]).astype(np.int64), both[1][order],
        reach, *scale.pixel,
    )  # fmt: skip
    fractions = np.empty(len(order))
    fractions[order] = of_pair
    half = len(order) // 2
    border_a, border_b = np.zeros(len(i)), np.zeros(len(i))
    border_a[touching], border_b[touching] = fractions[:half], fractions[half:]
    middle = centres(instances) * scale.pixel
    names = class_column(instances)
    pairs = {
        "id_a": instances.ids[i].astype(np.int64), "class_a": names.iloc[i].array,
        "id_b": instances.ids[j].astype(np.int64), "class_b": names.iloc[j].array,
        f"gap_{scale.unit}": gap,
        f"centre_distance_{scale.unit}": np.hypot(*(middle[i] - middle[j]).T),
        "touching": touching, "shared_border_a": border_a, "shared_border_b": border_b, "overlap_px": shared,
    }  # fmt: skip
    objects = {"touching": count, "neighbours": around, "shared_border": of_object}
    return Neighbours(pd.DataFrame(objects), pd.DataFrame(pairs))


@njit(cache=True, nogil=True)
def _near(
    bits: Any, start: Any, window: Any, middle_y: float, middle_x: float, reach: float, size_y: float, size_x: float
) -> bool:
    """Whether a mask lies within reach of a point, of which whole numbers are the corners of pixels."""
    far_y, far_x = reach / size_y, reach / size_x
    tiny = 1e-9
    top = max(window[0], int(np.floor(middle_y - far_y - 1 - tiny)))
    left = max(window[1], int(np.floor(middle_x - far_x - 1 - tiny)))
    for y in range(top, min(window[2], int(np.ceil(middle_y + far_y + tiny)) + 1)):
        dy = max(y - middle_y, middle_y - y - 1, 0.0) * size_y
        for x in range(left, min(window[3], int(np.ceil(middle_x + far_x + tiny)) + 1)):
            dx = max(x - middle_x, middle_x - x - 1, 0.0) * size_x
            if np.hypot(dy, dx) <= reach + tiny and holds(bits, start, window, y, x):
                return True
    return False


@njit(cache=True, nogil=True)
def _shared_borders(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, height: int, width: int, starts: np.ndarray,
    others: np.ndarray, reach: float, size_y: float, size_x: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Part of each outline near each object that touches it, and near any of them, by the middles of its edges."""
    n = len(windows)
    of_pair, of_object = np.zeros(len(others)), np.full(n, np.nan)
    for i in range(n):
        window = windows[i]
        whole = any_ = 0.0
        for y in range(window[0], window[2]):
            for x in range(window[1], window[3]):
                if not holds(bits, offsets[i], window, y, x):
                    continue
                for side in range(4):
                    dy, dx = (side == 1) - (side == 0), (side == 3) - (side == 2)
                    if not (0 <= y + dy < height and 0 <= x + dx < width):
                        continue
                    if holds(bits, offsets[i], window, y + dy, x + dx):
                        continue
                    length = size_x if dx == 0 else size_y
                    whole += length
                    near = False
                    for k in range(starts[i], starts[i + 1]):
                        j = others[k]
                        middle_y, middle_x = y + 0.5 + dy / 2, x + 0.5 + dx / 2
                        if _near(bits, offsets[j], windows[j], middle_y, middle_x, reach, size_y, size_x):
                            of_pair[k] += length
                            near = True
                    if near:
                        any_ += length
        if whole > 0:
            of_object[i] = any_ / whole
        for k in range(starts[i], starts[i + 1]):
            of_pair[k] = of_pair[k] / whole if whole > 0 else np.nan
    return of_pair, of_object
