"""Non-maximum suppression, hard and soft, of boxes or of anything whose overlaps are known.

Hard suppression drops whatever overlaps a better one too much, and loses objects in crowds. Soft-NMS (Bodla, Singh,
Chellappa and Davis, "Soft-NMS: improving object detection with one line of code", ICCV 2017) lowers its score instead.
"""

from __future__ import annotations

import heapq
from typing import Literal, get_args

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

#: How a score falls with the overlap with a better object; see :func:`suppress`.
Decay = Literal["linear", "gaussian", "hard"]
DECAYS: tuple[Decay, ...] = get_args(Decay)


def soft_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    decay: Decay = "gaussian",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    prune: float = 0.001,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower the scores of boxes that overlap better ones.

    Parameters
    ----------
    boxes
        ``(N, 4)``: ``(y0, x0, y1, x1)`` in pixels, floats or whole numbers.
    scores
        ``(N,)``.
    classes
        Integers ``(N,)``: only boxes of the same class compete. None: all do.
    decay, iou_threshold, sigma, prune
        As for :func:`suppress`.

    Returns
    -------
    tuple
        ``(kept, scores)``: int64 positions by falling new score, and these scores, float64.

    Raises
    ------
    ValueError
        If the arrays do not fit together, or there is no such decay.

    Examples
    --------
    >>> boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]]
    >>> kept, scores = soft_nms(boxes, [0.9, 0.8, 0.7], decay="linear")
    >>> kept, scores.round(3)
    (array([0, 2, 1]), array([0.9 , 0.7 , 0.16]))
    """
    values = np.asarray(scores, np.float64).reshape(-1)
    i, j, iou = box_ious(boxes, classes)
    _check_count(boxes, values)
    return suppress(values, i, j, iou, decay=decay, iou_threshold=iou_threshold, sigma=sigma, prune=prune)


def nms(
    boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike | None = None, *, iou_threshold: float = 0.5
) -> np.ndarray:
    """Drop boxes that overlap a better one by more than the threshold.

    Parameters
    ----------
    boxes, scores, classes
        As for :func:`soft_nms`.
    iou_threshold
        Largest overlap that two boxes may have.

    Returns
    -------
    numpy.ndarray
        int64: positions of the boxes that are kept, by falling score.

    Raises
    ------
    ValueError
        If the arrays do not fit together.

    Examples
    --------
    >>> boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]]
    >>> nms(boxes, [0.7, 0.8, 0.9]), nms(boxes, [0.7, 0.8, 0.9], [1, 2, 1])
    (array([2, 1]), array([2, 1, 0]))
    """
    values = np.asarray(scores, np.float64).reshape(-1)
    i, j, iou = box_ious(boxes, classes)
    _check_count(boxes, values)
    return suppress(values, i, j, iou, decay="hard", iou_threshold=iou_threshold, prune=-np.inf)[0]


def suppress(
    scores: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    iou: np.ndarray,
    *,
    decay: Decay = "hard",
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    prune: float = 0.001,
) -> tuple[np.ndarray, np.ndarray]:
    """Take objects by falling score, and lower the scores of those left that overlap the one just taken.

    Parameters
    ----------
    scores
        float64 ``(N,)``. Of equal scores, the first is better.
    i, j, iou
        The pairs that overlap, both ways round, sorted by ``i``, and by how much; other pairs do not overlap.
    decay
        What a score is multiplied with: ``"linear"``: 1 - IoU where that is above the threshold; ``"gaussian"``:
        exp(-IoU² / sigma); ``"hard"``: nothing is left where the IoU is above the threshold.
    iou_threshold, sigma
        Of the decay.
    prune
        Objects whose score falls to this or lower are dropped.

    Returns
    -------
    tuple
        ``(kept, scores)``: int64 positions in the order in which they were taken, and their new scores, float64.

    Raises
    ------
    ValueError
        If there is no such decay, or sigma is not above 0.

    Examples
    --------
    >>> pairs = np.array([0, 1]), np.array([1, 0]), np.array([0.5, 0.5])
    >>> suppress(np.array([0.8, 0.6]), *pairs, decay="linear", iou_threshold=0.3)
    (array([0, 1]), array([0.8, 0.3]))
    """
    if decay not in DECAYS:
        raise ValueError(f"decay is one of {', '.join(DECAYS)}, not {decay}")
    if not sigma > 0:
        raise ValueError(f"sigma is a number above 0, not {sigma}")
    if decay == "linear":
        factors = np.where(iou > iou_threshold, 1 - iou, 1.0)
    elif decay == "gaussian":
        factors = np.exp(-(iou**2) / sigma)
    else:
        factors = np.where(iou > iou_threshold, 0.0, 1.0)
    begins = np.searchsorted(i, np.arange(len(scores) + 1)).astype(np.int64)
    # Nothing that is dropped by a hard decision may be taken with a score of 0.
    alive = factors > 0
    if len(scores) == 0:
        return np.zeros(0, np.int64), np.zeros(0)
    return _take_all(np.asarray(scores, np.float64), begins, np.asarray(j, np.int64), factors, alive, float(prune))


def box_ious(boxes: ArrayLike, classes: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersection over union of all pairs of different boxes that share area.

    Parameters
    ----------
    boxes, classes
        As for :func:`soft_nms`.

    Returns
    -------
    tuple
        ``(i, j, iou)``: int64, int64, float64; each pair both ways round, sorted by ``i``, then ``j``.

    Raises
    ------
    ValueError
        If there are not as many classes as boxes.

    Examples
    --------
    >>> box_ious([[0, 0, 2, 2], [0, 1, 2, 3]])[2]
    array([0.33333333, 0.33333333])
    """
    array = np.asarray(boxes, np.float64).reshape(-1, 4)
    kinds = np.zeros(len(array), np.int64) if classes is None else np.asarray(classes, np.int64).reshape(-1)
    if len(kinds) != len(array):
        raise ValueError(f"{len(array)} boxes need as many classes, not {len(kinds)}")
    order = np.argsort(array[:, 0], kind="stable")
    first, second, iou = _pairs(array[order], kinds[order])
    first, second = order[first], order[second]
    i, j, iou = np.concatenate([first, second]), np.concatenate([second, first]), np.concatenate([iou, iou])
    ranking = np.lexsort((j, i))
    return i[ranking], j[ranking], iou[ranking]


