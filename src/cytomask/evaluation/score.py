"""The one number by which training and tuning choose."""

from __future__ import annotations

from collections.abc import Sequence

from cytomask.evaluation.matching import MEAN_THRESHOLDS, Matching, match, pooled
from cytomask.evaluation.pairs import Objects


def instance_score(truths: Sequence[Objects], predictions: Sequence[Objects]) -> float:
    """Mean over the IoU thresholds 0.50, 0.55 … 0.90 of the accuracy tp / (tp + fp + fn), pooled over all images.

    Parameters
    ----------
    truths, predictions
        Objects of each image, in the same order; see :func:`match`.

    Returns
    -------
    float
        From 0 to 1; 0 if there are no objects, or no images.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((8, 8), int)
    >>> truth[2:6, 2:7] = 1
    >>> instance_score([truth], [truth]), instance_score([truth], [np.roll(truth, 1, axis=1)])
    (1.0, 0.4444444444444444)
    """
    if len(truths) != len(predictions):
        raise ValueError(f"{len(truths)} truths, but {len(predictions)} predictions")
    if not truths:
        return 0.0
    return mean_accuracy(pooled([match(t, p, MEAN_THRESHOLDS) for t, p in zip(truths, predictions)]))


def mean_accuracy(matching: Matching) -> float:
    """Mean accuracy over those of a matching's thresholds that lie from 0.50 to 0.90."""
    accuracy = matching.figures()["accuracy"]
    chosen = [k for k, threshold in enumerate(matching.thresholds) if threshold in MEAN_THRESHOLDS]
    return float(accuracy[chosen].mean())
