"""Precision and recall of scored predictions over many images, and their average over recall, also of resamples.

A resample of the images is a weight per image, so that all resamples are computed from the same sorted predictions;
the figures themselves are the resample in which every image weighs 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from cytomask.evaluation.coco_matching import FALSE, LEFT_OUT, TRUE, ScoredMatches

#: The recalls at which COCO reads precision.
RECALLS = np.linspace(0.0, 1.0, 101)
#: A curve has so many points at most.
CURVE_POINTS = 201


@dataclass(frozen=True, slots=True, eq=False)
class SortedMatches:
    """The predictions of one class in all images, the best score first.

    Attributes
    ----------
    image
        int32 ``(D,)``: position of the image.
    scores, ranks
        float32 and int32 ``(D,)``.
    status
        uint8 ``(A, T, D)``; see :class:`ScoredMatches`.
    n_true
        float64 ``(I, A)``: true objects to be found in each image, by area range.
    """

    image: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    status: np.ndarray
    n_true: np.ndarray


def sort_matches(images: Sequence[ScoredMatches], class_id: int) -> SortedMatches:
    """Put the predictions of one class in all images in the order of their scores; equal ones stay in order."""
    chosen = [np.flatnonzero(one.classes == class_id) for one in images]
    number = np.repeat(np.arange(len(images), dtype=np.int32), [len(c) for c in chosen])
    scores = np.concatenate([one.scores[c] for one, c in zip(images, chosen)])
    order = np.argsort(-scores, kind="stable")
    ranks = np.concatenate([one.ranks[c] for one, c in zip(images, chosen)])
    status = np.concatenate([one.status[:, :, c] for one, c in zip(images, chosen)], axis=2)
    n_true = np.array([one.n_true[:, class_id - 1] for one in images], float)
    return SortedMatches(number[order], scores[order], ranks[order], status[:, :, order], n_true)


def average_precision(matches: SortedMatches, area: int, weights: np.ndarray) -> np.ndarray:
    """Average precision at each threshold, of each resample.

    Precision at a recall is the best that is reached there or at a higher recall; the average is over 101 recalls.

    Parameters
    ----------
    matches
        Predictions of one class.
    area
        Position of the area range; 0 for all areas.
    weights
        float64 ``(R, I)``: how often each image is drawn.

    Returns
    -------
    numpy.ndarray
        float64 ``(R, T)``; NaN where there is nothing to find.
    """
    n_true = weights @ matches.n_true[:, area]
    values = np.full((len(weights), matches.status.shape[1]), np.nan)
    for t, status in enumerate(matches.status[area]):
        counted = status != LEFT_OUT
        values[:, t] = _average(matches.image[counted], status[counted] == TRUE, weights, n_true)
    return values


def recall(matches: SortedMatches, area: int, weights: np.ndarray, max_det: int) -> np.ndarray:
    """Recall at each threshold of the best ``max_det`` predictions of each image, of each resample, ``(R, T)``."""
    n_images = len(matches.n_true)
    found = (matches.status[area] == TRUE) & (matches.ranks < max_det)
    by_image = np.array([np.bincount(matches.image[one], minlength=n_images) for one in found], float)
    n_true = weights @ matches.n_true[:, area]
    hits = weights @ by_image.T
    return np.divide(hits, n_true[:, None], out=np.full(hits.shape, np.nan), where=n_true[:, None] > 0)


def precision_recall(classes: Sequence[SortedMatches], threshold: int) -> dict[str, list[float]]:
    """The curve that lowering the score draws, of all classes together.

    Parameters
    ----------
    classes
        Predictions of each class.
    threshold
        Position of the IoU threshold.

    Returns
    -------
    dict
        ``score``, ``recall`` and ``precision`` at up to 201 scores, from the best down; predictions of equal score
        come at once, since no threshold tells them apart.
    """
    status = np.concatenate([one.status[0, threshold] for one in classes])
    scores = np.concatenate([one.scores for one in classes])
    n_true = sum(one.n_true[:, 0].sum() for one in classes)
    order = np.argsort(-scores, kind="stable")
    status, scores = status[order], scores[order]
    right, wrong = np.cumsum(status == TRUE), np.cumsum(status == FALSE)
    ends = np.flatnonzero(np.diff(scores, append=np.float32(-np.inf)))
    ends = ends[right[ends] + wrong[ends] > 0]
    if len(ends) > CURVE_POINTS:
        ends = ends[np.linspace(0, len(ends) - 1, CURVE_POINTS).round().astype(int)]
    return {
        "score": scores[ends].astype(float).tolist(),
        "recall": (right[ends] / n_true if n_true else np.full(len(ends), np.nan)).tolist(),
        "precision": (right[ends] / (right[ends] + wrong[ends])).tolist(),
    }


@njit(cache=True, nogil=True)
def _average(image: np.ndarray, is_true: np.ndarray, weights: np.ndarray, n_true: np.ndarray) -> np.ndarray:
    """One pass per resample: precision can only be best right after a hit, and recall only rises there."""
    recalls = np.linspace(0.0, 1.0, 101)
    values = np.full(len(weights), np.nan)
    best = np.zeros(102)
    for r in range(len(weights)):
        if n_true[r] <= 0:
            continue
        best[:] = 0
        right, wrong = 0.0, 0.0
        reached = 0
        for d in range(len(image)):
            weight = weights[r, image[d]]
            if weight == 0:
                continue
            if not is_true[d]:
                wrong += weight
                continue
            right += weight
            while reached < 101 and recalls[reached] <= right / n_true[r]:
                reached += 1
            # The smallest number that 1 can be told from by, so that nothing is divided by 0; as COCO does.
            best[reached] = max(best[reached], right / (wrong + right + 2.220446049250313e-16))
        total, highest = 0.0, 0.0
        for k in range(101, 0, -1):
            highest = max(highest, best[k])
            total += highest
        values[r] = total / 101
    return values
