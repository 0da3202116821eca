"""Boundary F1: how well the outlines agree, within a tolerance in pixels (Csurka et al., BMVC 2013).

A pixel of a predicted outline is right if a true outline passes within the tolerance, and a pixel of a true outline is
found if a predicted one does. Outlines are those of the objects, so a missing line between two touching cells counts,
which no figure of pixels or classes sees.

Csurka et al. take 0.75 % of the image's diagonal for the tolerance, 11 pixels in an image of 1000 x 1000, which is more
than the radius of many a nucleus. The default here is 2 pixels, whatever the image's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cytomask.errors import ConfigError, LabelError
from cytomask.evaluation.pairs import Objects, image_size
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

#: How far apart two outlines may lie, in pixels.
TOLERANCE = 2.0
_LARGEST_TOLERANCE = 100


@dataclass(frozen=True, slots=True)
class BoundaryCounts:
    """Pixels of outlines, of one image or of several together.

    Attributes
    ----------
    n_true, n_pred
        Pixels of the true and of the predicted outlines.
    found
        Pixels of true outlines near a predicted one.
    right
        Pixels of predicted outlines near a true one.
    """

    n_true: int
    n_pred: int
    found: int
    right: int


def boundary_f1(truth: Objects, prediction: Objects, tolerance: float = TOLERANCE) -> float:
    """Harmonic mean of the part of the predicted outlines that is right and the part of the true ones that is found.

    Parameters
    ----------
    truth, prediction
        Objects of one image; see :func:`~cytomask.evaluation.pairs.pair_objects`.
    tolerance
        How far apart two outlines may lie, in pixels.

    Returns
    -------
    float
        From 0 to 1; NaN if there are no objects at all.

    Examples
    --------
    >>> truth = np.zeros((9, 9), int)
    >>> truth[2:7, 2:7] = 1
    >>> moved = np.roll(truth, 2, axis=1)
    >>> boundary_f1(truth, moved), round(boundary_f1(truth, moved, tolerance=1), 2)
    (1.0, 0.69)
    """
    return float(boundary_figures(as_array(boundary_counts(truth, prediction, tolerance)))["f1"])


def boundary_counts(
    truth: Objects, prediction: Objects, tolerance: float = TOLERANCE, crowd: np.ndarray | None = None
) -> BoundaryCounts:
    """Count the pixels of the outlines of one image, and those that have an outline of the other side near.

    Parameters
    ----------
    truth, prediction, tolerance
        As in :func:`boundary_f1`.
    crowd
        Where crowd regions are, bool ``(Y, X)``: outlines in them are not counted.

    Raises
    ------
    ConfigError
        If the tolerance is negative, or above 100 pixels.
    LabelError
        If the images differ in size.
    """
    if not 0 <= tolerance <= _LARGEST_TOLERANCE:
        raise ConfigError("the tolerance of outlines is a distance in pixels", found=tolerance, expected="0 to 100")
    if image_size(truth) != image_size(prediction):
        raise LabelError("the prediction and the truth differ in size", found=image_size(prediction),
                         expected=image_size(truth))  # fmt: skip
    true, predicted = outlines(truth), outlines(prediction)
    if crowd is not None:
        true, predicted = true & ~crowd, predicted & ~crowd
    offsets = _disc(float(tolerance))
    n_true, found = _near(true, predicted, offsets)
    n_pred, right = _near(predicted, true, offsets)
    return BoundaryCounts(n_true, n_pred, found, right)


def boundary_figures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute ``precision``, ``recall`` and ``f1`` of outlines.

    Parameters
    ----------
    counts
        ``(..., 4)`` as of :func:`as_array`; leading axes (images, resamples) are kept.

    Returns
    -------
    dict
        NaN where there are no outlines on either side; 0 where there are none on one.
    """
    n_true, n_pred, found, right = np.moveaxis(np.asarray(counts, float), -1, 0)
    precision, recall = _divide(right, n_pred), _divide(found, n_true)
    # Of two parts of different wholes; with the tolerance they need not be the same pixels.
    f1 = _divide(2 * precision * recall, precision + recall)
    nothing = (n_true == 0) & (n_pred == 0)
    return {
        name: np.where(nothing, np.nan, v) for name, v in (("precision", precision), ("recall", recall), ("f1", f1))
    }


