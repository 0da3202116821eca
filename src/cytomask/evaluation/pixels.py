"""Pixel metrics: how well classes of pixels agree, whatever object a pixel belongs to."""

from __future__ import annotations

import numpy as np

from cytomask.errors import LabelError
from cytomask.evaluation.pairs import ObjectPairs, Objects, class_map, image_size
from cytomask.geometry.overlap import overlap_table


def pixel_confusion(
    truth: Objects,
    prediction: Objects,
    n_classes: int = 1,
    pairs: ObjectPairs | None = None,
    left_out: np.ndarray | None = None,
) -> np.ndarray:
    """Count pixels by their true and their predicted class.

    Parameters
    ----------
    truth, prediction
        Objects of one image; see :func:`pair_objects`.
    n_classes
        Number of classes without the background. 1 takes all objects as one class.
    pairs
        The table of the two, if it is there already: for one class and disjoint objects it says all.
    left_out
        Pixels that are not counted, bool ``(Y, X)``, such as those of crowd regions.

    Returns
    -------
    numpy.ndarray
        int64 ``(n_classes + 1, n_classes + 1)``: rows are true classes, columns predicted ones, 0 the background.

    Raises
    ------
    LabelError
        If the images differ in size, or a class id is above ``n_classes``.

    Examples
    --------
    >>> pixel_confusion(np.array([[1, 1, 2, 0, 0]]), np.array([[0, 7, 7, 7, 0]]))
    array([[1, 1],
           [1, 2]])
    """
    if n_classes == 1 and pairs is not None and pairs.disjoint and left_out is None:
        height, width = image_size(truth)
        both = pairs.shared.sum()
        only_truth, only_prediction = pairs.truth_areas.sum() - both, pairs.prediction_areas.sum() - both
        background = height * width - both - only_truth - only_prediction
        return np.array([[background, only_prediction], [only_truth, both]], np.int64)
    maps = [class_map(objects) for objects in (truth, prediction)]
    if n_classes == 1:
        maps = [(m > 0).astype(np.uint8) for m in maps]
    if left_out is not None:
        maps = [np.ascontiguousarray(m[~left_out])[None] for m in maps]
    true_class, predicted_class, counts = overlap_table(maps[0], maps[1])
    largest = max(true_class.max(initial=0), predicted_class.max(initial=0))
    if largest > n_classes:
        raise LabelError("an object has an unknown class", found=largest, expected=f"a class from 1 to {n_classes}")
    confusion = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    confusion[true_class, predicted_class] = counts
    return confusion


def pixel_figures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Compute pixel metrics from confusion counts; leading axes (images, resamples) are kept.

    Parameters
    ----------
    confusion
        Counts ``(..., C + 1, C + 1)`` as of :func:`pixel_confusion`.

    Returns
    -------
    dict
        ``iou`` ``(..., C + 1)`` per class, the background first; ``mean_iou`` over all classes with the background;
        ``foreground_iou``, of the pixels of any object, whatever its class; ``pixel_accuracy``, the fraction of pixels
        with the right class; ``dice``, the mean over the classes without the background. A class that occurs on neither
        side is NaN, and is left out of the means.

    Examples
    --------
    >>> values = pixel_figures(np.array([[6, 1], [1, 2]]))
    >>> values["iou"], values["dice"].item(), values["pixel_accuracy"].item()
    (array([0.75, 0.5 ]), 0.666..., 0.8)
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    both_areas = (confusion.sum(-1) + confusion.sum(-2)).astype(float)
    everything = confusion.sum((-2, -1)).astype(float)
    iou = _divide(right, both_areas - right)
    dice = _divide(2 * right, both_areas)
    return {
        "iou": iou,
        "mean_iou": _mean(iou),
        "foreground_iou": _divide(confusion[..., 1:, 1:].sum((-2, -1)), everything - confusion[..., 0, 0]),
        "pixel_accuracy": _divide(right.sum(-1), everything),
        "dice": _mean(dice[..., 1:]),
    }


def _divide(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(value, by, out=np.full(np.shape(value), np.nan), where=by > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN if nothing is left."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(-1), known.sum(-1).astype(float))
