"""Weighted boxes fusion: several models' boxes of one image become one set, each box the mean of those that agree.

After Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection models",
Image and Vision Computing 107 (2021). Non-maximum suppression throws boxes away; here all that agree are averaged,
and an object that few models see loses score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

#: How the scores of a group become one score; see :func:`fuse_groups`.
Confidence = Literal["mean", "max", "box-and-model-mean", "absent-model-aware-mean"]
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)


@dataclass(frozen=True, eq=False)
class FusedBoxes:
    """What fusion makes of the boxes of several models.

    Attributes
    ----------
    boxes
        float64 ``(K, 4)``: the fused boxes, ``(y0, x0, y1, x1)``, by falling score.
    scores, classes
        float64 and int64 ``(K,)``.
    groups
        int64 ``(N,)``: for each box that was given, models one behind the other, which fused box it went into; -1 where
        it was left out.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    groups: np.ndarray


def weighted_boxes_fusion(
    boxes: Sequence[ArrayLike],
    scores: Sequence[ArrayLike],
    classes: Sequence[ArrayLike] | None = None,
    *,
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.55,
    score_threshold: float = 0.0,
    confidence: Confidence = "mean",
) -> FusedBoxes:
    """Fuse the boxes that several models found in one image.

    The boxes of all models are taken by falling score. Each joins the group whose mean box it overlaps most, if it is
    of the same class and the overlap is above the threshold, and moves the mean; else it begins a group.

    Parameters
    ----------
    boxes
        For each model ``(N, 4)``: ``(y0, x0, y1, x1)``, in pixels or any other unit.
    scores
        For each model ``(N,)``.
    classes
        For each model integers ``(N,)``; boxes of different classes are never fused. None: classes do not matter.
    weights
        How much each model counts; None: all the same.
    iou_threshold
        Boxes that overlap more belong together.
    score_threshold
        Boxes with lower scores are left out, as are boxes without area.
    confidence
        As for :func:`fuse_groups`.

    Returns
    -------
    FusedBoxes
        By falling score.

    Raises
    ------
    ValueError
        If the numbers of models, boxes, scores, classes or weights do not fit, or a value is impossible.

    Examples
    --------
    >>> fused = weighted_boxes_fusion([[[0, 0, 10, 10]], [[0, 0, 10, 12]]], [[0.9], [0.6]])
    >>> fused.boxes, fused.scores
    (array([[ 0. ,  0. , 10. , 10.8]]), array([0.75]))
    >>> weighted_boxes_fusion([[[0, 0, 10, 10]], []], [[0.9], []]).scores.tolist()
    [0.45]
    """
    if len(scores) != len(boxes) or (classes is not None and len(classes) != len(boxes)):
        raise ValueError(f"boxes of {len(boxes)} models need as many scores and classes")
    model_weights = check_weights(weights, len(boxes))
    flat = [np.asarray(part, np.float64).reshape(-1, 4) for part in boxes]
    models = np.repeat(np.arange(len(flat)), [len(part) for part in flat])
    all_boxes = np.concatenate(flat) if flat else np.zeros((0, 4))
    all_scores = _column(scores, flat, np.float64)
    all_classes = _column(classes, flat, np.int64) if classes is not None else np.zeros(len(all_boxes), np.int64)
    area = np.prod(np.maximum(all_boxes[:, 2:] - all_boxes[:, :2], 0), axis=1)
    used = np.flatnonzero((all_scores >= score_threshold) & (area > 0))
    weighted = all_scores * model_weights[models]
    order = used[np.argsort(-weighted[used], kind="stable")]
    groups = np.full(len(all_boxes), -1, np.int64)
    groups[order] = _group(all_boxes[order], weighted[order], all_classes[order], iou_threshold)
    fused_boxes, fused_scores = fuse_groups(
        groups[used], all_boxes[used], all_scores[used], models[used], model_weights, confidence
    )
    fused_classes = np.zeros(len(fused_boxes), np.int64)
    fused_classes[groups[used]] = all_classes[used]
    ranking = np.argsort(-fused_scores, kind="stable")
    place = np.empty(len(ranking), np.int64)
    place[ranking] = np.arange(len(ranking))
    groups[used] = place[groups[used]]
    return FusedBoxes(fused_boxes[ranking], fused_scores[ranking], fused_classes[ranking], groups)


