"""Aggregated Jaccard index (Kumar et al., IEEE Transactions on Medical Imaging 2017)."""

from __future__ import annotations

import numpy as np

from cytomask.evaluation.pairs import ObjectPairs, Objects, pair_objects


def aggregated_jaccard_index(truth: Objects, prediction: Objects) -> float:
    """Pixels shared by true objects and their best predictions, over all pixels that the two and the leftovers cover.

    Each true object goes with the predicted object of the largest IoU (a prediction may serve several); predictions
    that serve none add their area to the denominator. It is harsher than a mean IoU: one merged pair spoils both.

    Returns
    -------
    float
        From 0 to 1; NaN if there are no objects at all.

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0]])
    >>> prediction = np.array([[5, 5, 5, 0, 0, 0, 0, 6]])
    >>> aggregated_jaccard_index(truth, prediction)  # 3 of (4 and 2 and 1) pixels
    0.42857142857142855
    """
    shared, covered = aji_counts(pair_objects(truth, prediction))
    return shared / covered if covered else float("nan")


def aji_counts(pairs: ObjectPairs) -> tuple[int, int]:
    """Count numerator and denominator of the index, so that images can be added up."""
    # Within each true object the pair with the largest IoU first; of equals, the smaller position.
    order = np.lexsort((pairs.prediction_index, -pairs.iou(), pairs.truth_index))
    truth = pairs.truth_index[order]
    best = order[np.flatnonzero(np.diff(truth, prepend=-1))]
    missed = np.ones(pairs.n_true, bool)
    missed[pairs.truth_index[best]] = False
    unused = np.ones(pairs.n_pred, bool)
    unused[pairs.prediction_index[best]] = False
    covered = pairs.union()[best].sum() + pairs.truth_areas[missed].sum() + pairs.prediction_areas[unused].sum()
    return int(pairs.shared[best].sum()), int(covered)
