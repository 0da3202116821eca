"""Match scored predictions as COCO does, image by image: greedily, the best score first.

Only pairs that share a pixel (or whose boxes do) are looked at: a pair without overlap never matches, and in a dense
image nearly all pairs are of that kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from cytomask.errors import LabelError
from cytomask.geometry.overlap import mask_overlaps
from cytomask.instances import Instances

Kind = Literal["segm", "bbox"]
#: What became of a prediction at one threshold and area range.
FALSE, TRUE, LEFT_OUT = 0, 1, 2
#: Area range that takes all objects.
ALL = (0.0, 1e10)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """The scored predictions of one image, its true objects, and the pairs that overlap.

    Attributes
    ----------
    classes, scores, areas, ranks
        Of each prediction that counts, sorted by class, then by score (best first): int32, float32, float64 pixels, and
        int32 its place in its class, from 0.
    true_classes, true_areas, true_crowd
        Of each true object: int32, float64 pixels, bool.
    starts
        int64 ``(D + 1,)``: where the pairs of each prediction begin.
    partners
        int32 ``(P,)``: positions of true objects, ascending for each prediction, of its class.
    iou
        float64 ``(P,)``; of a crowd region, the part of the prediction that lies in it.
    crowding
        The most objects that a class has on either side, predictions beyond the limit among them.
    """

    classes: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    ranks: np.ndarray
    true_classes: np.ndarray
    true_areas: np.ndarray
    true_crowd: np.ndarray
    starts: np.ndarray
    partners: np.ndarray
    iou: np.ndarray
    crowding: int


def pair_scored(
    truth: Instances,
    prediction: Instances,
    kind: Kind = "segm",
    max_det: int = 2000,
    n_classes: int = 1,
    crowd: Collection[int] = (),
) -> ScoredPairs:
    """Find the pairs of predictions and true objects of the same class that overlap.

    Parameters
    ----------
    truth, prediction
        Objects of one image.
    kind
        Whether masks or boxes are compared.
    max_det
        How many predictions of each class count.
    n_classes
        Number of classes; with 1 all objects are of one class, whatever they say.
    crowd
        Ids of true objects that are regions of many.

    Raises
    ------
    LabelError
        If the images differ in size, or a class id is above ``n_classes``.

    Examples
    --------
    >>> truth = Instances.from_labels(np.array([[1, 1, 2, 2]]))
    >>> pairs = pair_scored(truth, Instances.from_labels(np.array([[7, 7, 7, 0]])))
    >>> pairs.partners, pairs.iou
    (array([0, 1], dtype=int32), array([0.66666667, 0.25      ]))
    """
    if tuple(truth.shape) != tuple(prediction.shape):
        raise LabelError(
            "the prediction and the truth differ in size", found=tuple(prediction.shape), expected=tuple(truth.shape)
        )
    true_classes, classes = _classes(truth, n_classes), _classes(prediction, n_classes)
    # Stable, as in COCO: of equal scores the first prediction comes first.
    order = np.lexsort((-prediction.scores, classes))
    ranks = _ranks(classes[order])
    counted = ranks < max_det
    order, ranks = order[counted], ranks[counted]
    place = np.full(len(prediction), -1, np.int64)
    place[order] = np.arange(len(order))

    mask_areas, true_areas = prediction.areas(), truth.areas().astype(float)
    is_crowd = np.isin(truth.ids, list(crowd))
    if kind == "segm":
        first, second, shared = mask_overlaps(
            truth.windows, truth.bits, truth.offsets, prediction.windows, prediction.bits, prediction.offsets
        )
        sizes, true_sizes = mask_areas.astype(float), true_areas
    else:
        boxes, true_boxes = prediction.boxes.astype(float), truth.boxes.astype(float)
        first, second, shared = box_overlaps(true_boxes, boxes)
        sizes, true_sizes = _box_areas(boxes), _box_areas(true_boxes)
    kept = (place[second] >= 0) & (true_classes[first] == classes[second])
    first, second, shared = first[kept], second[kept], shared[kept]
    own = sizes[second]
    iou = shared / np.where(is_crowd[first], own, own + true_sizes[first] - shared)
    by_prediction = np.lexsort((first, place[second]))
    starts = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.bincount(place[second], minlength=len(order)), out=starts[1:])
    return ScoredPairs(
        classes[order], prediction.scores[order], sizes[order], ranks.astype(np.int32),
        true_classes, true_areas, is_crowd,
        starts, first[by_prediction].astype(np.int32), iou[by_prediction],
        max((int(np.bincount(c).max()) for c in (classes, true_classes) if len(c)), default=0),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ScoredMatches:
    """What became of every prediction of one image.

    Attributes
    ----------
    classes, scores, ranks
        As in :class:`ScoredPairs`.
    status
        uint8 ``(A, T, D)``: :data:`FALSE`, :data:`TRUE` or :data:`LEFT_OUT` for each area range, threshold and
        prediction.
    n_true
        int64 ``(A, C)``: true objects to be found, by area range and class.
    """

    classes: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    status: np.ndarray
    n_true: np.ndarray


def match_scored(
    pairs: ScoredPairs, thresholds: tuple[float, ...], ranges: Mapping[str, tuple[float, float]], n_classes: int
) -> ScoredMatches:
    """Match by COCO's rules, for objects of all areas and for each range.

    Each prediction, the best score first, takes the free true object of its class with the largest IoU, if it reaches
    the threshold; of equal IoU, the last. True objects outside the range of areas, and crowd regions, are taken only
    if no other can be; then the prediction is left out. So are predictions without a match whose own area is outside
    the range. A crowd region serves any number of predictions.
    """
    limits = np.array([ALL, *ranges.values()], float)
    outside = (pairs.true_areas < limits[:, :1]) | (pairs.true_areas > limits[:, 1:])
    ignored = outside | pairs.true_crowd
    status = _match(
        pairs.starts, pairs.partners, pairs.iou, np.array(thresholds, float), ignored, pairs.true_crowd, pairs.areas,
        limits,
    )  # fmt: skip
    n_true = np.stack([np.bincount(pairs.true_classes[~one], minlength=n_classes + 1)[1:] for one in ignored])
    return ScoredMatches(pairs.classes, pairs.scores, pairs.ranks, status, n_true)


def _classes(instances: Instances, n_classes: int) -> np.ndarray:
    if n_classes == 1:
        return np.ones(len(instances), np.int32)
    if len(instances) and instances.classes.max() > n_classes:
        raise LabelError(
            "an object has a class without a name", found=instances.classes.max(), expected=f"from 1 to {n_classes}"
        )
    return instances.classes


def _ranks(sorted_classes: np.ndarray) -> np.ndarray:
    """The place of each entry among those of its class."""
    positions = np.arange(len(sorted_classes))
    first = np.flatnonzero(np.diff(sorted_classes, prepend=-1))
    return positions - np.repeat(first, np.diff(first, append=len(sorted_classes)))


def _box_areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the pairs of boxes that overlap, and by how much.

    Parameters
    ----------
    a, b
        float64 ``(N, 4)``: ``(y0, x0, y1, x1)``.

    Returns
    -------
    tuple
        ``(index_a, index_b, area)``: int64, int64, float64; sorted by the first index, then the second.

    Examples
    --------
    >>> box_overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[5.0, 5, 6, 6], [1, 1, 3, 3]]))
    (array([0]), array([1]), array([1.]))
    """
    order = np.argsort(b[:, 0], kind="stable")
    index_a, index_b, shared = _sweep(np.ascontiguousarray(a), np.ascontiguousarray(b[order]))
    index_b = order[index_b]
    by_index = np.lexsort((index_b, index_a))
    return index_a[by_index], index_b[by_index], shared[by_index]


