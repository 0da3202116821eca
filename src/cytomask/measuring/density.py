"""Density: how many objects there are per area, how much they cover, and whether they cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from cytomask.errors import ConfigError
from cytomask.instances import Instances
from cytomask.measuring.centres import centres
from cytomask.measuring.column_names import safe_names
from cytomask.measuring.lengths import Scale

#: Nearest objects that tell the density around an object.
NEAREST = 5
#: Rows of the image that are painted at a time hold so many pixels at most.
_BAND = 16_000_000
#: Fewer objects say nothing about clustering.
_FEWEST = 5


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """Densities of one image.

    Attributes
    ----------
    objects
        One row per object: ``local_density_UNIT``, per mm² or per million pixels.
    image
        Figures of the image by name; those of a class begin with its name.
    """

    objects: pd.DataFrame
    image: dict[str, float]


def density(instances: Instances, scale: Scale | None = None, *, nearest: int = NEAREST) -> Density:
    """Measure densities.

    Parameters
    ----------
    instances
        The objects; they may overlap.
    scale
        Pixel size and unit; None for pixels.
    nearest
        Objects that tell the density around an object.

    Returns
    -------
    Density
        The local density of an object is ``k / (π r²)``, r being the distance to the k-th nearest other centre of its
        class; NaN where there are not so many. At the image's rim it is too low, as what lies beyond is not seen.

        Of the image, for each class CLASS: ``CLASS_count``; ``CLASS_per_mm2`` or ``CLASS_per_mpx``;
        ``CLASS_covered``, the part of the image that its objects cover; ``CLASS_clark_evans`` with
        ``CLASS_clark_evans_z`` and ``CLASS_clark_evans_p``, see :func:`clark_evans`.

    Raises
    ------
    ConfigError
        If ``nearest`` is below 1.

    Examples
    --------
    >>> found = density(Instances.from_labels(np.array([[1, 0, 2, 2]])), nearest=1)
    >>> found.image["object_count"], found.image["object_per_mpx"], found.image["object_covered"]
    (2, 500000.0, 0.75)
    >>> found.objects["local_density_mpx"].round().tolist()
    [50930.0, 50930.0]
    """
    if nearest < 1:
        raise ConfigError("the number of nearest objects is too small", where="nearest", found=nearest, expected="1 …")
    from scipy.spatial import cKDTree

    scale = scale or Scale()
    height, width = instances.shape
    points = centres(instances) * scale.pixel
    known = np.isfinite(points).all(axis=1)
    local = np.full(len(instances), np.nan)
    figures: dict[str, float] = {}
    covered = _covered(instances)
    for c, name in enumerate(safe_names(instances.class_names, "class")):
        members = np.flatnonzero(known & (instances.classes == c + 1))
        figures[f"{name}_count"] = len(members)
        figures[f"{name}_per_{scale.per}"] = scale.density(len(members), height * width)
        figures[f"{name}_covered"] = int(covered[c]) / (height * width) if height * width else math.nan
        steps = np.zeros(0)
        if len(members) > 1:
            tree = cKDTree(points[members])
            away = tree.query(points[members], k=min(nearest, len(members) - 1) + 1)[0]
            steps = away[:, 1]
            if len(members) > nearest:
                with np.errstate(divide="ignore"):
                    local[members] = nearest * 1e6 / (math.pi * away[:, nearest] ** 2)
        test = clark_evans(steps, height * scale.pixel[0], width * scale.pixel[1])
        for key, value in zip(("", "_z", "_p"), test):
            figures[f"{name}_clark_evans{key}"] = value
    local[np.isinf(local)] = np.nan
    return Density(pd.DataFrame({f"local_density_{scale.per}": local}), figures)


def clark_evans(nearest: np.ndarray, height: float, width: float) -> tuple[float, float, float]:
    """Clark and Evans' index of clustering, with Donnelly's correction for the edge of a rectangle.

    Parameters
    ----------
    nearest
        ``(N,)``: distance of every point to its nearest other point.
    height, width
        Of the rectangle that they lie in, in the same unit.

    Returns
    -------
    index, z, p
        The mean distance over that of points thrown at random: below 1 where points cluster, above 1 where they keep
        apart; how many standard errors it is off; and the two-sided p of that. NaN for fewer than 5 points. Objects
        have a size, so that their centres keep apart without any other reason.

    Examples
    --------
    >>> index, z, p = clark_evans(np.full(100, 10.0), 100, 100)
    >>> round(index, 2), z > 10, p < 0.001
    (1.91, True, True)
    """
    n = len(nearest)
    if n < _FEWEST or height <= 0 or width <= 0:
        return math.nan, math.nan, math.nan
    area, rim = height * width, 2 * (height + width)
    expected = 0.5 * math.sqrt(area / n) + (0.0514 + 0.0412 / math.sqrt(n)) * rim / n
    error = math.sqrt(0.0703 * area / n**2 + 0.037 * rim * math.sqrt(area / n**5))
    mean = float(np.mean(nearest))
    z = (mean - expected) / error
    return mean / expected, z, math.erfc(abs(z) / math.sqrt(2))


def _covered(instances: Instances) -> np.ndarray:
    """Pixels that the objects of each class cover, each counted once, int64 ``(C,)``."""
    height, width = instances.shape
    windows = instances.windows.astype(np.int64)
    found = np.zeros(len(instances.class_names), np.int64)
    step = max(1, _BAND // max(1, width))
    band = np.zeros((min(step, height), width), np.bool_)
    for c in range(len(found)):
        members = np.flatnonzero(instances.classes == c + 1)
        for start in range(0, height if len(members) else 0, step):
            rows = band[: min(step, height - start)]
            rows[:] = False
            found[c] += _paint(rows, start, members, windows, instances.bits, instances.offsets)
    return found


@njit(cache=True, nogil=True)
def _paint(rows: Any, start: Any, members: Any, windows: Any, bits: Any, offsets: Any) -> int:
    """Paint masks into a band of rows; count the pixels that were not painted before."""
    new = 0
    for i in members:
        y0, x0, y1, x1 = windows[i]
        for y in range(max(y0, start), min(y1, start + len(rows))):
            k = (y - y0) * (x1 - x0)
            for x in range(x0, x1):
                if (bits[offsets[i] + (k >> 3)] >> (7 - (k & 7))) & 1 and not rows[y - start, x]:
                    rows[y - start, x] = True
                    new += 1
                k += 1
    return new