def _check_count(boxes: ArrayLike, scores: np.ndarray) -> None:
    count = np.asarray(boxes, np.float64).size // 4
    if len(scores) != count:
        raise ValueError(f"{count} boxes need as many scores, not {len(scores)}")


@njit(cache=True, nogil=True)
def _pairs(boxes: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sweep over boxes sorted by their first row."""
    room, found = max(16, 4 * len(boxes)), 0
    first, second, ious = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)
    for i in range(len(boxes)):
        area = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
        for j in range(i + 1, len(boxes)):
            if boxes[j, 0] >= boxes[i, 2]:
                break
            if classes[i] != classes[j]:
                continue
            height = min(boxes[i, 2], boxes[j, 2]) - boxes[j, 0]
            width = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if height <= 0 or width <= 0:
                continue
            if found == room:
                room *= 2
                more_first, more_second, more = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)
                more_first[:found], more_second[:found], more[:found] = first, second, ious
                first, second, ious = more_first, more_second, more
            other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
            first[found], second[found] = i, j
            ious[found] = height * width / (area + other - height * width)
            found += 1
    return first[:found].copy(), second[:found].copy(), ious[:found].copy()


@njit(cache=True, nogil=True)
def _take_all(
    scores: np.ndarray, begins: np.ndarray, others: np.ndarray, factors: np.ndarray, alive: np.ndarray, prune: float
) -> tuple[np.ndarray, np.ndarray]:
    current = scores.copy()
    done = np.zeros(len(scores), np.bool_)
    # Scores only fall: an entry that is out of date is put back with its present score when it comes up.
    queue = [(-current[k], k) for k in range(len(current))]
    heapq.heapify(queue)
    kept, found = np.empty(len(scores), np.int64), 0
    while len(queue) > 0:
        negative, k = heapq.heappop(queue)
        if done[k]:
            continue
        if -negative != current[k]:
            heapq.heappush(queue, (-current[k], k))
            continue
        done[k] = True
        if current[k] <= prune:
            continue
        kept[found] = k
        found += 1
        for place in range(begins[k], begins[k + 1]):
            other = others[place]
            if done[other]:
                continue
            if alive[place]:
                current[other] *= factors[place]
            else:
                done[other] = True
    return kept[:found].copy(), current[kept[:found]]