@njit(cache=True, nogil=True)
def _sweep(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Look at the boxes of ``b`` (sorted by their first row) that a box of ``a`` may reach; twice: count, then fill."""
    tallest = 0.0
    for j in range(len(b)):
        tallest = max(tallest, b[j, 2] - b[j, 0])
    tops = b[:, 0].copy()
    found = 0
    index_a, index_b, shared = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    for filling in range(2):
        if filling:
            index_a, index_b, shared = np.empty(found, np.int64), np.empty(found, np.int64), np.empty(found, np.float64)
            found = 0
        for i in range(len(a)):
            # One row more than needed, for what is lost when the difference is rounded.
            for j in range(np.searchsorted(tops, a[i, 0] - tallest - 1), np.searchsorted(tops, a[i, 2])):
                height = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0])
                width = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1])
                if height <= 0 or width <= 0:
                    continue
                if filling:
                    index_a[found], index_b[found], shared[found] = i, j, width * height
                found += 1
    return index_a, index_b, shared


@njit(cache=True, nogil=True)
def _match(
    starts: np.ndarray, partners: np.ndarray, iou: np.ndarray, thresholds: np.ndarray, ignored: np.ndarray,
    crowd: np.ndarray, areas: np.ndarray, limits: np.ndarray,
) -> np.ndarray:  # fmt: skip
    n_ranges, n_true = ignored.shape
    status = np.empty((n_ranges, len(thresholds), len(areas)), np.uint8)
    for a in range(n_ranges):
        for t in range(len(thresholds)):
            taken = np.zeros(n_true, np.bool_)
            for d in range(len(areas)):
                best, chosen = min(thresholds[t], 1 - 1e-10), -1
                for last_resort in (False, True):
                    if chosen >= 0:
                        break
                    for k in range(starts[d], starts[d + 1]):
                        g = partners[k]
                        if ignored[a, g] != last_resort or (taken[g] and not crowd[g]) or iou[k] < best:
                            continue
                        best, chosen = iou[k], g
                if chosen >= 0:
                    taken[chosen] = True
                    status[a, t, d] = LEFT_OUT if ignored[a, chosen] else TRUE
                else:
                    outside = areas[d] < limits[a, 0] or areas[d] > limits[a, 1]
                    status[a, t, d] = LEFT_OUT if outside else FALSE
    return status
