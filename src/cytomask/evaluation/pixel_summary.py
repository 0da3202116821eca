"""A few pixel figures of a set of images, for a training's log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.evaluation.pairs import Objects
from cytomask.evaluation.pixels import pixel_confusion


def pixel_summary(
    truths: Sequence[Objects], predictions: Sequence[Objects], classes: Sequence[str] = ("object",)
) -> dict[str, float]:
    """Tell how well pixels agree, over all images together.

    Parameters
    ----------
    truths, predictions
        Objects of each image, in the same order.
    classes
        Names of the object classes 1, 2, 3 …

    Returns
    -------
    dict
        ``pixel_accuracy``, the share of pixels with the right class; the same of pixels that are truly background,
        ``background_accuracy``, and of those that truly belong to objects, ``object_accuracy``; ``iou`` of all
        objects' pixels, whatever their class; with several classes ``iou_NAME`` of each. A figure that no pixel tells
        of is left out.

    Examples
    --------
    >>> pixel_summary([np.array([[1, 1, 2, 0, 0]])], [np.array([[0, 7, 7, 7, 0]])])
    {'pixel_accuracy': 0.6, 'background_accuracy': 0.5, 'object_accuracy': 0.666..., 'iou': 0.5}
    """
    n = len(classes)
    confusion = np.zeros((n + 1, n + 1), np.int64)
    for truth, prediction in zip(truths, predictions, strict=True):
        confusion += pixel_confusion(truth, prediction, n)
    right, true, found = np.diagonal(confusion), confusion.sum(1), confusion.sum(0)
    shares = {
        "pixel_accuracy": (right.sum(), confusion.sum()),
        "background_accuracy": (right[0], true[0]),
        "object_accuracy": (right[1:].sum(), true[1:].sum()),
        "iou": (confusion[1:, 1:].sum(), confusion.sum() - confusion[0, 0]),
    }
    if n > 1:
        shares |= {f"iou_{name}": (right[k], true[k] + found[k] - right[k]) for k, name in enumerate(classes, start=1)}
    return {name: float(part / whole) for name, (part, whole) in shares.items() if whole}