def fuse_groups(
    groups: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    models: np.ndarray,
    weights: np.ndarray,
    confidence: Confidence = "mean",
) -> tuple[np.ndarray, np.ndarray]:
    """Make one box and one score of each group.

    Parameters
    ----------
    groups
        int64 ``(N,)``: the group of each box, 0 to K - 1, none without a box.
    boxes, scores
        ``(N, 4)`` and ``(N,)``.
    models
        int64 ``(N,)``: of which model each box is.
    weights
        float64 ``(M,)``: how much each model counts.
    confidence
        With ``s`` the scores of a group, ``w`` the weights of their models and ``W`` the sum of all models' weights:

        - ``"mean"``: mean of ``w s``, times the number of boxes (at most that of the models), over ``W``: models that
          did not find the object count as 0.
        - ``"max"``: largest ``w s`` over the largest weight.
        - ``"box-and-model-mean"``: mean of ``s`` by ``w``, times the share that the models of the group have in ``W``.
        - ``"absent-model-aware-mean"``: sum of ``w s`` over the sum of ``w`` and of the weights of absent models.

    Returns
    -------
    tuple
        Boxes ``(K, 4)``, the means by weighted score, and scores ``(K,)``, float64.

    Raises
    ------
    ValueError
        If there is no such confidence.

    Examples
    --------
    >>> boxes, scores = np.array([[0, 0, 4, 4], [0, 0, 4, 8.0]]), np.array([0.6, 0.6])
    >>> fuse_groups(np.array([0, 0]), boxes, scores, np.array([0, 1]), np.ones(3))
    (array([[0., 0., 4., 6.]]), array([0.4]))
    """
    if confidence not in CONFIDENCES:
        raise ValueError(f"confidence is one of {', '.join(CONFIDENCES)}, not {confidence}")
    count = int(groups.max()) + 1 if len(groups) else 0
    own = weights[models]
    votes = scores * own
    total = np.bincount(groups, votes, count)
    # Where all scores are 0, the boxes count alike.
    lone = np.where(total[groups] > 0, votes, 1.0)
    lone_total = np.bincount(groups, lone, count)
    fused = np.stack([np.bincount(groups, lone * boxes[:, k], count) / lone_total for k in range(4)], axis=1)
    members = np.bincount(groups, minlength=count)
    everything = weights.sum()
    if confidence == "mean":
        return fused, total / members * np.minimum(members, len(weights)) / everything
    if confidence == "max":
        best = np.zeros(count)
        np.maximum.at(best, groups, votes)
        return fused, best / weights.max(initial=0)
    weight = np.bincount(groups, own, count)
    pairs = np.unique(np.stack([groups, models], axis=1), axis=0)
    present = np.bincount(pairs[:, 0], weights[pairs[:, 1]], count)
    if confidence == "box-and-model-mean":
        return fused, total / weight * present / everything
    return fused, total / (weight + everything - present)


def check_weights(weights: Sequence[float] | np.ndarray | None, count: int) -> np.ndarray:
    """Bring the weights of models into an array; None gives each 1.

    Raises
    ------
    ValueError
        If there are not as many as models, or one is not a number above 0.

    Examples
    --------
    >>> check_weights(None, 2), check_weights([2, 1], 2)
    (array([1., 1.]), array([2., 1.]))
    """
    found = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if found.shape != (count,):
        raise ValueError(f"{count} models need {count} weights, not {found.size}")
    if not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(f"weights are numbers above 0, not {found.tolist()}")
    return found


def _column(parts: Sequence[ArrayLike], boxes: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    columns: list[np.ndarray] = [np.asarray(part, dtype).reshape(-1) for part in parts]
    if [len(column) for column in columns] != [len(part) for part in boxes]:
        raise ValueError("every box needs one score and one class")
    return np.concatenate(columns) if columns else np.zeros(0, dtype)


@njit(cache=True, nogil=True)
def _group(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> np.ndarray:
    """Put sorted boxes into groups; mean boxes move as members join."""
    n = len(boxes)
    groups = np.empty(n, np.int64)
    means, sums = np.empty((n, 4)), np.empty((n, 4))
    totals, kinds = np.empty(n), np.empty(n, np.int64)
    count = 0
    for i in range(n):
        best, best_iou = -1, threshold
        area = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
        for k in range(count):
            if kinds[k] != classes[i]:
                continue
            height = min(boxes[i, 2], means[k, 2]) - max(boxes[i, 0], means[k, 0])
            width = min(boxes[i, 3], means[k, 3]) - max(boxes[i, 1], means[k, 1])
            if height <= 0 or width <= 0:
                continue
            other = (means[k, 2] - means[k, 0]) * (means[k, 3] - means[k, 1])
            iou = height * width / (area + other - height * width)
            if iou > best_iou:
                best, best_iou = k, iou
        if best < 0:
            best = count
            count += 1
            kinds[best], totals[best] = classes[i], 0.0
            means[best] = boxes[i]
            sums[best] = 0.0
        groups[i] = best
        totals[best] += scores[i]
        for j in range(4):
            sums[best, j] += scores[i] * boxes[i, j]
            if totals[best] > 0:
                means[best, j] = sums[best, j] / totals[best]
    return groups
