"""Whether annotations lie where the image shows edges: shifted against it, or not belonging to it at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.ndimage import gaussian_filter

from cytomask.instances import Instances

#: Shifts are tried up to so many pixels along y and x.
REACH = 12
#: So many objects of an image are looked at, and so many points of each outline.
MOST_OBJECTS, MOST_POINTS = 100, 40
#: Smoothing of the image before its edges are taken, pixels.
SIGMA = 1.0
#: Smoothing of a mask before its outline's direction is taken, and the margin that it needs.
_BLUR = np.exp(-0.5 * np.arange(-2.0, 3.0) ** 2) / np.exp(-0.5 * np.arange(-2.0, 3.0) ** 2).sum()
_MARGIN = len(_BLUR) // 2 + 1


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the outlines of one image's objects lie on its edges.

    Attributes
    ----------
    objects
        How many objects were looked at.
    dy, dx
        The shift of the annotation, in pixels, after which its outlines lie best on the image's edges.
    gain
        How much stronger the edges under the outlines are there than where the annotation is: the share of the
        strength there, from 0 (no stronger).
    certainty
        The mean gain of an object in units of its standard error: how sure the gain is.
    agreeing
        Share of the objects whose own edges are stronger after the shift.
    fit
        Mean edge strength under the outlines as they are, against that at far shifts, in standard errors over
        objects: near 0, the annotation has nothing to do with the image.
    """

    objects: int
    dy: int
    dx: int
    gain: float
    certainty: float
    agreeing: float
    fit: float


def align(grey: npt.NDArray[np.floating], objects: Instances) -> Alignment | None:
    """Compare outlines with the image's edges under all small shifts.

    Parameters
    ----------
    grey
        ``(Y, X)``.
    objects
        Objects of the same image.

    Returns
    -------
    Alignment or None
        None if no object lies far enough inside the image, or the image has no edges.

    Examples
    --------
    >>> y, x = np.mgrid[:120, :120]
    >>> discs = (np.hypot(y % 40 - 20, x % 40 - 20) < 10).astype(np.float32)
    >>> labels = np.where(discs > 0, 1 + y // 40 * 3 + x // 40, 0)
    >>> found = align(discs, Instances.from_labels(np.roll(labels, (4, -3), (0, 1))))
    >>> found.dy, found.dx, found.agreeing
    (-4, 3, 1.0)
    """
    points, begins = _outline_points(objects)
    if len(begins) < 2:
        return None
    smooth = gaussian_filter(np.asarray(grey, np.float32), SIGMA)
    gy, gx = np.gradient(smooth)
    strength = np.hypot(gy, gx)
    # Very bright objects must not outweigh all others: strengths are cut at a high percentile.
    limit = float(np.percentile(strength, 98))
    if limit <= 0:
        return None
    cut = np.minimum(1.0, limit / np.maximum(strength, 1e-12)) / limit
    curves = _curves(np.ascontiguousarray(gy * cut, np.float32), np.ascontiguousarray(gx * cut, np.float32),
                     points, begins, REACH)  # fmt: skip
    return _judge(curves)


def _judge(curves: npt.NDArray[np.float64]) -> Alignment:
    n, side = len(curves), 2 * REACH + 1
    mean = curves.mean(axis=0)
    # Objects may be darker or brighter than their surroundings: the stronger sign counts.
    far = np.hypot(*np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]) > 0.7 * REACH
    base = float(mean[far].mean())
    sign = 1.0 if abs(mean.max() - base) >= abs(mean.min() - base) else -1.0
    curves, mean = sign * curves, sign * mean
    best = np.unravel_index(int(mean.argmax()), (side, side))
    here, there = curves[:, REACH, REACH], curves[:, best[0], best[1]]
    gains = there - here
    error = float(gains.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    elsewhere = curves[:, far].mean(axis=1)
    over = here - elsewhere
    spread = float(over.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    top = float(there.mean())
    return Alignment(
        objects=n,
        dy=int(best[0]) - REACH,
        dx=int(best[1]) - REACH,
        gain=float(gains.mean()) / top if top > 0 else 0.0,
        certainty=float(gains.mean()) / error if error > 0 else 0.0,
        agreeing=float((gains > 0).mean()),
        fit=float(over.mean()) / spread if spread > 0 else 0.0,
    )


def _outline_points(objects: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Points of the outlines of some objects, float32 ``(P, 4)``: y, x and the direction outwards."""
    chosen = np.flatnonzero(objects.areas() >= 20)
    if len(chosen) > MOST_OBJECTS:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MOST_OBJECTS).astype(int)]
    height, width = objects.shape
    parts, begins = [], [0]
    for i in chosen:
        y0, x0 = objects.windows[i, :2]
        found = _normals(np.pad(objects.mask(int(i)), _MARGIN).view(np.int8), _BLUR)
        found[:, :2] += (y0 - _MARGIN, x0 - _MARGIN)
        # Where the image ends is no edge of the object.
        y, x = found[:, 0], found[:, 1]
        found = found[(y > 0) & (x > 0) & (y < height - 1) & (x < width - 1)]
        if len(found) < 6:
            continue
        if len(found) > MOST_POINTS:
            found = found[np.linspace(0, len(found) - 1, MOST_POINTS).astype(int)]
        parts.append(found)
        begins.append(begins[-1] + len(found))
    points = np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, 4), np.float32)
    return points, np.array(begins, np.int64)


@njit(cache=True, nogil=True)
def _normals(mask, blur):  # type: ignore[no-untyped-def]
    """Rim of a mask within a margin, float64 ``(K, 4)``: y, x and the direction in which the blurred mask falls."""
    height, width = mask.shape
    reach = len(blur) // 2
    out = np.empty((height * width, 4))
    found = 0
    for y in range(reach + 1, height - reach - 1):
        for x in range(reach + 1, width - reach - 1):
            if not mask[y, x] or (mask[y - 1, x] and mask[y + 1, x] and mask[y, x - 1] and mask[y, x + 1]):
                continue
            ny, nx = 0.0, 0.0
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    weight = 0.5 * blur[dy + reach] * blur[dx + reach]
                    v, u = y + dy, x + dx
                    ny += weight * (mask[v - 1, u] - mask[v + 1, u])
                    nx += weight * (mask[v, u - 1] - mask[v, u + 1])
            length = np.hypot(ny, nx)
            if length > 1e-3:
                out[found, 0], out[found, 1], out[found, 2], out[found, 3] = y, x, ny / length, nx / length
                found += 1
    return out[:found].copy()


@njit(cache=True, nogil=True)
def _curves(gy, gx, points, begins, reach):  # type: ignore[no-untyped-def]
    """Mean inward gradient under each object's outline, for every shift: float64 ``(objects, side, side)``."""
    height, width = gy.shape
    n, side = len(begins) - 1, 2 * reach + 1
    out = np.zeros((n, side, side))
    for i in range(n):
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                total, count = 0.0, 0
                for p in range(begins[i], begins[i + 1]):
                    y, x = int(points[p, 0]) + dy, int(points[p, 1]) + dx
                    if 0 <= y < height and 0 <= x < width:
                        total -= gy[y, x] * points[p, 2] + gx[y, x] * points[p, 3]
                        count += 1
                # Outlines pushed out of the image tell less, and nothing if hardly any of them is left.
                if 2 * count >= begins[i + 1] - begins[i]:
                    out[i, dy + reach, dx + reach] = total / count
    return out