def as_array(counts: BoundaryCounts) -> np.ndarray:
    """The four counts in their order, int64."""
    return np.array([counts.n_true, counts.n_pred, counts.found, counts.right], np.int64)


def outlines(objects: Objects) -> np.ndarray:
    """The outermost pixels of every object, bool ``(Y, X)``.

    A pixel of an object is one of them if one of its four neighbours is not of that object. The image's edge is no
    outline: an object that it cuts off goes on behind it.

    Examples
    --------
    >>> outlines(np.array([[1, 1, 1, 2, 0], [1, 1, 1, 2, 0]])).astype(int)
    array([[0, 0, 1, 1, 0],
           [0, 0, 1, 1, 0]])
    """
    out = np.zeros(image_size(objects), bool)
    if isinstance(objects, Instances):
        _mask_outlines(out, objects.windows, objects.bits, objects.offsets)
        return out
    if not isinstance(objects, LabelLayers):
        _label_outlines(out, np.ascontiguousarray(objects, np.int64 if objects.dtype.itemsize > 4 else np.int32))
        return out
    for layer in objects.layers:
        without = np.where(np.isin(layer, list(objects.crowd)), 0, layer) if objects.crowd else layer
        _label_outlines(out, np.ascontiguousarray(without))
    return out


def _disc(radius: float) -> np.ndarray:
    """Steps to the pixels within a radius, the nearest first, int64 ``(K, 2)``."""
    r = int(radius)
    rows, columns = (x.ravel() for x in np.mgrid[-r : r + 1, -r : r + 1])
    squared = rows**2 + columns**2
    order = np.argsort(squared, kind="stable")
    return np.stack([rows, columns], axis=1)[order[squared[order] <= radius**2]]


def _divide(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(value, by, out=np.zeros(np.shape(value)), where=by > 0)


@njit(cache=True, nogil=True)
def _label_outlines(out: np.ndarray, labels: np.ndarray) -> None:
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            if own and (
                (y > 0 and labels[y - 1, x] != own)
                or (y + 1 < height and labels[y + 1, x] != own)
                or (x > 0 and labels[y, x - 1] != own)
                or (x + 1 < width and labels[y, x + 1] != own)
            ):
                out[y, x] = True


@njit(cache=True, nogil=True)
def _mask_outlines(out: np.ndarray, windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray) -> None:
    height, width = out.shape
    for i in range(len(windows)):
        y0, x0, y1, x1 = windows[i]
        rows, columns = y1 - y0, x1 - x0
        mask = np.zeros((rows + 2, columns + 2), np.bool_)
        for k in range(rows * columns):
            mask[k // columns + 1, k % columns + 1] = (bits[offsets[i] + (k >> 3)] >> (7 - (k & 7))) & 1
        for y in range(y0, y1):
            for x in range(x0, x1):
                v, u = y - y0 + 1, x - x0 + 1
                if mask[v, u] and (
                    (y > 0 and not mask[v - 1, u])
                    or (y + 1 < height and not mask[v + 1, u])
                    or (x > 0 and not mask[v, u - 1])
                    or (x + 1 < width and not mask[v, u + 1])
                ):
                    out[y, x] = True


@njit(cache=True, nogil=True)
def _near(own: np.ndarray, other: np.ndarray, offsets: np.ndarray) -> tuple[int, int]:
    """How many pixels are set, and how many of them have a set pixel of the other image at one of the steps."""
    height, width = own.shape
    total = near = 0
    for y in range(height):
        for x in range(width):
            if not own[y, x]:
                continue
            total += 1
            for k in range(len(offsets)):
                v, u = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= v < height and 0 <= u < width and other[v, u]:
                    near += 1
                    break
    return total, near
