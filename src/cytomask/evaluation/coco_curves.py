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


def average_precision(matches: SortedMatches, weights: np.ndarray) -> np.ndarray:
    """Average precision for each area range and threshold, of each resample.

    Precision at a recall is the best that is reached there or at a higher recall; the average is over 101 recalls.

    Parameters
    ----------
    matches
        Predictions of one class.
    weights
        float64 ``(R, I)``: how often each image is drawn.

    Returns
    -------
    numpy.ndarray
        float64 ``(R, A, T)``; NaN where there is nothing to find.
    """
    return _averages(matches.image, matches.status, np.ascontiguousarray(weights), weights @ matches.n_true)


def recalls(matches: SortedMatches, weights: np.ndarray, max_dets: Sequence[int]) -> np.ndarray:
    """Recall when only the best of each image count, of each resample.

    Parameters
    ----------
    matches
        Predictions of one class.
    weights
        float64 ``(R, I)``: how often each image is drawn.
    max_dets
        How many predictions of an image count.

    Returns
    -------
    numpy.ndarray
        float64 ``(R, M, A, T)``; NaN where there is nothing to find.
    """
    limits = np.array(max_dets, np.int64)
    found = _count_hits(matches.image, matches.ranks, matches.status, limits, len(matches.n_true))
    n_true = (weights @ matches.n_true)[:, None, :, None]
    hits = np.moveaxis(np.tensordot(found, weights, axes=(3, 1)), 3, 0)
    return np.divide(hits, n_true, out=np.full(hits.shape, np.nan), where=n_true > 0)


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
def _count_hits(
    image: np.ndarray, ranks: np.ndarray, status: np.ndarray, limits: np.ndarray, n_images: int
) -> np.ndarray:
    """Hits of each limit, area range, threshold and image, float64 ``(M, A, T, I)``."""
    n_ranges, n_thresholds, n = status.shape
    found = np.zeros((len(limits), n_ranges, n_thresholds, n_images))
    for a in range(n_ranges):
        for t in range(n_thresholds):
            for d in range(n):
                if status[a, t, d] == TRUE:
                    for m in range(len(limits)):
                        if ranks[d] < limits[m]:
                            found[m, a, t, image[d]] += 1
    return found


@njit(cache=True, nogil=True)
def _averages(image: np.ndarray, status: np.ndarray, weights: np.ndarray, n_true: np.ndarray) -> np.ndarray:
    n_ranges, n_thresholds, n = status.shape
    values = np.empty((len(weights), n_ranges, n_thresholds))
    # Images of the hits, of the misses, and how many misses come before each hit.
    hits, misses, before = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64)
    for a in range(n_ranges):
        for t in range(n_thresholds):
            n_hits, n_misses = 0, 0
            for d in range(n):
                if status[a, t, d] == TRUE:
                    hits[n_hits], before[n_hits] = image[d], n_misses
                    n_hits += 1
                elif status[a, t, d] != LEFT_OUT:
                    misses[n_misses] = image[d]
                    n_misses += 1
            for r in range(len(weights)):
                values[r, a, t] = _average(hits[:n_hits], misses, before, weights[r], n_true[r, a])
    return values


@njit(cache=True, nogil=True)
def _average(
    hits: np.ndarray, misses: np.ndarray, before: np.ndarray, weights: np.ndarray, n_true: float
) -> float:  # fmt: skip
    """One pass over the hits: precision can only be best right after one, and recall only rises there."""
    if n_true <= 0:
        return np.nan
    best = np.zeros(len(RECALLS) + 1)
    right, wrong, reached, missed = 0.0, 0.0, 0, 0
    for h in range(len(hits)):
        while missed < before[h]:
            wrong += weights[misses[missed]]
            missed += 1
        # A hit in an image that was not drawn changes nothing: its precision is no higher than that of the last.
        right += weights[hits[h]]
        recall = right / n_true
        while reached < len(RECALLS) and RECALLS[reached] <= recall:
            reached += 1
        # As in COCO, the smallest step from 1 is added, so that nothing is divided by 0.
        best[reached] = max(best[reached], right / (wrong + right + 2.220446049250313e-16))
    total, highest = 0.0, 0.0
    for k in range(len(RECALLS), 0, -1):
        highest = max(highest, best[k])
        total += highest
    return total / len(RECALLS)
