"""Precision integrated over recall while the IoU that is asked for falls: an "average precision" without scores.

The nucleus pipelines that report it (20 thresholds, a mean over tissue groups) call it mAP. It is neither COCO's AP,
which ranks objects by their scores, nor the accuracy that nucleus papers call AP, so it has a name of its own here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import INTEGRATED_THRESHOLDS, ImageScores


def integrated_precision(tp: np.ndarray, n_true: np.ndarray, n_pred: np.ndarray) -> np.ndarray:
    """Add up the precision at each IoU threshold, weighted by the recall that is lost on the way to the next one.

    Parameters
    ----------
    tp
        Matched objects at thresholds that grow, ``(..., T)``.
    n_true, n_pred
        True and predicted objects, ``(...,)``.

    Returns
    -------
    numpy.ndarray
        float64 ``(...,)``, from 0 to 1; NaN where there is no true object. Behind the last threshold the recall is 0,
        so that what fits exactly counts, too, and a perfect prediction gets 1.

    Examples
    --------
    >>> integrated_precision(np.array([4, 2, 0]), np.array(4), np.array(4))
    array(0.75)
    """
    tp, n_true, n_pred = (np.asarray(counts, float) for counts in (tp, n_true, n_pred))
    true, predicted = n_true[..., None], n_pred[..., None]
    precision = np.divide(tp, predicted, out=np.zeros(tp.shape), where=np.broadcast_to(predicted > 0, tp.shape))
    recall = np.divide(tp, true, out=np.zeros(tp.shape), where=np.broadcast_to(true > 0, tp.shape))
    lost = recall - np.concatenate([recall[..., 1:], np.zeros((*recall.shape[:-1], 1))], axis=-1)
    return np.where(n_true > 0, (precision * lost).sum(axis=-1), np.nan)


def integrated_ap(
    images: Sequence[ImageScores],
    groups: Mapping[str, Mapping[str, Sequence[int]]],
    bootstrap: Bootstrap | None = None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The threshold-integrated precision of all images together, and by group.

    Parameters
    ----------
    images
        Counts of each image.
    groups
        Positions of the images by property and its value, as :func:`~cytomask.evaluation.grouping.group_images` gives
        them. A group may be a single image.
    bootstrap
        How confidence intervals are made; None leaves them out.

    Returns
    -------
    tuple
        ``thresholds``, ``overall`` and ``groups``: of each property ``mean``, over its values, and ``values``. Then
        the same with ``[low, high]`` in place of each figure; None for fewer than two images.
    """
    counts = np.array([[*image.integrated_tp, image.matching.n_true, image.matching.n_pred] for image in images], float)

    def figures(weights: np.ndarray) -> dict[str, Any]:
        """All figures of each resample, ``(R,)``."""
        named: dict[str, Any] = {"overall": _of(weights @ counts), "groups": {}}
        for column, values in groups.items():
            of_value = {
                value: _of(weights[:, list(members)] @ counts[list(members)]) for value, members in values.items()
            }
            every = np.array(list(of_value.values()))
            known = ~np.isnan(every)
            total, n = np.where(known, every, 0).sum(axis=0), known.sum(axis=0)
            mean = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
            named["groups"][column] = {"mean": mean, "values": of_value}
        return named

    whole = _each(figures(np.ones((1, len(images)))), lambda value: float(value[0]))
    whole = {"thresholds": list(INTEGRATED_THRESHOLDS), **whole}
    if bootstrap is None or bootstrap.resamples < 1 or len(images) < 2:
        return whole, None
    return whole, _each(figures(bootstrap.weights(len(images))), bootstrap.interval)


def _of(counts: np.ndarray) -> np.ndarray:
    return integrated_precision(counts[:, :-2], counts[:, -2], counts[:, -1])


def _each(tree: dict[str, Any], change: Any) -> dict[str, Any]:
    return {key: _each(one, change) if isinstance(one, dict) else change(one) for key, one in tree.items()}
